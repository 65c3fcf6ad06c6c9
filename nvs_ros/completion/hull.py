"""A soft visual hull: what is left of a block when every picture has carved away what it sees to be
empty.

Measured pictures carve for certain, synthesised ones as far as they are assessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from nvs_ros.completion.uncertainty import Estimate
from nvs_ros.geometry import Camera, inverse
from nvs_ros.geometry.canonical import coverage
from nvs_ros.synthesizer import Frame

SURFACE = 0.5
"""Occupancy at the surface."""
MARGIN = 1.1
"""The block is larger than the object may be by this factor, for sizes that were estimated."""


@dataclass(frozen=True)
class Grid:
    """Cubic cells about the origin of the object frame.

    It holds any object of the given size, whichever way it is turned about z: half of its longest
    side up and down, half the diagonal of its square to the sides.

    Parameters
    ----------
    size_m : float
        Longest side of the object's bounding box.
    cells : int
        Along x and y.
    """

    size_m: float
    cells: int

    @property
    def cell_m(self) -> float:
        """Side of a cell."""
        return np.sqrt(2) * MARGIN * self.size_m / self.cells

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells along x, y and z."""
        return self.cells, self.cells, round(self.cells / np.sqrt(2))

    @property
    def corner(self) -> NDArray[np.float64]:
        """Centre (3,) of the first cell, metres."""
        return -(np.array(self.shape) - 1) / 2 * self.cell_m

    @property
    def centres(self) -> NDArray[np.float64]:
        """Of all cells, (cells, 3), metres."""
        index = np.indices(self.shape).reshape(3, -1).T
        return self.corner + index * self.cell_m


def carve(
    grid: Grid,
    frames: Sequence[Frame],
    estimates: Sequence[Estimate],
    confidences: Sequence[float],
) -> NDArray[np.float32]:
    """Occupancy of the cells.

    Nothing outside a measured silhouette or before measured depth is left. A view that is
    right with probability ``c`` and has the object in a pixel with probability ``p`` leaves ``1 -
    c (1 - p)`` of what lies behind that pixel.

    Parameters
    ----------
    grid : Grid
    frames : sequence of Frame
        What was measured, one or more; with or without depth.
    estimates : sequence of Estimate
        What was synthesised from them.
    confidences : sequence of float
        Of each, 0..1.

    Returns
    -------
    (X, Y, Z) float32
        0..1, at least :data:`SURFACE` inside the object.
    """
    centres = grid.centres
    occupancy = np.minimum.reduce([measured_occupancy(centres, grid.cell_m, f) for f in frames])
    left = np.flatnonzero(occupancy > 0)
    for estimate, confidence in zip(estimates, confidences, strict=True):
        target = estimate.target
        inside = look_up(
            estimate.probability, target.camera, target.object_from_camera, centres[left]
        )
        occupancy[left] *= 1 - confidence * (1 - inside)
    return occupancy.reshape(grid.shape)


def measured_occupancy(
    centres: NDArray[np.float64], cell_m: float, frame: Frame
) -> NDArray[np.float32]:
    """What one measured picture leaves of cells: also those that other things may hide.

    Parameters
    ----------
    centres : (N, 3) float64
        Object frame, metres.
    cell_m : float
        Side of a cell.
    frame : Frame

    Returns
    -------
    (N,) float32
        Occupancy, 0..1.
    """
    shown = coverage(np.asarray(frame.mask)).astype(np.float32) / 255
    if frame.unknown is not None:
        shown = np.where(frame.unknown, np.float32(1), shown)
    pose = frame.object_from_camera
    inside = look_up(shown, frame.camera, pose, centres)
    if frame.depth_m is None:
        return inside
    # Depth is looked up in the nearest pixel: blending it over an edge makes surfaces up.
    known = np.where(frame.depth_m > 0, frame.depth_m, 0).astype(np.float32)
    surface = look_up(known, frame.camera, pose, centres, cv2.INTER_NEAREST)
    before = surface - transformed(inverse(pose), centres)[:, 2]
    # Half of the cell on the surface lies behind it.
    behind = np.clip(0.5 - before / cell_m, 0, 1)
    return np.where(surface > 0, np.minimum(inside, behind), inside).astype(np.float32)


def look_up(
    picture: NDArray[np.float32],
    camera: Camera,
    object_from_camera: NDArray[np.float64],
    points: NDArray[np.float64],
    interpolation: int = cv2.INTER_LINEAR,
) -> NDArray[np.float32]:
    """What a picture (H, W) or (H, W, C) shows where points (N, 3) of the object frame are; 0
    outside of it."""
    pixels = camera.project(transformed(inverse(object_from_camera), points))
    pixels = np.where(camera.contains(pixels)[:, None], pixels, -2).astype(np.float32)
    columns = 4096  # remap takes pictures, of at most 32767 pixels a side
    rows = len(pixels) // columns + 1
    padded = np.full((rows * columns, 2), -2, np.float32)
    padded[: len(pixels)] = pixels
    shown = cv2.remap(picture, padded.reshape(rows, columns, 2), None, interpolation, borderValue=0)
    return shown.reshape(rows * columns, *picture.shape[2:])[: len(pixels)]


def transformed(
    target_from_source: NDArray[np.float64], points: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Points (N, 3) in another frame."""
    return points @ target_from_source[:3, :3].T + target_from_source[:3, 3]
