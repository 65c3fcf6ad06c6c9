"""What was measured of an object, moved into a target camera: the guide of the network.

Channels of a guide: the colour of the measured points that the target sees, where it sees any, and
where there may be something of the object at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nvs_ros.geometry.camera import Camera
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
"""Surface that the target sees at less than about 12 degrees, or from behind, is left out."""
SAME_SURFACE = 1.03
"""Points within 3 % of the nearest one in a pixel are averaged; what is behind them is hidden."""
ENOUGH = 8
"""Points for each pixel of a picture, on the average; of more, some are left out."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """What all frames of an object together measured, in its frame.

    Attributes
    ----------
    surface : Surface
    possible : (n,) bool
        Of :func:`nvs_ros.geometry.measured.ball_cells`, those that no camera saw empty.
    unit_m : float
        Longest side of the object's bounding box.
    """

    surface: Surface
    possible: NDArray[np.bool_]
    unit_m: float

    @classmethod
    def nothing(cls, unit_m: float = 1.0) -> Measurement:
        """Nothing is known; and where nothing is possible, the guide is empty."""
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
        """What one picture measured, as it was taken: of any camera, with depth or without.

        Parameters
        ----------
        image : (H, W, 3) uint8
            RGB.
        solid : (H, W) bool
            Pixels of the object.
        camera : Camera
        object_from_camera : (4, 4) float
            Metres.
        unit_m : float
            Longest side of the object's bounding box.
        depth_m : (H, W) float, optional
            Along the optical axis (REP-118), metres; NaN and 0 are unknown.
        unknown : (H, W) bool, optional
            Pixels of other things, see :func:`nvs_ros.geometry.measured.empty_space`.

        Raises
        ------
        ValueError
            Shapes that do not fit.
        """
        for name, array in (('image', image[..., 0]), ('depth_m', depth_m), ('unknown', unknown)):
            if array is not None and array.shape != solid.shape:
                raise ValueError(f'{name}: expected {solid.shape} like the mask, got {array.shape}')
        pose = np.asarray(object_from_camera, np.float64)
        surface = Surface.nothing()
        if depth_m is not None:
            surface = measured_surface(image, solid, camera, pose, depth_m, unit_m)
        space = empty_space(solid, camera, pose, depth_m, unit_m, unknown)
        return cls(surface, possible_cells([space], unit_m), unit_m)

    @classmethod
    def joined(cls, parts: Sequence[Measurement]) -> Measurement:
        """All points, and what none of them saw empty. Of one object frame and size.

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
        Pinhole, of the network's picture.
    object_from_camera : (4, 4) float
        Its pose in the object frame, metres.

    Returns
    -------
    ndarray (5, H, W) float32
        Colour in [-1, 1] and 0 where none is known; ``known`` and ``possible``, 0 or 1.
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
    """Measured points as a pinhole camera sees them, with a z-buffer.

    Returns
    -------
    colors : (H, W, 3) float32
        0 ... 255; 0 where no point falls.
    known : (H, W) bool
        Where one falls.
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
    """Pixels (H, W) whose rays pass through a cell that may hold something."""
    pose, unit = object_from_camera.astype(np.float32), np.float32(measurement.unit_m)
    cells = ball_cells()[measurement.possible] * unit
    index, z, _ = _pixels((cells - pose[:3, 3]) @ pose[:3, :3], camera)
    outline = np.zeros(camera.height * camera.width, np.uint8)
    outline[index] = 1
    outline = outline.reshape(camera.height, camera.width)
    if len(z):  # cells next to each other may leave pixels between them
        across = 2 * BALL / CELLS * measurement.unit_m * camera.matrix[0, 0] / float(z.min())
        kernel = np.ones(2 * [2 * int(np.ceil(across / 2)) + 1], np.uint8)
        outline = cv2.morphologyEx(outline, cv2.MORPH_CLOSE, kernel)
    return outline > 0


def _pixels(
    points: NDArray[np.float32], camera: Camera
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.bool_]]:
    """Flat pixel index and z of the points (n, 3) that a pinhole camera sees, and which."""
    z = points[:, 2]
    with np.errstate(divide='ignore', invalid='ignore'):
        x, y = (points[:, :2] / z[:, None]).T
    x = np.rint(x * camera.matrix[0, 0] + camera.matrix[0, 2])
    y = np.rint(y * camera.matrix[1, 1] + camera.matrix[1, 2])
    seen = (z > 0) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    return (y[seen] * camera.width + x[seen]).astype(np.intp), z[seen], seen
