"""From the messages of a frame to what the synthesizer observes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from nvs_ros.geometry import CanonicalView, canonical_view, inverse, upright_frame
from nvs_ros.node.cameras import (
    camera_from_message,
    frame_from_camera_message,
    rigid_from_pose,
)
from nvs_ros.node.conversions import (
    check_image,
    depth_from_image,
    mask_from_compressed,
    mask_from_image,
    rgb_from_compressed,
    rgb_from_image,
)
from nvs_ros.node.intake import FrameMessages
from nvs_ros.node.parameters import Configuration
from nvs_ros.node.transforms import Transforms


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """One object in one frame.

    Parameters
    ----------
    header : std_msgs.msg.Header
        Of the image; its ``frame_id`` is "frame" below.
    stamp_ns : int
        The stamp of ``header``.
    object_id : str
        ``''`` when there is only one object.
    canonical : CanonicalView
        What the network is shown; its object frame is "upright" below.
    frame_from_object : (4, 4) float64
        Pose of the object as it was measured, metres.
    frame_from_upright : (4, 4) float64
        The same centre with z up: the frame in which viewpoints are counted.
    """

    header: Header
    stamp_ns: int
    object_id: str
    canonical: CanonicalView
    frame_from_object: np.ndarray
    frame_from_upright: np.ndarray


def stamp_ns(header: Header) -> int:
    """Stamp in nanoseconds; negative ones too, which rclpy's Time refuses."""
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def check_message(message: Any, rectified: bool = False) -> None:
    """Check what can be seen without looking at pixels or at other messages.

    Raises
    ------
    ValueError
        The message cannot be part of any frame.
    """
    if isinstance(message, Image):
        check_image(message)
    elif isinstance(message, CompressedImage):
        if not message.data:
            raise ValueError('expected compressed data, got none')
    elif isinstance(message, CameraInfo):
        camera_from_message(message, rectified)
    elif isinstance(message, PoseStamped):
        rigid_from_pose(message.pose, 'object_pose')


def source_frame(
    frame: FrameMessages,
    configuration: Configuration,
    transforms: Transforms,
    image_size: int,
) -> SourceFrame:
    """Convert a frame and turn it into the canonical view.

    Parameters
    ----------
    frame : FrameMessages
        With ``image``, ``camera_info``, ``mask``, ``object_pose`` and perhaps ``depth``.
    configuration : Configuration
    transforms : Transforms
    image_size : int
        Side of the network's picture in pixels.

    Raises
    ------
    ValueError
        What is wrong with the frame; :class:`UnknownTransform` when a frame is not connected.
    """
    messages = frame.messages
    image, info, pose = messages['image'], messages['camera_info'], messages['object_pose']
    settings = configuration.object
    frame_id = image.header.frame_id
    frame_from_pose = transforms.lookup(frame_id, pose.header.frame_id, frame.stamp_ns)
    frame_from_object = frame_from_pose @ rigid_from_pose(pose.pose, 'object_pose')
    frame_from_upright = frame_from_object
    if configuration.node.reference_frame:
        frame_from_reference = transforms.lookup(
            frame_id, configuration.node.reference_frame, frame.stamp_ns
        )
        frame_from_upright = frame_from_reference @ upright_frame(
            inverse(frame_from_reference) @ frame_from_object
        )
    rectified = configuration.input.rectified
    depth = messages.get('depth')
    canonical = canonical_view(
        picture(image),
        mask(messages['mask'], settings.label),
        camera_from_message(info, rectified),
        inverse(frame_from_upright) @ frame_from_camera_message(info, rectified),
        object_size_m=settings.diameter_m or None,
        depth_m=None if depth is None else depth_from_image(depth),
        image_size=image_size,
    )
    return SourceFrame(
        image.header, frame.stamp_ns, '', canonical, frame_from_object, frame_from_upright
    )


def picture(message: Image | CompressedImage) -> np.ndarray:
    """RGB (height, width, 3) uint8."""
    if isinstance(message, CompressedImage):
        return rgb_from_compressed(message)
    return rgb_from_image(message)


def mask(message: Image | CompressedImage, label: int) -> np.ndarray:
    """Mask (height, width) uint8, 255 on the object."""
    if isinstance(message, CompressedImage):
        return mask_from_compressed(message, label)
    return mask_from_image(message, label)
