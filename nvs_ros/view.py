"""The result of the synthesizer: a view with its camera and provenance."""

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
        RGB on white, as the requested camera would see it.
    mask : (H, W) uint8
        Coverage by the object, 0..255.
    measured : (H, W) uint8
        Share of each pixel that was measured, 0..255; the rest is imagined by the network.
    camera : Camera
        The requested intrinsics and distortion.
    object_from_camera : (4, 4) float64
        Pose of the virtual camera (optical frame) in the object frame, metres.
    relative : RelativePose
        Of this camera relative to that of the first frame.
    seed : int
    model_id : str
        Which weights made the view.
    warnings : tuple of str
        Why this view may be less reliable than others, in sentences for a person.
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
        """Measured share of the object's pixels in this view, 0 ... 1."""
        return float(self.measured.sum() / max(int(self.mask.sum()), 1))
