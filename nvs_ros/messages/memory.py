"""Earlier frames of objects that stood still, for views of what the present one does not see."""

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

MOST_OBJECTS = 32
"""Those not seen for longest are forgotten first."""


@dataclass(frozen=True, eq=False)
class _Kept:
    """A frame of an object, and where in the fixed frame camera and object were."""

    frame: Frame
    fixed_from_camera: np.ndarray
    fixed_from_upright: np.ndarray

    def from_frame_of(self, upright: np.ndarray) -> Frame:
        """The frame in the object frame whose pose in the fixed frame is given."""
        pose = inverse(upright) @ self.fixed_from_camera
        return dataclasses.replace(self.frame, object_from_camera=pose)


class Memory:
    """Frames of each object from different sides; safe to use from any thread.

    What joins two frames is how the camera moved in the fixed frame. The pose of the object in each
    says only whether it stood still.
    """

    def __init__(self) -> None:
        self._objects: OrderedDict[str, list[_Kept]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Frames remembered, of all objects."""
        with self._lock:
            return sum(map(len, self._objects.values()))

    def forget(self, object_id: str | None = None) -> int:
        """Forget an object, or everything; return how many frames that were."""
        with self._lock:
            chosen = list(self._objects) if object_id is None else [object_id]
            return sum(len(self._objects.pop(one, ())) for one in chosen)

    def joined(self, source: SourceFrame, settings: MemorySettings) -> SourceFrame:
        """A frame of an object with what is remembered of it; the frame may be remembered itself.

        Parameters
        ----------
        source : SourceFrame
            Of a known place in the fixed frame; else nothing is remembered.
        settings : MemorySettings
        """
        upright = source.fixed_from_upright
        if not settings.frames or upright is None:
            return source
        own = _Kept(source.measured, upright @ source.measured.object_from_camera, upright)
        with self._lock:
            kept = [k for k in self._objects.pop(source.object_id, []) if _still(k, own, settings)]
            self._objects[source.object_id] = kept
            while len(self._objects) > MOST_OBJECTS:
                self._objects.popitem(last=False)
            elsewhere = [k for k in kept if _angle_deg(k, own) >= settings.least_angle_deg]
            if len(elsewhere) == len(kept):
                kept.append(own)
            while len(kept) > settings.frames:
                del kept[_most_like_another(kept)]
        remembered = tuple(k.from_frame_of(upright) for k in elsewhere)
        return dataclasses.replace(source, remembered=remembered)


def _still(kept: _Kept, now: _Kept, settings: MemorySettings) -> bool:
    """Whether the object has stood still in the fixed frame since."""
    change = inverse(kept.fixed_from_upright) @ now.fixed_from_upright
    turned = Rotation.from_matrix(change[:3, :3]).magnitude()
    return (
        float(np.linalg.norm(change[:3, 3])) <= settings.still_m
        and np.degrees(turned) <= settings.still_deg
    )


def _angle_deg(one: _Kept, other: _Kept) -> float:
    """Angle between the two cameras as the object sees them."""
    directions = [
        k.fixed_from_camera[:3, 3] - other.fixed_from_upright[:3, 3] for k in (one, other)
    ]
    a, b = (d / np.linalg.norm(d) for d in directions)
    return float(np.degrees(np.arccos(np.clip(a @ b, -1, 1))))


def _most_like_another(kept: list[_Kept]) -> int:
    """Index of the frame that another one replaces best, the older one of two."""
    nearest = [
        min(_angle_deg(one, other) for other in kept if other is not one) if len(kept) > 1 else 0.0
        for one in kept
    ]
    return int(np.argmin(nearest))
