"""The objects of a frame, from a pose or from detections: the one place that knows vision_msgs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from geometry_msgs.msg import (
    Point,
    Pose,
    PoseStamped,
    PoseWithCovarianceStamped,
    TransformStamped,
)
from std_msgs.msg import Header

from nvs_ros.messages.cameras import rigid_from_pose
from nvs_ros.settings import ObjectSettings

try:
    from vision_msgs.msg import Detection3DArray
except ImportError:  # not on PyPI; ros-<distribution>-vision-msgs on a robot
    Detection3DArray = None

POSE_TYPES = (PoseStamped, PoseWithCovarianceStamped, TransformStamped)
"""What may say the pose of the one object."""
MAX_OBJECTS = 100
"""Detections of one frame that are looked at."""
SAME_TIME_S = 1e-3
"""Stamps less apart are taken for one: some have been seconds in floating point."""


class Other(NamedTuple):
    """What is known of an object beside the one that is asked for."""

    id: str
    label: int
    pose: np.ndarray | None
    """None: malformed."""
    is_used: bool
    """Whether views of it are wanted too."""


@dataclass(frozen=True)
class SeenObject:
    """An object as somebody detected it.

    Parameters
    ----------
    id : str
        ``''`` for the only one.
    frame_id : str
        Frame of the pose.
    pose : (4, 4) float64 or None
        Of the centre of its bounding box in that frame, metres; None: mask and depth have to say.
    size_m : float or None
        Longest side of its bounding box.
    label : int
        Its value in a label image; 0: every value above 0.
    others : tuple of Other
        The other objects of the message, also those that cannot be used or are not asked for.
    assumptions : tuple of str
        What of this was not measured, in sentences for a person.
    """

    id: str
    frame_id: str
    pose: np.ndarray | None
    size_m: float | None
    label: int
    others: tuple[Other, ...] = ()
    assumptions: tuple[str, ...] = ()

    def unseparated(self, has_labels: bool) -> tuple[Other, ...]:
        """The other objects that a mask does not tell from this one."""
        return tuple(
            other for other in self.others if not has_labels or self.label in (0, other.label)
        )


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


def leave_out(identity: str, error: Exception) -> None:
    """Say nothing of an object that cannot be used."""


def seen_objects(
    message: Any,
    settings: ObjectSettings,
    on_left_out: Callable[[str, Exception], None] = leave_out,
) -> list[SeenObject]:
    """The objects of a message, of which the settings may choose one.

    Parameters
    ----------
    message : one of POSE_TYPES or vision_msgs.msg.Detection3DArray
        A transform is that of its child, which is the object; the covariance of a pose is not
        looked at. Of a detection the box counts, in the frame of the message; its ``id`` is the
        label in a label image if it is a number.
    settings : ObjectSettings
    on_left_out : callable
        Takes the id of a detection that is malformed, and the error; the others are not to blame.

    Raises
    ------
    ValueError
        No pose, no object, not the one that is configured, or all of them are malformed.
    """
    header = message.header
    if isinstance(message, POSE_TYPES):
        pose = rigid_from_pose(_pose(message), 'object_pose')
        diameter_m = settings.diameter_m or None
        return [SeenObject('', header.frame_id, pose, diameter_m, settings.label)]
    detections = message.detections
    if not 1 <= len(detections) <= MAX_OBJECTS:
        raise ValueError(f'expected 1 to {MAX_OBJECTS} detections, got {len(detections)}')
    named = [(detection.id or str(i + 1), detection) for i, detection in enumerate(detections)]
    objects, errors = [], {}
    for identity, detection in named:
        try:
            objects.append(_seen_object(header, identity, detection, settings))
        except ValueError as error:
            objects.append(None)
            errors[identity] = error
    others = [
        Other(
            identity,
            _label(identity, settings),
            seen.pose if seen else None,
            settings.id in ('', identity),
        )
        for (identity, _), seen in zip(named, objects, strict=True)
    ]
    wanted = {
        identity: error for identity, error in errors.items() if settings.id in ('', identity)
    }
    chosen = [
        replace(seen, others=(*others[:i], *others[i + 1 :]))
        for i, seen in enumerate(objects)
        if seen is not None and others[i].is_used
    ]
    if not chosen:
        raise next(iter(wanted.values()), None) or ValueError(
            f'object.id: expected {settings.id!r} among the detections, got none'
        )
    for identity, error in wanted.items():
        on_left_out(identity, error)
    return chosen


def _seen_object(
    header: Header, identity: str, detection: Any, settings: ObjectSettings
) -> SeenObject:
    _check_header(header, identity, detection.header)
    box = detection.bbox
    pose = rigid_from_pose(box.center, f'detection {identity!r}')
    sides = (box.size.x, box.size.y, box.size.z)
    if not all(0 <= side < np.inf for side in sides):
        raise ValueError(f'detection {identity!r}: expected a size in metres, got {sides}')
    size_m = settings.diameter_m or max(sides) or None
    return SeenObject(identity, header.frame_id, pose, size_m, _label(identity, settings))


def _check_header(common: Header, identity: str, own: Header) -> None:
    """Refuse a detection that has another frame or time than its message, which counts for all."""
    if own.frame_id and own.frame_id.lstrip('/') != common.frame_id.lstrip('/'):
        raise ValueError(
            f'detection {identity!r}: expected frame {common.frame_id!r} of all detections, or '
            f'none of its own, got {own.frame_id!r}'
        )
    own_s, common_s = (header.stamp.sec + 1e-9 * header.stamp.nanosec for header in (own, common))
    if own_s and abs(own_s - common_s) > SAME_TIME_S:
        raise ValueError(
            f'detection {identity!r}: expected the stamp of all detections, {common_s} s, or none '
            f'of its own, got {own_s} s'
        )


def _label(identity: str, settings: ObjectSettings) -> int:
    return int(identity) if identity.isdecimal() and len(identity) < 10 else settings.label


def _pose(message: Any) -> Pose:
    """The pose in one of :data:`POSE_TYPES`."""
    if isinstance(message, TransformStamped):
        shift = message.transform.translation
        position = Point(x=shift.x, y=shift.y, z=shift.z)
        return Pose(position=position, orientation=message.transform.rotation)
    return message.pose if isinstance(message, PoseStamped) else message.pose.pose
