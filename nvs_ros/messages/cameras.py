"""Cameras and poses between ROS messages and :mod:`nvs_ros.geometry`."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from nvs_ros.geometry import (
    Camera,
    camera_from_info,
    frame_from_camera,
    info_from_camera,
    quaternion_from_rigid,
    rigid_from_quaternion,
)


def camera_from_message(message: CameraInfo, rectified: bool = False) -> Camera:
    """The camera of the picture that comes with a ``CameraInfo``.

    Raises
    ------
    ValueError
        Not calibrated, or numbers that no camera has.
    """
    roi = message.roi
    return camera_from_info(
        message.width,
        message.height,
        message.k,
        message.d,
        message.distortion_model,
        message.r,
        message.p,
        message.binning_x,
        message.binning_y,
        (roi.x_offset, roi.y_offset, roi.width, roi.height),
        rectified=rectified,
    )


def frame_from_camera_message(message: CameraInfo, rectified: bool = False) -> np.ndarray:
    """``frame_from_camera`` (4, 4): where the camera stands in the frame of its messages."""
    return frame_from_camera(message.r, message.p, rectified=rectified)


def asked_camera(message: CameraInfo) -> Camera | None:
    """Camera that a request asks for; None when all of size, k and d are zero.

    Raises
    ------
    ValueError
        A part of it is missing or no camera has these numbers.
    """
    if not (message.width or message.height or any(message.k) or any(message.d)):
        return None
    return camera_from_info(
        message.width, message.height, message.k, message.d, message.distortion_model
    )


def message_from_camera(camera: Camera, header: Header) -> CameraInfo:
    """``CameraInfo`` of a picture."""
    return CameraInfo(header=header, **info_from_camera(camera))


def rigid_from_pose(pose: Pose, name: str) -> np.ndarray:
    """4x4 of a pose.

    Parameters
    ----------
    pose : geometry_msgs.msg.Pose
    name : str
        What to call it in the error.

    Raises
    ------
    ValueError
        Not finite, or the quaternion is not of unit length.
    """
    position, rotation = pose.position, pose.orientation
    return rigid_from_quaternion(
        (position.x, position.y, position.z),
        (rotation.x, rotation.y, rotation.z, rotation.w),
        name,
    )


def pose_from_rigid(transform: np.ndarray) -> Pose:
    """Pose of a 4x4."""
    x, y, z = transform[:3, 3].tolist()
    qx, qy, qz, qw = quaternion_from_rigid(transform).tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))
