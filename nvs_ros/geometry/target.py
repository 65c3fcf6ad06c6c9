"""Requested cameras, and the warp of the network's image into them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.canonical import CanonicalView, TrainedRange, touches_edge
from nvs_ros.geometry.resample import middle_rays, minification, redraw
from nvs_ros.geometry.rigid import check_rigid, rigid
from nvs_ros.geometry.spherical import (
    POLE_RAD,
    RelativePose,
    Spherical,
    canonical_pose,
    relative_pose,
    spherical_from_pose,
    wrap_angle,
)

MAX_PIXELS = 4096 * 4096
"""Most pixels of a requested camera."""


class Viewpoint(NamedTuple):
    """A viewpoint relative to that of the source, as :func:`target_from_angles` takes it."""

    azimuth_rad: float
    elevation_rad: float
    distance_m: float


@dataclass(frozen=True, eq=False)
class TargetCamera:
    """A requested camera, and the canonical camera at the same place that the network draws for.

    Parameters
    ----------
    camera : Camera
        Requested intrinsics and distortion.
    object_from_camera : ndarray (4, 4)
        Requested pose, metres.
    canonical_camera : Camera
        Of the image that the network makes.
    object_from_canonical : ndarray (4, 4)
        Same position, but looking at the object's centre and level.
    relative : RelativePose
        Pose relative to the source, as the network takes it.
    warnings : tuple of str
        Why the view may be unreliable, in sentences for a person.
    """

    camera: Camera
    object_from_camera: NDArray[np.float64]
    canonical_camera: Camera
    object_from_canonical: NDArray[np.float64]
    relative: RelativePose
    warnings: tuple[str, ...] = ()

    def warp_back(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Warp the network's image into the requested camera: roll, aim, intrinsics, distortion.

        Parameters
        ----------
        image : uint8 (S, S, 3)
            RGB on white, of ``canonical_camera``.
        mask : uint8 (S, S)
            Coverage 0 ... 255.

        Returns
        -------
        image : uint8 (H, W, 3)
            White where the network's image does not reach.
        mask : uint8 (H, W)
            0 where the network's image does not reach.

        Raises
        ------
        ValueError
            Wrong shapes or types.
        """
        shape = (self.canonical_camera.height, self.canonical_camera.width)
        for name, array, expected in (('image', image, (*shape, 3)), ('mask', mask, shape)):
            if array.dtype != np.uint8 or array.shape != expected:
                raise ValueError(
                    f'{name}: expected uint8 {expected}, got {array.dtype} {array.shape}'
                )
        canonical_from_camera = (
            self.object_from_canonical[:3, :3].T @ self.object_from_camera[:3, :3]
        )
        level = np.allclose(canonical_from_camera, np.eye(3), rtol=0, atol=1e-9)
        if level and self.camera is self.canonical_camera:
            return image.copy(), mask.copy()
        rays = middle_rays(self.canonical_camera) @ canonical_from_camera
        ratio = minification(self.canonical_camera, self.camera, canonical_from_camera, rays)
        drawn = redraw(
            np.dstack([image, mask]),
            self.canonical_camera,
            self.camera,
            canonical_from_camera,
            ratio,
        )
        return drawn[..., :3].copy(), drawn[..., 3].copy()

    def relative_to(self, source: CanonicalView) -> TargetCamera:
        """The same requested camera, relative to another source.

        Parameters
        ----------
        source : CanonicalView
            In the same object frame.

        Raises
        ------
        ValueError
            As for :func:`target_from_pose`.
        """
        return target_from_pose(source, self.camera, self.object_from_camera)

    def picture_warnings(self, mask: NDArray[np.uint8]) -> tuple[str, ...]:
        """Further warnings that follow from the mask (S, S) of the network's image."""
        if not mask.any():
            return ('the network drew no object: the view is empty',)
        if not touches_edge(mask):
            return ()
        return ('the object reaches the edge of the picture of the network: it is cut off there',)


def target_from_pose(
    source: CanonicalView,
    camera: Camera,
    object_from_camera: ArrayLike,
) -> TargetCamera:
    """A target camera from a pose and intrinsics.

    Parameters
    ----------
    source : CanonicalView
        What the network is shown.
    camera : Camera
        Size, intrinsics and distortion of the requested camera.
    object_from_camera : array_like (4, 4)
        Its pose in the object frame of ``source``, metres.

    Raises
    ------
    ValueError
        The pose is not rigid, the camera is inside the object or has it behind, or its image has
        more than 4096 x 4096 pixels.
    """
    if camera.width * camera.height > MAX_PIXELS:
        raise ValueError(
            f'camera: expected at most {MAX_PIXELS} pixels, got {camera.width}x{camera.height}'
        )
    transform = check_rigid(object_from_camera, 'object_from_camera')
    distance = float(np.linalg.norm(transform[:3, 3]))
    if distance <= source.unit_m / 2:
        raise ValueError(
            f'object_from_camera: expected a camera outside the object of {source.unit_m:.3g} m, '
            f'got one {distance:.3g} m from its centre'
        )
    canonical = canonical_pose(transform)
    if not np.isfinite(camera.project(transform[:3, :3].T @ canonical[:3, 2])).all():
        raise ValueError('object_from_camera: expected an object before the camera, got one behind')
    origin = source.spherical
    asked = spherical_from_pose(transform)
    relative = relative_pose(
        Spherical(origin.azimuth_rad, origin.elevation_rad, source.radius),
        Spherical(
            asked.azimuth_rad, asked.elevation_rad, source.radius * asked.radius / origin.radius
        ),
    )
    warnings = _range_warnings(relative, asked, source.trained)
    warnings += _view_warnings(source, camera, transform, canonical)
    return TargetCamera(camera, transform, source.camera, canonical, relative, warnings)


def target_from_angles(
    source: CanonicalView,
    azimuth_rad: float,
    elevation_rad: float,
    distance_m: float = 0.0,
    camera: Camera | None = None,
) -> TargetCamera:
    """A level target camera that looks at the object, given relative to the source.

    Parameters
    ----------
    source : CanonicalView
    azimuth_rad : float
        Positive moves the camera to its right.
    elevation_rad : float
        Positive moves it up.
    distance_m : float
        Positive moves it away.
    camera : Camera, optional
        When omitted the camera of the source, so that the network's image needs no warp.

    Raises
    ------
    ValueError
        A number is not finite, the viewpoint is past a pole or inside the object, or its image has
        more than 4096 x 4096 pixels.
    """
    if not np.isfinite([azimuth_rad, elevation_rad, distance_m]).all():
        raise ValueError(
            'viewpoint: expected finite azimuth, elevation and distance, '
            f'got {azimuth_rad}, {elevation_rad}, {distance_m}'
        )
    origin = source.spherical
    elevation = origin.elevation_rad + elevation_rad
    if abs(elevation) > math.pi / 2 + POLE_RAD:
        raise ValueError(
            'elevation_rad: expected a viewpoint between straight below and straight above, got '
            f'{math.degrees(elevation_rad):.1f} degrees from a source at '
            f'{math.degrees(origin.elevation_rad):.1f}'
        )
    radius = origin.radius + distance_m
    if radius <= source.unit_m / 2:
        raise ValueError(
            f'distance_m: expected a camera outside the object of {source.unit_m:.3g} m, '
            f'got one {radius:.3g} m from its centre'
        )
    # Rotating the source's own pose is exact at a pole too, where its azimuth is a convention.
    right = source.object_from_camera[:3, 0]
    turn = Rotation.from_rotvec([0, 0, azimuth_rad]) * Rotation.from_rotvec(-elevation_rad * right)
    pose = rigid(turn.as_matrix(), np.zeros(3)) @ source.object_from_camera
    pose[:3, 3] *= radius / origin.radius
    return target_from_pose(source, camera or source.camera, canonical_pose(pose))


def orbit(
    count: int, elevation_rad: float = 0.0, distance_m: float = 0.0, start_rad: float = 0.0
) -> list[Viewpoint]:
    """Viewpoints evenly round the object, relative to the source, going to its right.

    Parameters
    ----------
    count : int
        1 or more.
    elevation_rad, distance_m : float
        The same for all viewpoints.
    start_rad : float
        Azimuth of the first.

    Raises
    ------
    ValueError
        ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f'count: expected 1 or more, got {count}')
    return [
        Viewpoint(wrap_angle(start_rad + 2 * math.pi * i / count), elevation_rad, distance_m)
        for i in range(count)
    ]


def _range_warnings(
    relative: RelativePose, asked: Spherical, trained: TrainedRange
) -> tuple[str, ...]:
    warnings = []
    nearest, farthest = trained.radius
    if abs(relative.delta_radius) > farthest - nearest:
        warnings.append(
            f'distance changes by {relative.delta_radius:+.2f} object sizes, '
            f'the network knows at most {farthest - nearest:.2g}'
        )
    low, high = trained.elevation_rad
    if not low <= asked.elevation_rad <= high:
        warnings.append(
            f'elevation {math.degrees(asked.elevation_rad):.0f} degrees, the network saw few views '
            f'outside {math.degrees(low):.0f} to {math.degrees(high):.0f}'
        )
    return tuple(warnings)


def _view_warnings(
    source: CanonicalView,
    camera: Camera,
    object_from_camera: NDArray[np.float64],
    object_from_canonical: NDArray[np.float64],
) -> tuple[str, ...]:
    """Warnings if a ball of the object's size is not wholly in the network's or requested image."""
    angles = np.linspace(0, 2 * math.pi, 64, endpoint=False)
    distance = float(np.linalg.norm(object_from_canonical[:3, 3]))
    slope = math.asin(source.unit_m / 2 / distance)
    rim = np.column_stack([np.cos(angles), np.sin(angles)]) * math.sin(slope)
    rays = np.column_stack([rim, np.full(len(rim), math.cos(slope))])
    warnings = []
    if not source.camera.contains(source.camera.project(rays)).all():
        warnings.append('the object is larger than the picture of the network: it is cut off')
    middle = np.array([0.0, 0.0, 1.0])
    camera_from_canonical = object_from_camera[:3, :3].T @ object_from_canonical[:3, :3]
    rays = np.vstack([rays, middle]) @ camera_from_canonical.T
    seen = camera.contains(camera.project(rays))
    # The ball may fill the image, with its rim and even its centre outside.
    if not seen.any() and camera_from_canonical[2, 2] < math.cos(slope):
        warnings.append('the object is not in the picture that was asked for')
    elif not seen.all():
        warnings.append('part of the object is outside the picture that was asked for')
    return tuple(warnings)
