"""Where an object is and how large, from its mask and depth alone.

A camera sees the front. The foot is on the plane below; the width is that of the silhouette, at the
depth of its outline; how far the object reaches behind what is seen follows from symmetry: most
things look much the same after half a turn about their vertical axis. That axis stands where the
points that are seen, turned about it, come to lie inside the silhouette and not before the depth
that was measured. Where no such axis explains what is seen, the far side is taken to be a little
behind the last point.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.measured import SMALLEST_STEP, STEEPEST, same_surface
from nvs_ros.geometry.occlusion import hidden_outline, hidden_remark, outline_pixels
from nvs_ros.geometry.rigid import check_rotation, rigid
from nvs_ros.geometry.support_plane import Plane, support_plane

LEAST_PIXELS = 60
"""Of the mask that have depth, off its edge."""
TRIED = 33
"""Places of the axis of symmetry."""
TURNED = 600
"""Points that are turned about it."""
TOLERANCE = 0.03
"""Turned points may be so far before what was measured, in sizes of the object."""
PLATEAU = 0.02
"""Places whose share of points that fit is less than this below the best are as good."""
ROUND = 0.95
"""Depth over width where both sides of the plateau allow it."""
SHADOW = 0.5
"""Far side behind the last point seen, over what the object's height hides of the ground."""
HIDDEN = 1.12
"""Depth over that of what is seen, where there is no symmetry: so on generated objects."""
ASYMMETRIC, SYMMETRIC = 0.5, 1.0
"""Share of points that fit, below which there is no symmetry, and where there is nothing else."""
FOOT = 0.1
"""An object that stands on a plane hides at least this share of the base of its box."""
LIMB = 0.05
"""The outline lies behind the points next to it by this part of the silhouette, at most."""
STRAY = 2.5
"""Points farther from the middle than so many sizes of the silhouette are not the object's."""


@dataclass(frozen=True, eq=False)
class Place:
    """Pose and size of an object as they follow from its mask and depth.

    Attributes
    ----------
    camera_from_object : (4, 4) float64
        Metres; origin in the centre of its box, z up. x is that of the reference frame where there
        is one. Else it points from the object to the camera, laid level; where the camera looks
        straight down, to the lower edge of the picture.
    extents_m : (3,) float64
        Sides of its box: away from the camera, across, up.
    assumptions : tuple of str
        What was not measured, in sentences for a person.
    """

    camera_from_object: NDArray[np.float64]
    extents_m: NDArray[np.float64]
    assumptions: tuple[str, ...]

    @property
    def size_m(self) -> float:
        """Longest side of the box."""
        return float(self.extents_m.max())


def place_from_mask(
    solid: NDArray[np.bool_],
    camera: Camera,
    depth_m: NDArray,
    camera_from_reference: NDArray | None = None,
    unknown: NDArray[np.bool_] | None = None,
) -> Place:
    """Find an object that stands on something.

    Parameters
    ----------
    solid : (H, W) bool
        Pixels of the object.
    camera : Camera
        Of mask and depth.
    depth_m : (H, W) float
        Along the optical axis (REP-118), metres; NaN and 0 are unknown.
    camera_from_reference : (3, 3) float, optional
        Rotation from a frame whose z axis points up. Without it the plane about the mask is level.
    unknown : (H, W) bool, optional
        Pixels of things in front of the object.

    Raises
    ------
    ValueError
        Shapes that do not fit, too little depth on the mask, or no plane where one is needed.
    """
    depth = _checked_depth(solid, depth_m, unknown)
    if camera_from_reference is not None:
        camera_from_reference = check_rotation(camera_from_reference, 'camera_from_reference')
    seen = _Seen.of(solid, camera, depth, unknown)
    up = None if camera_from_reference is None else camera_from_reference[:, 2]
    plane = support_plane(seen.around, seen.points, seen.size_m, up)
    if plane is None and up is None:
        raise ValueError(
            f'expected a plane that the object stands on in the depth about the mask '
            f'({len(seen.around)} values), found none: set reference_frame'
        )
    up_direction = plane.normal if up is None else up
    box = _Box.about(seen, up_direction, plane)
    stands = plane is not None and _hides_foot(seen, box)
    if plane is not None and not stands:
        box = _Box.about(seen, up_direction, None)
    rotation = box.axes if camera_from_reference is None else camera_from_reference
    said = _assumptions(seen, box, stands, up is None)
    return Place(rigid(rotation, box.centre), box.extents, said)


def _checked_depth(
    solid: NDArray[np.bool_], depth_m: NDArray, unknown: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """Depth with 0 where there is none."""
    for name, array in (('depth_m', depth_m), ('unknown', unknown)):
        if array is not None and np.shape(array) != solid.shape:
            raise ValueError(f'{name}: expected {solid.shape} like the mask, got {np.shape(array)}')
    depth = np.asarray(depth_m, np.float32)
    with np.errstate(invalid='ignore'):
        return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is measured, in the camera's optical frame.

    Attributes
    ----------
    points : (n, 3)
        Of the object, off its edges.
    outline : (m, 3)
        Middles of its outermost pixels, at the depth of the points next to them.
    around : (k, 3)
        About the object.
    size_m : float
        Longer side of the silhouette.
    either, near : (H, W) bool
        The mask and what may hide the object; the same, a little larger.
    depth : (H, W) float32
        0 where there is none.
    is_cut : bool
        The mask ends at the edge of the picture.
    hidden : (m,) bool
        Where the outline is that of something before the object.
    """

    either: NDArray[np.bool_]
    near: NDArray[np.bool_]
    depth: NDArray[np.float32]
    camera: Camera
    points: NDArray[np.float64]
    outline: NDArray[np.float64]
    around: NDArray[np.float64]
    size_m: float
    is_cut: bool
    hidden: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        solid: NDArray[np.bool_],
        camera: Camera,
        depth: NDArray[np.float32],
        unknown: NDArray[np.bool_] | None,
    ) -> _Seen:
        unknown = np.zeros_like(solid) if unknown is None else unknown & ~solid
        measured = solid & (depth > 0)
        if not measured.any():
            raise ValueError('expected depth inside the mask, got none')
        x, y, width, height = cv2.boundingRect(solid.astype(np.uint8))
        focal = camera.matrix[0, 0]
        rough_m = max(width, height) * float(np.median(depth[measured])) / focal
        step = np.maximum(STEEPEST * depth / np.float32(focal), np.float32(SMALLEST_STEP * rough_m))
        inner = _without_stripes(same_surface(depth, measured, step))
        points, pixels = _points(inner, camera, depth)
        if len(points):
            near = np.linalg.norm(points - np.median(points, 0), axis=1) < STRAY * rough_m
            points, pixels = points[near], pixels[near]
        if len(points) < LEAST_PIXELS:
            raise ValueError(
                f'expected depth in at least {LEAST_PIXELS} pixels of the mask, off its edge, '
                f'got {len(points)}'
            )
        edge = outline_pixels(solid)
        columns, rows = edge.T
        beside = points[cKDTree(pixels).query(edge)[1], 2]
        # Round things turn away at their outline; what is farther still belongs to the background.
        at_m = np.clip(depth[rows, columns], beside, beside + LIMB * rough_m)
        outline = camera.points(edge, at_m)
        last_row, last_column = np.array(solid.shape) - 1
        cut = (rows == 0) | (columns == 0) | (rows == last_row) | (columns == last_column)
        window, margin = np.zeros_like(solid), max(width, height)
        first_row, first_column = max(0, y - margin), max(0, x - margin)
        window[first_row : y + height + margin, first_column : x + width + margin] = True
        either = solid | unknown
        # Also of other things: the table may have a label of its own.
        around, _ = _points(window & ~_grown(solid, 3) & (depth > 0), camera, depth)
        known = np.isfinite(outline).all(1)
        return cls(
            either=either,
            near=_grown(either, 2),
            depth=depth,
            camera=camera,
            points=points,
            outline=outline[known],
            around=around,
            size_m=rough_m,
            is_cut=bool(cut.any()),
            hidden=hidden_outline(solid, unknown, depth, rough_m)[known],
        )


def _without_stripes(inner: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without the thin parts that are alone: where a mask leaks, they are of what is behind."""
    thick = cv2.erode(inner.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    _, parts = cv2.connectedComponents(inner.astype(np.uint8), connectivity=4)
    kept = np.isin(parts, np.unique(parts[thick])) & inner
    return kept if 2 * kept.sum() > inner.sum() else inner


def _grown(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * pixels + 1,) * 2, np.uint8)) > 0


def _points(
    chosen: NDArray[np.bool_], camera: Camera, depth: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Points (n, 3) of pixels, and the pixels (n, 2) x, y."""
    rows, columns = np.nonzero(chosen)
    pixels = np.column_stack([columns, rows])
    points = camera.points(pixels, depth[rows, columns])
    known = np.isfinite(points).all(1)
    return points[known], pixels[known]


@dataclass(frozen=True, eq=False)
class _Box:
    """A box whose sides go away from the camera, across and up.

    Attributes
    ----------
    axes : (3, 3)
        Columns: x level towards the camera, y, z up; optical frame.
    centre, extents : (3,)
    gap_m : float
        From the plane up to the lowest point that is seen.
    """

    axes: NDArray[np.float64]
    centre: NDArray[np.float64]
    extents: NDArray[np.float64]
    gap_m: float
    symmetry: float

    @classmethod
    def about(cls, seen: _Seen, up: NDArray[np.float64], plane: Plane | None) -> _Box:
        middle = np.median(seen.points, axis=0)
        axes = _level_axes(middle, up)
        points, outline = seen.points @ axes, seen.outline @ axes
        # A second time: the middle of what is seen is not the middle between both sides.
        sides = np.percentile(np.arctan2(outline[:, 1], -outline[:, 0]), [0.3, 99.7])
        if np.ptp(sides) < np.pi / 2:  # else the camera is above the object
            axes = axes @ Rotation.from_euler('z', -sides.mean()).as_matrix()
        points, outline = seen.points @ axes, seen.outline @ axes
        back, front = np.percentile(points[:, 0], [0.5, 99.5])
        low_y, high_y = np.percentile(outline[:, 1], [0.3, 99.7])
        lowest, top = np.percentile(points[:, 2], [0.3, 99.8])
        top = max(top, float(np.percentile(outline[:, 2], 99.5)))
        bottom = lowest if plane is None else plane.offset_m
        low_y, high_y = _widened(low_y, high_y, front - back, outline[:, 1], seen.hidden)
        extents = np.array([front - back, high_y - low_y, max(top - bottom, 0)])
        middle_y = (low_y + high_y) / 2
        depth, symmetry = _depth(seen, axes, points, front, middle_y, extents)
        extents[0] = depth
        centre = axes @ [front - depth / 2, middle_y, bottom + extents[2] / 2]
        return cls(axes, centre, extents, lowest - bottom, symmetry)


def _hides_foot(seen: _Seen, box: _Box) -> bool:
    """Whether an object may stand where its box does: then it hides something of the base."""
    across = np.linspace(-0.4, 0.4, 9)
    base = np.stack(np.meshgrid(across, across, [-0.5]), -1).reshape(-1, 3) * box.extents
    points = box.centre + base @ box.axes.T
    return bool(_fitting(seen, points, TOLERANCE * seen.size_m).mean() > FOOT)


def _level_axes(middle: NDArray[np.float64], up: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns x level from a point to the camera, y, z up."""
    y = np.cross(up, -middle / np.linalg.norm(middle))
    if np.linalg.norm(y) < np.sin(np.radians(5)):
        y = np.cross(up, [0.0, 1.0, 0.0])  # from above: the lower edge of the picture
    y /= np.linalg.norm(y)
    return np.column_stack([np.cross(y, up), y, up])


def _widened(
    low: float,
    high: float,
    depth: float,
    outline: NDArray[np.float64],
    hidden: NDArray[np.bool_],
) -> tuple[float, float]:
    """Both sides, the hidden ones moved out until the object is about as wide as it is deep."""
    more = depth / ROUND - (high - low)
    if more <= 0 or not hidden.any():
        return low, high
    margin = 0.05 * (high - low)
    left = hidden[outline < low + margin].mean() > 0.5
    right = hidden[outline > high - margin].mean() > 0.5
    share = more / (2 if left and right else 1)
    return low - share * left, high + share * right


def _depth(
    seen: _Seen,
    axes: NDArray[np.float64],
    points: NDArray[np.float64],
    front: float,
    middle_y: float,
    extents: NDArray[np.float64],
) -> tuple[float, float]:
    """How deep the object is, and the share of points that fit the symmetry of that."""
    depths = np.linspace(0, 1.6 * max(extents[1:].max(), extents[0] / 1.6), TRIED)
    some = points[:: -(-len(points) // TURNED)]
    turned = np.broadcast_to(some, (TRIED, *some.shape)).copy()
    turned[..., 0] = 2 * (front - depths[:, None] / 2) - turned[..., 0]
    turned[..., 1] = 2 * middle_y - turned[..., 1]
    fits = _fitting(seen, turned.reshape(-1, 3) @ axes.T, TOLERANCE * extents.max())
    shares = fits.reshape(TRIED, -1).mean(1)
    best = int(shares.argmax())
    worse = np.flatnonzero(shares < shares[best] - PLATEAU)
    low = worse[worse < best].max(initial=-1) + 1
    high = worse[worse > best].min(initial=TRIED) - 1
    symmetric = float(np.clip(ROUND * extents[1], depths[low], depths[high]))
    towards = -points.mean(0)  # the camera is the origin
    shadow = extents[2] * np.hypot(*towards[:2]) / max(towards[2], 1e-6)
    symmetric = np.clip(symmetric, extents[0], extents[0] + SHADOW * shadow)
    weight = float(np.clip((shares[best] - ASYMMETRIC) / (SYMMETRIC - ASYMMETRIC), 0, 1))
    return weight * symmetric + (1 - weight) * HIDDEN * extents[0], float(shares[best])


def _fitting(seen: _Seen, points: NDArray[np.float64], tolerance_m: float) -> NDArray[np.bool_]:
    """Which points (n, 3) may be the object's: not beside it, nor before what was measured."""
    pixels = seen.camera.project(points)
    inside = seen.camera.contains(pixels)
    x, y = np.rint(pixels[inside]).astype(int).T
    measured = seen.depth[y, x]
    before = seen.either[y, x] & (measured > 0) & (points[inside, 2] < measured - tolerance_m)
    fits = np.full(len(points), seen.is_cut)  # beyond the picture
    fits[inside] = seen.near[y, x] & ~before
    return fits


def _assumptions(seen: _Seen, box: _Box, stands: bool, levels: bool) -> tuple[str, ...]:
    """What was not measured."""
    away, across, tall = box.extents
    said = [
        f'pose and size taken from mask and depth: a box {across:.3f} m wide, {tall:.3f} m high '
        f'and {away:.3f} m deep, of which the far side is assumed'
    ]
    if levels:
        said.append('up taken from the plane about the mask')
    if not stands:
        said.append('no plane found that it stands on: the lowest point seen is taken for its foot')
    elif box.gap_m > max(0.25 * tall, 0.05 * seen.size_m):
        said.append(
            f'the object is assumed to stand on the plane {box.gap_m:.3f} m below its lowest point '
            'seen'
        )
    if seen.is_cut:
        said.append('the picture cuts the object: it may be larger')
    if seen.hidden.any():
        said.append(hidden_remark(seen.hidden.mean()))
    return tuple(said)
