"""Earlier frames of objects that stood still, which show sides that the present frame does not."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from nvs_ros.geometry import inverse
from nvs_ros.messages.frames import SourceFrame
from nvs_ros.settings import MemorySettings
from nvs_ros.synthesizer import Frame


@dataclass(frozen=True, eq=False)
class _Kept:
    """A frame of an object, and the poses of camera and object in the fixed frame at that time."""

    frame: Frame
    fixed_from_camera: np.ndarray
    fixed_from_upright: np.ndarray

    def from_frame_of(self, upright: np.ndarray) -> Frame:
        """This frame in another object frame, given by its pose ``fixed_from_upright`` (4, 4)."""
        pose = inverse(upright) @ self.fixed_from_camera
        return dataclasses.replace(self.frame, object_from_camera=pose)


class Memory:
    """Frames of each object from different sides; thread-safe.

    Two frames are aligned by the motion of the camera in the fixed frame. The pose of the object in
    each is only used to check that it stood still.
    """

    def __init__(self) -> None:
        self._objects: OrderedDict[str, list[_Kept]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Number of remembered frames of all objects."""
        with self._lock:
            return sum(map(len, self._objects.values()))

    def forget(self, object_id: str | None = None) -> int:
        """Forget one object, or all of them; return the number of forgotten frames."""
        with self._lock:
            chosen = list(self._objects) if object_id is None else [object_id]
            return sum(len(self._objects.pop(one, ())) for one in chosen)

    def joined(self, source: SourceFrame, settings: MemorySettings) -> SourceFrame:
        """Add the remembered frames of the object to a frame, and perhaps remember the frame too.

        Parameters
        ----------
        source : SourceFrame
            Returned unchanged and not remembered if its ``fixed_from_upright`` is None.
        settings : MemorySettings
        """
        upright = source.fixed_from_upright
        if not settings.frames or upright is None:
            return source
        own = _Kept(source.measured, upright @ source.measured.object_from_camera, upright)
        with self._lock:
            kept = [k for k in self._objects.pop(source.object_id, []) if _still(k, own, settings)]
            self._objects[source.object_id] = kept
            while len(self._objects) > settings.objects:
                self._objects.popitem(last=False)
            elsewhere = [k for k in kept if _angle_deg(k, own) >= settings.least_angle_deg]
            if len(elsewhere) == len(kept):
                kept.append(own)
            while len(kept) > settings.frames:
                del kept[_most_like_another(kept)]
        remembered = tuple(k.from_frame_of(upright) for k in elsewhere)
        return dataclasses.replace(source, remembered=remembered)


def _still(kept: _Kept, now: _Kept, settings: MemorySettings) -> bool:
    """Whether the object has not moved in the fixed frame between the two frames."""
    change = inverse(kept.fixed_from_upright) @ now.fixed_from_upright
    turned = Rotation.from_matrix(change[:3, :3]).magnitude()
    return (
        float(np.linalg.norm(change[:3, 3])) <= settings.still_m
        and np.degrees(turned) <= settings.still_deg
    )


def _angle_deg(one: _Kept, other: _Kept) -> float:
    """Angle between the directions from the object to the two cameras, degrees."""
    directions = [
        k.fixed_from_camera[:3, 3] - other.fixed_from_upright[:3, 3] for k in (one, other)
    ]
    a, b = (d / np.linalg.norm(d) for d in directions)
    return float(np.degrees(np.arccos(np.clip(a @ b, -1, 1))))


def _most_like_another(kept: list[_Kept]) -> int:
    """Index of the frame with the smallest angle to another one; the older one of the two."""
    nearest = [
        min(_angle_deg(one, other) for other in kept if other is not one) if len(kept) > 1 else 0.0
        for one in kept
    ]
    return int(np.argmin(nearest))
