"""What the synthesizer makes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.spherical import RelativePose


@dataclass(frozen=True)
class View:
    """A synthesised image and the camera that would have taken it.

    Attributes
    ----------
    image : (H, W, 3) uint8
        RGB on white, as the asked camera would see it.
    mask : (H, W) uint8
        Coverage by the object, 0..255.
    measured : (H, W) uint8
        Share of each pixel that was measured, 0..255; all else is imagined.
    camera : Camera
    object_from_camera : (4, 4) float64
        Pose of the virtual camera (optical frame) in the object frame, metres.
    relative : RelativePose
        From the camera of the (first) frame.
    seed : int
    model_id : str
    warnings : tuple of str
        What makes this view less trustworthy than others.
    """

    image: np.ndarray
    mask: np.ndarray
    measured: np.ndarray
    camera: Camera
    object_from_camera: np.ndarray
    relative: RelativePose
    seed: int
    model_id: str
    warnings: tuple[str, ...]

    @property
    def measured_share(self) -> float:
        """Share of the object in the image that was measured, 0 ... 1."""
        return float(self.measured.sum() / max(int(self.mask.sum()), 1))
