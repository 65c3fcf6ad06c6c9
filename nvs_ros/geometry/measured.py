"""What a depth camera measured of an object: points of its surface, and space that it saw empty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.spherical import canonical_pose

BALL = 0.87
"""Radius of the ball that surely holds the object, in longest sides of its bounding box: half the
diagonal of a cube."""
CELLS = 56
"""Cells along the diameter of that ball, in which empty space is recorded."""
STEEPEST = 6.0
"""A depth step between neighbouring pixels of more than this many pixel footprints is an edge:
surface seen at a grazing angle under 10 degrees, or another surface."""
SMALLEST_STEP = 0.02
"""A depth step below this part of the object's size is sensor noise and no edge."""
VIEW_SIZE = 96
"""Side in pixels of the image in which empty space is looked up; a pixel is about a cell wide."""
WIDEST = 3.0
"""Largest ray slope of that image's camera."""
SMOOTHED = 0.03
"""Normals are computed from the surface averaged over this part of the object's size."""


@dataclass(frozen=True, eq=False)
class Surface:
    """Measured points of an object's surface.

    Attributes
    ----------
    points : (n, 3) float32
        Object frame, metres.
    colors : (n, 3) uint8
        RGB.
    normals : (n, 3) float32
        Unit vectors out of the object, towards the camera that measured them.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    normals: NDArray[np.float32]

    @classmethod
    def nothing(cls) -> Surface:
        """No point."""
        empty = np.empty((0, 3), np.float32)
        return cls(empty, empty.astype(np.uint8), empty)

    def thinned(self, most: int) -> Surface:
        """Every k-th point, so that at most ``most`` are left."""
        step = -(-len(self.points) // most)
        if step <= 1:
            return self
        return Surface(self.points[::step], self.colors[::step], self.normals[::step])

    @classmethod
    def joined(cls, parts: Sequence[Surface]) -> Surface:
        """The points of all parts, in order; no points for no parts."""
        if not parts:
            return cls.nothing()
        return cls(
            np.concatenate([part.points for part in parts]),
            np.concatenate([part.colors for part in parts]),
            np.concatenate([part.normals for part in parts]),
        )


@dataclass(frozen=True, eq=False)
class EmptySpace:
    """How far each ray of a pinhole camera is known to be empty.

    Attributes
    ----------
    camera : Camera
        Without distortion; the ball that holds the object is inside its image.
    object_from_camera : (4, 4) float64
        Its pose in the object frame, metres.
    empty_until_m : (H, W) float32
        Depth (z in the camera's optical frame) before which the object is not: infinity on rays
        beside the object, the measured depth if there is one, 0 where nothing is known.
    """

    camera: Camera
    object_from_camera: NDArray[np.float64]
    empty_until_m: NDArray[np.float32]


def measured_surface(
    image: NDArray[np.uint8],
    solid: NDArray[np.bool_],
    camera: Camera,
    object_from_camera: NDArray[np.float64],
    depth_m: NDArray,
    unit_m: float,
) -> Surface:
    """Points that a depth camera measured inside a mask.

    Pixels at depth edges are left out, because their values belong to neither surface: those with a
    neighbour that is outside the mask, has no depth or lies across a depth step. Points too far
    from the object's centre to belong to it are left out as well.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB as it was taken.
    solid : (H, W) bool
        Pixels of the object.
    camera : Camera
        Of image, mask and depth.
    object_from_camera : (4, 4) float
        Metres.
    depth_m : (H, W) float
        Along the optical axis (REP-118), metres; NaN and 0 are unknown.
    unit_m : float
        Longest side of the object's bounding box.
    """
    x, y, width, height = cv2.boundingRect(solid.astype(np.uint8))
    window = np.s_[y : y + height, x : x + width]
    depth = np.asarray(depth_m[window], np.float32)
    with np.errstate(invalid='ignore'):
        valid = solid[window] & np.isfinite(depth) & (depth > 0)
    rows, columns = np.nonzero(valid)
    if not len(rows):
        return Surface.nothing()
    rays = camera.unproject(np.column_stack([columns + x, rows + y]))
    with np.errstate(invalid='ignore'):
        slopes = (rays / rays[:, 2:]).astype(np.float32)
    positions = np.zeros((height, width, 3), np.float32)
    positions[rows, columns] = slopes * depth[rows, columns, None]
    rotation, translation = object_from_camera[:3, :3], object_from_camera[:3, 3]
    centre = (-translation @ rotation).astype(np.float32)
    with np.errstate(invalid='ignore'):
        valid &= np.linalg.norm(positions - centre, axis=-1) < 1.1 * BALL * unit_m
    positions[~valid] = 0
    footprint = positions[..., 2] / np.float32(camera.matrix[0, 0])
    inner = same_surface(
        positions[..., 2], valid, np.maximum(STEEPEST * footprint, SMALLEST_STEP * unit_m)
    )
    if not inner.any():
        return Surface.nothing()
    share = SMOOTHED * unit_m / float(np.median(footprint[inner]))
    normals, flat = _normals(positions, inner, 2 * int(share / 2) + 1)
    kept = inner & flat
    rotation = rotation.astype(np.float32)
    return Surface(
        positions[kept] @ rotation.T + translation.astype(np.float32),
        image[window][kept],
        normals[kept] @ rotation.T,
    )


def same_surface(
    depth: NDArray[np.float32], valid: NDArray[np.bool_], step: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Valid pixels whose four neighbours are valid and within ``step`` of their depth (H, W)."""
    inner = valid.copy()
    inner[[0, -1]] = inner[:, [0, -1]] = False
    for shift in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        beside, there = np.roll(depth, shift, (0, 1)), np.roll(valid, shift, (0, 1))
        inner &= there & (np.abs(beside - depth) <= step)
    return inner


def of_a_surface(depth_m: NDArray[np.float32], focal_px: float) -> NDArray[np.bool_]:
    """Measured pixels (H, W) that lie on a surface: inside it, or at its edge with its depth.

    Parameters
    ----------
    depth_m : (H, W) float32
        Of one object, metres; 0 elsewhere.
    focal_px : float
        Focal length of the camera.
    """
    valid = depth_m > 0
    step = STEEPEST * depth_m / np.float32(focal_px)
    inner = same_surface(depth_m, valid, step)
    beside = np.ones((5, 5), np.uint8)
    nearest = cv2.erode(np.where(inner, depth_m, np.float32(np.inf)), beside)
    farthest = cv2.dilate(np.where(inner, depth_m, np.float32(0)), beside)
    return valid & (depth_m >= nearest - step) & (depth_m <= farthest + step)


def _normals(
    positions: NDArray[np.float32], valid: NDArray[np.bool_], side: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Unit normals (H, W, 3) towards the camera, and where (H, W) they are defined."""
    weight = cv2.boxFilter(valid.astype(np.float32), -1, (side, side), normalize=False)
    sums = cv2.boxFilter(positions * valid[..., None], -1, (side, side), normalize=False)
    smooth = sums / np.maximum(weight, 1)[..., None]
    there = valid.astype(np.float32)
    along = [_difference(smooth, there, axis) for axis in (1, 0)]
    normals = np.cross(along[0], along[1])
    length = np.linalg.norm(normals, axis=-1)
    flat = length > 0
    normals /= np.where(flat, length, 1)[..., None]
    away = (normals * positions).sum(-1) > 0
    normals[away] *= -1
    return normals, flat


def _difference(smooth: NDArray, there: NDArray, axis: int) -> NDArray:
    """Central difference along an axis; one-sided beside an invalid pixel."""
    after, before = np.roll(smooth, -1, axis), np.roll(smooth, 1, axis)
    has_after = np.roll(there, -1, axis)[..., None]
    has_before = np.roll(there, 1, axis)[..., None]
    return has_after * (after - smooth) + has_before * (smooth - before)


def empty_space(
    solid: NDArray[np.bool_],
    camera: Camera,
    object_from_camera: NDArray[np.float64],
    depth_m: NDArray | None,
    unit_m: float,
    unknown: NDArray[np.bool_] | None = None,
) -> EmptySpace:
    """Space that a camera saw empty.

    Cautious: a ray counts as empty only as far as all its neighbours are, and space outside the
    image counts as empty only if neither mask nor ``unknown`` reaches the edge of the image.

    Parameters
    ----------
    solid : (H, W) bool
        Pixels of the object.
    camera : Camera
        Of the mask.
    object_from_camera : (4, 4) float
        Metres.
    depth_m : (H, W) float, optional
        Along the optical axis, metres; NaN and 0 are unknown.
    unit_m : float
        Longest side of the object's bounding box.
    unknown : (H, W) bool, optional
        Pixels of other things: nothing is known of the space behind their depth, or, without
        depth, of the whole ray.
    """
    until: NDArray = np.full(solid.shape, np.inf, np.float32)
    until[solid] = 0
    if depth_m is not None:
        with np.errstate(invalid='ignore'):
            measured = solid & np.isfinite(depth_m) & (depth_m > 0)
        until[measured] = depth_m[measured]
    if unknown is not None:
        hidden = unknown & ~solid
        until[hidden] = 0
        if depth_m is not None:  # a ray is empty up to the thing that hides the rest
            with np.errstate(invalid='ignore'):
                hidden &= np.isfinite(depth_m) & (depth_m > 0)
            until[hidden] = depth_m[hidden]
    pose = canonical_pose(object_from_camera)
    view = _ball_camera(float(np.linalg.norm(pose[:3, 3])) / unit_m)
    side = 2 * math.ceil((camera.matrix[0, 0] / view.matrix[0, 0] - 1) / 2) + 1
    if side > 1:
        until = cv2.erode(until, np.ones((side, side), np.uint8), borderValue=math.inf)
    rows, columns = np.indices((view.height, view.width))
    rays = view.unproject(np.column_stack([columns.ravel(), rows.ravel()]))
    turned = rays @ (object_from_camera[:3, :3].T @ pose[:3, :3]).T
    pixels = camera.project(turned)
    seen = camera.contains(pixels)
    cut = any((edge < math.inf).any() for edge in (until[0], until[-1], until[:, 0], until[:, -1]))
    found = np.full(len(pixels), 0 if cut else np.inf, np.float32)
    x, y = np.rint(pixels[seen]).astype(int).T
    # Depth is along the optical axis of the camera that measured it; convert to the view's axis.
    found[seen] = until[y, x] * (rays[seen, 2] / turned[seen, 2])
    depth = cv2.erode(found.reshape(view.height, view.width), np.ones((3, 3), np.uint8))
    return EmptySpace(view, pose, depth.astype(np.float32, copy=False))


def _ball_camera(distance: float) -> Camera:
    """A pinhole camera whose image just holds the ball, seen from a distance in object sizes.

    From nearby or inside the ball its rays reach to a slope of :data:`WIDEST`.
    """
    slope = BALL / math.sqrt(max(distance**2 - BALL**2, (BALL / WIDEST) ** 2))
    centre = (VIEW_SIZE - 1) / 2
    focal = VIEW_SIZE / 2 / slope
    matrix = np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1]])
    return Camera(VIEW_SIZE, VIEW_SIZE, matrix)


@cache
def ball_cells() -> NDArray[np.float32]:
    """Centres (n, 3) of the cells inside the ball that holds the object, in object sizes."""
    axis = (np.arange(CELLS, dtype=np.float32) + 0.5) / CELLS * 2 - 1
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing='ij'), -1).reshape(-1, 3)
    cells = BALL * grid[(grid**2).sum(1) <= 1]
    cells.flags.writeable = False
    return cells


def possible_cells(spaces: Sequence[EmptySpace], unit_m: float) -> NDArray[np.bool_]:
    """Which of :func:`ball_cells` no camera saw empty, (n,) bool.

    Parameters
    ----------
    spaces : sequence of EmptySpace
        All in one object frame.
    unit_m : float
        Longest side of the object's bounding box.
    """
    columns = _ball_columns()
    possible = np.ones(columns.shape[1], bool)
    for space in spaces:
        pose, matrix = space.object_from_camera, space.camera.matrix
        turn = (matrix @ pose[:3, :3].T).astype(np.float32)
        shift = (-matrix @ pose[:3, :3].T @ pose[:3, 3]).astype(np.float32)
        x, y, z = (turn * np.float32(unit_m)) @ columns + shift[:, None]
        with np.errstate(divide='ignore', invalid='ignore'):
            x, y = np.rint(x / z), np.rint(y / z)
        height, width = space.empty_until_m.shape
        seen = (z > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        # Cells outside the image share an extra pixel of which nothing is known.
        index = np.where(seen, y * width + x, height * width).astype(np.intp)
        until = np.append(space.empty_until_m, np.float32(-np.inf))
        possible &= z >= (until - np.float32(BALL / CELLS * unit_m))[index]
    return possible


@cache
def _ball_columns() -> NDArray[np.float32]:
    """:func:`ball_cells` as (3, n), contiguous by coordinate."""
    return np.ascontiguousarray(ball_cells().T)
