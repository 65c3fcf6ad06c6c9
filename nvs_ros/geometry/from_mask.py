"""Pose and size of an object from its mask and depth alone.

A camera sees only the front. The foot of the object is on the plane below; its width is that of the
silhouette at the depth of its outline. How far it reaches behind the visible surface follows from
symmetry: most things look much the same after half a turn about their vertical axis. The axis is
placed where the measured points, rotated about it, lie inside the silhouette and not in front of
the measured depth. Where no such axis fits, the far side is assumed a little behind the last point.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.like_mask import check_like_mask
from nvs_ros.geometry.measured import SMALLEST_STEP, STEEPEST, same_surface
from nvs_ros.geometry.occlusion import hidden_outline, hidden_remark, outline_pixels
from nvs_ros.geometry.rigid import check_rotation, rigid
from nvs_ros.geometry.support_plane import Plane, support_plane

LEAST_PIXELS = 60
"""Fewest mask pixels with depth, without those at depth edges."""
TRIED = 33
"""Number of places tried for the axis of symmetry."""
TURNED = 600
"""About how many points are rotated around each of them."""
TOLERANCE = 0.03
"""How far rotated points may lie in front of the measured depth, in sizes of the object."""
PLATEAU = 0.02
"""Places count as equally good when their share of fitting points is this close to the best."""
ROUND = 0.95
"""Assumed depth over width of the object where the equally good places allow it."""
SHADOW = 0.5
"""Most distance of the far side behind the last point seen, over the length of ground that the
object's height hides from the camera."""
HIDDEN = 1.12
"""Depth of an asymmetric object over the depth of its visible part, from generated objects."""
ASYMMETRIC, SYMMETRIC = 0.5, 1.0
"""Share of fitting points at which symmetry is not used at all, and at which it alone decides."""
FOOT = 0.1
"""An object that stands on a plane hides at least this share of the base of its box."""
LIMB = 0.05
"""Most depth of the outline behind the points next to it, over the size of the silhouette."""
STRAY = 2.5
"""Points farther from the median than so many sizes of the silhouette are not the object's."""


@dataclass(frozen=True, eq=False)
class Place:
    """Pose and size of an object, estimated from its mask and depth.

    Attributes
    ----------
    camera_from_object : (4, 4) float64
        Metres; origin in the centre of the object's box, z up. The axes are those of the reference
        frame if one was given. Otherwise x points horizontally from the object towards the camera,
        or, when the camera looks straight down, to the lower edge of the image.
    extents_m : (3,) float64
        Sides of the box: away from the camera, across, up.
    assumptions : tuple of str
        What was assumed instead of measured, in sentences for a person.
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
    """Estimate pose and size of an object that stands on something.

    Parameters
    ----------
    solid : (H, W) bool
        Pixels of the object.
    camera : Camera
        Of mask and depth.
    depth_m : (H, W) float
        Along the optical axis (REP-118), metres; NaN and 0 are unknown.
    camera_from_reference : (3, 3) float, optional
        Rotation from a frame whose z axis points up. When omitted, up is the normal of the plane
        found in the depth around the mask.
    unknown : (H, W) bool, optional
        Pixels of things that may hide a part of the object.

    Raises
    ------
    ValueError
        Shapes that differ from the mask's, a reference that is no rotation, too little depth on the
        mask, or no plane when ``camera_from_reference`` is omitted.
    """
    depth = _checked_depth(solid, depth_m, unknown)
    if camera_from_reference is not None:
        camera_from_reference = check_rotation(camera_from_reference, 'camera_from_reference')
    seen = _Seen.of(solid, camera, depth, unknown)
    up = None if camera_from_reference is None else camera_from_reference[:, 2]
    plane = support_plane(seen.around, seen.points, seen.size_m, up)
    if up is not None:
        up_direction = up
    elif plane is not None:
        up_direction = plane.normal
    else:
        raise ValueError(
            f'expected a plane that the object stands on in the depth about the mask '
            f'({len(seen.around)} values), found none: set reference_frame'
        )
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
    """Depth (H, W) float32 in metres, 0 where it is unknown.

    Raises
    ------
    ValueError
        ``depth_m`` or ``unknown`` has another shape than the mask.
    """
    check_like_mask(solid.shape, depth_m=depth_m, unknown=unknown)
    depth = np.asarray(depth_m, np.float32)
    with np.errstate(invalid='ignore'):
        return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


@dataclass(frozen=True, eq=False)
class _Seen:
    """What was measured of an object, in metres in the camera's optical frame.

    Attributes
    ----------
    either : (H, W) bool
        Pixels of the object or of things that may hide it.
    near : (H, W) bool
        ``either`` grown by two pixels.
    depth : (H, W) float32
        0 where it is unknown.
    camera : Camera
        Of mask and depth.
    points : (n, 3)
        Of the object, without its depth edges.
    outline : (m, 3)
        Centres of its outermost pixels, at about the depth of the points next to them.
    around : (k, 3)
        Of what surrounds the object.
    size_m : float
        Longer side of the silhouette at the median depth.
    is_cut : bool
        Whether the mask reaches the edge of the image.
    hidden : (m,) bool
        Where the outline is the edge of something in front of the object.
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
        # Round surfaces recede at their outline; depth beyond LIMB belongs to the background.
        at_m = np.clip(depth[rows, columns], beside, beside + LIMB * rough_m)
        outline = camera.points(edge, at_m)
        last_row, last_column = np.array(solid.shape) - 1
        cut = (rows == 0) | (columns == 0) | (rows == last_row) | (columns == last_column)
        window, margin = np.zeros_like(solid), max(width, height)
        first_row, first_column = max(0, y - margin), max(0, x - margin)
        window[first_row : y + height + margin, first_column : x + width + margin] = True
        either = solid | unknown
        # Includes ``unknown``: the table may have a label of its own.
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
    """Drop isolated parts under three pixels wide: where a mask leaks, they show the background.

    The mask is returned as it is when less than half of it would remain.
    """
    thick = cv2.erode(inner.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    _, parts = cv2.connectedComponents(inner.astype(np.uint8), connectivity=4)
    kept = np.isin(parts, np.unique(parts[thick])) & inner
    return kept if 2 * kept.sum() > inner.sum() else inner


def _grown(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * pixels + 1,) * 2, np.uint8)) > 0


def _points(
    chosen: NDArray[np.bool_], camera: Camera, depth: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Points (n, 3) of the chosen pixels, and those pixels (n, 2) x, y."""
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
        Columns in the optical frame: x horizontally towards the camera, y across, z up.
    centre : (3,)
        Optical frame, metres.
    extents : (3,)
        Sides along the axes, metres.
    gap_m : float
        Height of the lowest visible point above the plane; 0 without a plane.
    symmetry : float
        Share of points that fit the best axis of symmetry.
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
        # Once more, towards the middle between both sides: the median of the points is not there.
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
    """Whether the object may stand on the base of its box: it then hides a part of that base."""
    across = np.linspace(-0.4, 0.4, 9)
    base = np.stack(np.meshgrid(across, across, [-0.5]), -1).reshape(-1, 3) * box.extents
    points = box.centre + base @ box.axes.T
    return bool(_fitting(seen, points, TOLERANCE * seen.size_m).mean() > FOOT)


def _level_axes(middle: NDArray[np.float64], up: NDArray[np.float64]) -> NDArray[np.float64]:
    """Axes as columns: x horizontally from a point to the camera, y across, z up."""
    y = np.cross(up, -middle / np.linalg.norm(middle))
    if np.linalg.norm(y) < np.sin(np.radians(5)):
        y = np.cross(up, [0.0, 1.0, 0.0])  # from above: the lower edge of the image
    y /= np.linalg.norm(y)
    return np.column_stack([np.cross(y, up), y, up])


def _widened(
    low: float,
    high: float,
    depth: float,
    outline: NDArray[np.float64],
    hidden: NDArray[np.bool_],
) -> tuple[float, float]:
    """Both sides of the silhouette; hidden ones move out until the width is about the depth."""
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
    """Depth of the object away from the camera, and the best share of points that fit symmetry."""
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
    """Which points (n, 3) may be on the object: not beside it or in front of measured depth.

    Outside the image they may be on it only where the mask is cut.
    """
    pixels = seen.camera.project(points)
    inside = seen.camera.contains(pixels)
    x, y = np.rint(pixels[inside]).astype(int).T
    measured = seen.depth[y, x]
    before = seen.either[y, x] & (measured > 0) & (points[inside, 2] < measured - tolerance_m)
    fits = np.full(len(points), seen.is_cut)  # beyond the image
    fits[inside] = seen.near[y, x] & ~before
    return fits


def _assumptions(seen: _Seen, box: _Box, stands: bool, levels: bool) -> tuple[str, ...]:
    """What was assumed instead of measured, in sentences for a person."""
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
