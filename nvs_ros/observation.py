"""Frames of an object, and what is computed from them once for all views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.canonical import SOLID, CanonicalView, coverage
from nvs_ros.geometry.guide import Measurement
from nvs_ros.geometry.target import TargetCamera
from nvs_ros.zero123.conditioning import ImageCondition


@dataclass(frozen=True)
class Frame:
    """What a camera saw of one object.

    Attributes
    ----------
    image : (H, W, 3) uint8
        RGB.
    mask : (H, W) uint8 or bool
        Coverage by the object, 0..255. If no value reaches 128, every value above 0 is the object.
    camera : Camera
        Intrinsics and distortion of the image.
    object_from_camera : (4, 4) float
        Pose of the camera (optical frame) in the object frame (origin in the object's centre, z
        up), metres.
    object_size_m : float, optional
        Longest side of the object's bounding box; estimated from the mask when omitted.
    depth_m : (H, W) float, optional
        Metres along the optical axis (REP-118), aligned with the image.
    unknown : (H, W) bool, optional
        Pixels of other things, which may hide a part of the object.
    """

    image: np.ndarray
    mask: np.ndarray
    camera: Camera
    object_from_camera: np.ndarray
    object_size_m: float | None = None
    depth_m: np.ndarray | None = None
    unknown: np.ndarray | None = None


@dataclass(frozen=True)
class Source:
    """A frame as the network is shown it.

    Attributes
    ----------
    view : CanonicalView
        The frame warped into the camera the network was trained on.
    condition : ImageCondition
        Embedding and latent of its image.
    """

    view: CanonicalView
    condition: ImageCondition


@dataclass(frozen=True)
class Observation:
    """Frames of one object as the network sees them, computed once for all views of it.

    Attributes
    ----------
    source : CanonicalView
        Of the first frame: viewpoints are relative to it.
    condition : ImageCondition
        Of the first frame.
    measurement : Measurement
        What all frames together say of the object's shape, from depth and masks.
    further : tuple of Source
        The other frames, in the object frame of the first.
    """

    source: CanonicalView
    condition: ImageCondition
    measurement: Measurement
    further: tuple[Source, ...] = ()

    @property
    def sources(self) -> tuple[Source, ...]:
        """All frames, the first one first."""
        return (Source(self.source, self.condition), *self.further)

    def nearest(self, target: TargetCamera) -> int:
        """Index in :attr:`sources` of the camera nearest to a target, by angle about the object."""
        asked = target.object_from_camera[:3, 3]
        stand = np.stack([source.view.object_from_camera[:3, 3] for source in self.sources])
        return int(np.argmax(stand @ asked / np.linalg.norm(stand, axis=1)))


def measurement_of(frames: Sequence[Frame | CanonicalView], unit_m: float) -> Measurement:
    """What frames of one object say of its shape; computed from the images as they were taken.

    Parameters
    ----------
    frames : sequence of Frame or CanonicalView
        One or more, all in one object frame.
    unit_m : float
        Longest side of the object's bounding box.

    Raises
    ------
    ValueError
        There is no frame, or depth or ``unknown`` of a frame has another shape than its mask.
    """
    return Measurement.joined([_measurement(frame, unit_m) for frame in frames])


def _measurement(frame: Frame | CanonicalView, unit_m: float) -> Measurement:
    depth_m = unknown = None
    if isinstance(frame, Frame):
        depth_m, unknown = frame.depth_m, frame.unknown
    solid = coverage(np.asarray(frame.mask)) >= SOLID
    return Measurement.of_picture(
        frame.image, solid, frame.camera, frame.object_from_camera, unit_m, depth_m, unknown
    )
