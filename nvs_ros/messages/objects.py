"""The objects of a frame, from a pose or detections; the only module that imports vision_msgs."""

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

from nvs_ros.errors import OverLimit
from nvs_ros.messages.cameras import rigid_from_pose
from nvs_ros.settings import LimitSettings, ObjectSettings

try:
    from vision_msgs.msg import Detection3DArray
except ImportError:  # not on PyPI; ros-<distribution>-vision-msgs on a robot
    Detection3DArray = None

POSE_TYPES = (PoseStamped, PoseWithCovarianceStamped, TransformStamped)
"""Message types of the topic ``object_pose``."""
SAME_TIME_S = 1e-3
"""Stamps that differ by less count as equal: some were seconds in floating point before."""


class Other(NamedTuple):
    """Another object in the same message."""

    id: str
    label: int
    pose: np.ndarray | None
    """(4, 4) as in :class:`SeenObject`; None if the detection is malformed."""
    is_used: bool
    """Whether ``object.id`` selects it too."""


@dataclass(frozen=True)
class SeenObject:
    """An object as it was detected.

    Parameters
    ----------
    id : str
        ``''`` for the only object of a pose topic or of a binary mask.
    frame_id : str
        Frame of the pose.
    pose : (4, 4) float64 or None
        ``frame_from_object`` of the centre of its bounding box, metres; None: not yet estimated
        from mask and depth.
    size_m : float or None
        Longest side of its bounding box; None: not known.
    label : int
        Its value in a label image; 0: every value above 0.
    others : tuple of Other
        The other objects of the message, including malformed ones and those not selected.
    assumptions : tuple of str
        What was assumed instead of measured, in sentences for a person.
    """

    id: str
    frame_id: str
    pose: np.ndarray | None
    size_m: float | None
    label: int
    others: tuple[Other, ...] = ()
    assumptions: tuple[str, ...] = ()

    def unseparated(self, has_labels: bool) -> tuple[Other, ...]:
        """The other objects that have the same mask as this one."""
        return tuple(
            other for other in self.others if not has_labels or self.label in (0, other.label)
        )


def detections_type() -> type:
    """The class ``vision_msgs.msg.Detection3DArray``.

    Raises
    ------
    ValueError
        vision_msgs is not installed.
    """
    if Detection3DArray is None:
        raise ValueError('input.objects is detections, but vision_msgs is not installed')
    return Detection3DArray


def check_objects(message: Any, most: int = LimitSettings.objects) -> None:
    """Check poses and sizes of a message.

    Parameters
    ----------
    message : one of POSE_TYPES or vision_msgs.msg.Detection3DArray
    most : int
        The setting ``limits.objects``.

    Raises
    ------
    OverLimit
        There are too many objects.
    ValueError
        There is no object, or all of them are malformed.
    """
    detections = getattr(message, 'detections', ())
    if len(detections) > most:
        raise OverLimit(
            f'expected at most {most} detections (limits.objects), got {len(detections)}'
        )
    seen_objects(message, ObjectSettings())


def leave_out(identity: str, error: Exception) -> None:
    """Ignore an object that cannot be used (default of ``on_left_out``)."""


def seen_objects(
    message: Any,
    settings: ObjectSettings,
    on_left_out: Callable[[str, Exception], None] = leave_out,
) -> list[SeenObject]:
    """The objects of a message that the settings select.

    Parameters
    ----------
    message : one of POSE_TYPES or vision_msgs.msg.Detection3DArray
        The child frame of a transform is the object. The covariance of a pose is ignored. Of a
        detection the bounding box is used, in the frame of the message; its ``id``, if it is a
        number, is the object's label in a label image.
    settings : ObjectSettings
    on_left_out : callable
        Called with the id of a selected detection that is malformed, and the error.

    Raises
    ------
    ValueError
        The pose is malformed, there is no detection, the selected one is missing, or all selected
        ones are malformed.
    """
    header = message.header
    if isinstance(message, POSE_TYPES):
        pose = rigid_from_pose(_pose(message), 'object_pose')
        diameter_m = settings.diameter_m or None
        return [SeenObject('', header.frame_id, pose, diameter_m, settings.label)]
    detections = message.detections
    if not detections:
        raise ValueError('expected a detection or more, got none')
    named = [(detection.id or str(i + 1), detection) for i, detection in enumerate(detections)]
    objects: list[SeenObject | None] = []
    errors: dict[str, ValueError] = {}
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
    for identity, problem in wanted.items():
        on_left_out(identity, problem)
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
    """Refuse a detection whose own header has another frame or stamp than the whole message."""
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
