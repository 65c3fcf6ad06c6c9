"""What a camera saw of an object, and what is computed of it once for all views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.canonical import SOLID, CanonicalView, coverage
from nvs_ros.geometry.guide import Measurement
from nvs_ros.zero123.conditioning import ImageCondition


@dataclass(frozen=True)
class Frame:
    """What a camera saw of one object.

    Attributes
    ----------
    image : (H, W, 3) uint8
        RGB.
    mask : (H, W) uint8 or bool
        Coverage by the object, 0..255; where nothing reaches 128, above 0 is the object.
    camera : Camera
        Intrinsics of the picture.
    object_from_camera : (4, 4) float
        Pose of the camera (optical frame) in the object frame (origin in the object's centre, z
        up), metres.
    object_size_m : float, optional
        Longest side of the object's bounding box; estimated from the mask when omitted.
    depth_m : (H, W) float, optional
        Metres along the optical axis (REP-118), aligned with the picture.
    """

    image: np.ndarray
    mask: np.ndarray
    camera: Camera
    object_from_camera: np.ndarray
    object_size_m: float | None = None
    depth_m: np.ndarray | None = None


@dataclass(frozen=True)
class Observation:
    """A frame as the network sees it, computed once for all views of it.

    Attributes
    ----------
    source : CanonicalView
    condition : ImageCondition
    measurement : Measurement
        What the frame says of the object's shape: by its depth, or by its mask alone.
    """

    source: CanonicalView
    condition: ImageCondition
    measurement: Measurement


def measurement_of(frame: Frame | CanonicalView, source: CanonicalView) -> Measurement:
    """What a frame says of the object's shape, as it was taken."""
    unit = source.unit_m
    if isinstance(frame, CanonicalView):
        solid = frame.mask >= SOLID
        pose = frame.object_from_camera
        return Measurement.of_picture(frame.image, solid, frame.camera, pose, unit)
    solid = coverage(np.asarray(frame.mask)) >= SOLID
    return Measurement.of_picture(
        frame.image, solid, frame.camera, frame.object_from_camera, unit, frame.depth_m
    )
