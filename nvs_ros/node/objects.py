"""The objects of a frame, from a pose or from detections: the one place that knows vision_msgs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import (
    Point,
    Pose,
    PoseStamped,
    PoseWithCovarianceStamped,
    TransformStamped,
)

from nvs_ros.node.cameras import rigid_from_pose
from nvs_ros.settings import ObjectSettings

try:
    from vision_msgs.msg import Detection3DArray
except ImportError:  # not on PyPI; ros-<distribution>-vision-msgs on a robot
    Detection3DArray = None

POSE_TYPES = (PoseStamped, PoseWithCovarianceStamped, TransformStamped)
"""What may say the pose of the one object."""
MAX_OBJECTS = 100
"""Detections of one frame that are looked at."""


@dataclass(frozen=True)
class SeenObject:
    """An object as somebody detected it.

    Parameters
    ----------
    id : str
        ``''`` for the only one.
    frame_id : str
        Frame of the pose.
    pose : (4, 4) float64
        Of the centre of its bounding box in that frame, metres.
    size_m : float or None
        Longest side of its bounding box.
    label : int
        Its value in a label image; 0: every value above 0.
    """

    id: str
    frame_id: str
    pose: np.ndarray
    size_m: float | None
    label: int


def detections_type() -> type:
    """``vision_msgs/Detection3DArray``.

    Raises
    ------
    ValueError
        vision_msgs is not installed.
    """
    if Detection3DArray is None:
        raise ValueError('input.objects is detections, but vision_msgs is not installed')
    return Detection3DArray


def check_objects(message: Any) -> None:
    """Check poses and sizes of a message.

    Raises
    ------
    ValueError
        What is wrong with which object.
    """
    seen_objects(message, ObjectSettings())


def seen_objects(message: Any, settings: ObjectSettings) -> list[SeenObject]:
    """The objects of a message, of which the settings may choose one.

    Parameters
    ----------
    message : one of POSE_TYPES or vision_msgs.msg.Detection3DArray
        A transform is that of its child, which is the object; the covariance of a pose is not
        looked at. Of a detection the box counts; its ``id`` is the label in a label image if it is
        a number.
    settings : ObjectSettings

    Raises
    ------
    ValueError
        No pose, no object, or not the one that is configured.
    """
    frame_id = message.header.frame_id
    size_m = settings.diameter_m or None
    if isinstance(message, POSE_TYPES):
        pose = rigid_from_pose(_pose(message), 'object_pose')
        return [SeenObject('', frame_id, pose, size_m, settings.label)]
    detections = message.detections
    if not 1 <= len(detections) <= MAX_OBJECTS:
        raise ValueError(f'expected 1 to {MAX_OBJECTS} detections, got {len(detections)}')
    objects = []
    for index, detection in enumerate(detections):
        identity = detection.id or str(index + 1)
        if settings.id in ('', identity):
            box = detection.bbox
            pose = rigid_from_pose(box.center, f'detection {identity!r}')
            sides = (box.size.x, box.size.y, box.size.z)
            if not all(0 <= side < np.inf for side in sides):
                raise ValueError(f'detection {identity!r}: expected a size in metres, got {sides}')
            label = int(identity) if identity.isdecimal() and len(identity) < 10 else settings.label
            objects.append(
                SeenObject(identity, frame_id, pose, size_m or max(sides) or None, label)
            )
    if not objects:
        raise ValueError(f'object.id: expected {settings.id!r} among the detections, got none')
    return objects


def _pose(message: Any) -> Pose:
    """The pose in one of :data:`POSE_TYPES`."""
    if isinstance(message, TransformStamped):
        shift = message.transform.translation
        position = Point(x=shift.x, y=shift.y, z=shift.z)
        return Pose(position=position, orientation=message.transform.rotation)
    return message.pose if isinstance(message, PoseStamped) else message.pose.pose
