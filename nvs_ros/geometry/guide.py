"""What was measured of an object, as a target camera sees it: the guide of the network.

Channels of a guide: colour of the measured points that the target sees (3), where it sees any
(1), and where the object may be at all (1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.like_mask import check_like_mask
from nvs_ros.geometry.measured import (
    BALL,
    CELLS,
    Surface,
    ball_cells,
    empty_space,
    measured_surface,
    possible_cells,
)

GUIDE_CHANNELS = 5
"""Red, green, blue, known, possible."""
LEAST_COSINE = 0.2
"""Cosine between normal and line of sight, below which surface is left out: seen from behind or at
a grazing angle under about 12 degrees."""
SAME_SURFACE = 1.03
"""Points up to 3 % behind the nearest one in a pixel are averaged with it; others are hidden."""
ENOUGH = 8
"""Most points per pixel of an image, on average; beyond that the points are thinned."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """What the frames of an object measured, in the object frame.

    Attributes
    ----------
    surface : Surface
        Points that depth cameras measured.
    possible : (n,) bool
        Which of :func:`nvs_ros.geometry.measured.ball_cells` no camera saw empty.
    unit_m : float
        Longest side of the object's bounding box.
    """

    surface: Surface
    possible: NDArray[np.bool_]
    unit_m: float

    @classmethod
    def nothing(cls, unit_m: float = 1.0) -> Measurement:
        """A measurement without points and without possible cells: its guide is all zero."""
        return cls(Surface.nothing(), np.zeros(len(ball_cells()), bool), unit_m)

    @classmethod
    def of_picture(
        cls,
        image: NDArray[np.uint8],
        solid: NDArray[np.bool_],
        camera: Camera,
        object_from_camera: NDArray[np.float64],
        unit_m: float,
        depth_m: NDArray | None = None,
        unknown: NDArray[np.bool_] | None = None,
    ) -> Measurement:
        """What one image measured, before any warp: of any camera, with or without depth.

        Parameters
        ----------
        image : (H, W, 3) uint8
            RGB.
        solid : (H, W) bool
            Pixels of the object.
        camera : Camera
        object_from_camera : (4, 4) float
            Pose of the camera (optical frame), metres.
        unit_m : float
            Longest side of the object's bounding box.
        depth_m : (H, W) float, optional
            Along the optical axis (REP-118), metres; NaN and 0 are unknown.
        unknown : (H, W) bool, optional
            Pixels of other things, see :func:`nvs_ros.geometry.measured.empty_space`.

        Raises
        ------
        ValueError
            ``image``, ``depth_m`` or ``unknown`` has another size than ``solid``.
        """
        check_like_mask(solid.shape, image=image[..., 0], depth_m=depth_m, unknown=unknown)
        pose = np.asarray(object_from_camera, np.float64)
        surface = Surface.nothing()
        if depth_m is not None:
            surface = measured_surface(image, solid, camera, pose, depth_m, unit_m)
        space = empty_space(solid, camera, pose, depth_m, unit_m, unknown)
        return cls(surface, possible_cells([space], unit_m), unit_m)

    @classmethod
    def joined(cls, parts: Sequence[Measurement]) -> Measurement:
        """The points of all parts, and the cells that none of them saw empty.

        All parts must be in one object frame and have the same ``unit_m``.

        Raises
        ------
        ValueError
            There is no part.
        """
        if not parts:
            raise ValueError('measurements: expected at least one, got none')
        return cls(
            Surface.joined([part.surface for part in parts]),
            np.logical_and.reduce([part.possible for part in parts]),
            parts[0].unit_m,
        )


def guide(
    measurement: Measurement, camera: Camera, object_from_camera: NDArray[np.float64]
) -> NDArray[np.float32]:
    """The guide of one target camera.

    Parameters
    ----------
    measurement : Measurement
    camera : Camera
        Pinhole, of the network's image.
    object_from_camera : (4, 4) float
        Its pose in the object frame, metres.

    Returns
    -------
    ndarray (5, H, W) float32
        Red, green, blue in [-1, 1], and 0 where no colour is known; then ``known`` and
        ``possible``, 0 or 1.
    """
    made = np.zeros((GUIDE_CHANNELS, camera.height, camera.width), np.float32)
    colors, known = splat(measurement.surface, camera, object_from_camera)
    made[:3, known] = (colors[known] / 127.5 - 1).T
    made[3] = known
    made[4] = known | possible_pixels(measurement, camera, object_from_camera)
    return made


def splat(
    surface: Surface, camera: Camera, object_from_camera: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Draw measured points as a pinhole camera sees them, with a z-buffer.

    Parameters
    ----------
    surface : Surface
    camera : Camera
        Pinhole, W x H.
    object_from_camera : (4, 4) float
        Metres.

    Returns
    -------
    colors : (H, W, 3) float32
        RGB 0 ... 255, mean of the visible points in a pixel; 0 where there is none.
    known : (H, W) bool
        Pixels with at least one visible point.
    """
    shape = camera.height, camera.width
    surface = surface.thinned(ENOUGH * shape[0] * shape[1])
    pose = object_from_camera.astype(np.float32)
    towards = pose[:3, 3] - surface.points
    facing = (towards * surface.normals).sum(1) > LEAST_COSINE * np.linalg.norm(towards, axis=1)
    index, z, seen = _pixels((-towards[facing]) @ pose[:3, :3], camera)
    nearest = np.full(shape[0] * shape[1], np.inf, np.float32)
    np.minimum.at(nearest, index, z)
    front = z <= SAME_SURFACE * nearest[index]
    index, chosen = index[front], surface.colors[facing][seen][front]
    counts = np.bincount(index, minlength=len(nearest))
    sums = [np.bincount(index, chosen[:, c], len(nearest)) for c in range(3)]
    colors = np.stack(sums, -1) / np.maximum(counts, 1)[:, None]
    return colors.reshape(*shape, 3).astype(np.float32), (counts > 0).reshape(shape)


def possible_pixels(
    measurement: Measurement, camera: Camera, object_from_camera: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Pixels (H, W) bool of a pinhole camera whose rays pass through a possible cell."""
    pose, unit = object_from_camera.astype(np.float32), np.float32(measurement.unit_m)
    cells = ball_cells()[measurement.possible] * unit
    index, z, _ = _pixels((cells - pose[:3, 3]) @ pose[:3, :3], camera)
    reached = np.zeros(camera.height * camera.width, np.uint8)
    reached[index] = 1
    outline: NDArray = reached.reshape(camera.height, camera.width)
    if len(z):  # close gaps between the pixels of neighbouring cells
        across = 2 * BALL / CELLS * measurement.unit_m * camera.matrix[0, 0] / float(z.min())
        kernel = np.ones(2 * [2 * int(np.ceil(across / 2)) + 1], np.uint8)
        outline = cv2.morphologyEx(outline, cv2.MORPH_CLOSE, kernel)
    return outline > 0


def _pixels(
    points: NDArray[np.float32], camera: Camera
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.bool_]]:
    """Flat pixel index and z of those points (n, 3) that fall into a pinhole camera's image.

    The third result (n,) says which points these are.
    """
    z = points[:, 2]
    with np.errstate(divide='ignore', invalid='ignore'):
        x, y = (points[:, :2] / z[:, None]).T
    x = np.rint(x * camera.matrix[0, 0] + camera.matrix[0, 2])
    y = np.rint(y * camera.matrix[1, 1] + camera.matrix[1, 2])
    seen = (z > 0) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    return (y[seen] * camera.width + x[seen]).astype(np.intp), z[seen], seen
