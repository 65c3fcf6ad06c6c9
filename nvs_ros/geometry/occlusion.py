"""Where the outline of a mask is the edge of something in front of the object, and what that is."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.support_plane import support_plane

BEFORE = 0.1
"""Least distance of an occluder in front of the outline, in sizes of the object."""
BESIDE = np.ones((5, 5), np.uint8)
"""Kernel that reaches two pixels, the widest gap between two masks that still count as touching."""
LOW = 0.03
"""What is lower above the plane below than so many sizes of the object is the plane itself."""


def outline_pixels(solid: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Outermost pixels (m, 2) x, y of a mask (H, W) with at least one pixel."""
    contours, _ = cv2.findContours(solid.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.concatenate(contours, dtype=np.int32)[:, 0]


def hidden_outline(
    solid: NDArray[np.bool_],
    unknown: NDArray[np.bool_],
    depth_m: NDArray | None,
    size_m: float,
) -> NDArray[np.bool_]:
    """Which of :func:`outline_pixels`, (m,) bool, touch something in front of the object.

    Parameters
    ----------
    solid : (H, W) bool
        Pixels of the object, at least one.
    unknown : (H, W) bool
        Pixels of other things.
    depth_m : (H, W) float, optional
        Metres; NaN and 0 are unknown. When omitted, all other things count as in front.
    size_m : float
        Size of the object.
    """
    x, y = outline_pixels(solid).T
    unknown = unknown & ~solid
    if depth_m is None:
        return cv2.dilate(unknown.astype(np.uint8), BESIDE)[y, x] > 0
    depth = np.nan_to_num(np.asarray(depth_m, np.float32))
    known = depth > 0
    # Where depth is unknown, other things count as near and the object as far.
    near = np.where(unknown, np.where(known, depth, 0), np.inf)
    own = np.where(solid & known, depth, np.inf)
    return cv2.erode(near, BESIDE)[y, x] < cv2.erode(own, BESIDE)[y, x] - BEFORE * size_m


def things_before(
    solid: NDArray[np.bool_],
    camera: Camera,
    object_from_camera: NDArray[np.float64],
    depth_m: NDArray,
    size_m: float,
) -> NDArray[np.bool_]:
    """Find what stands before an object and touches its mask, in the depth about it.

    Where something nearer begins at the outline, the outline is an edge of that thing and not of
    the object. The thing is what is connected to that place and nearer than the object there,
    without the plane that both stand on.

    Parameters
    ----------
    solid : (H, W) bool
        Pixels of the object, at least one.
    camera : Camera
        Of mask and depth.
    object_from_camera : (4, 4) float
        Metres; its z axis points up.
    depth_m : (H, W) float
        Along the optical axis, metres; NaN and 0 are unknown.
    size_m : float
        Size of the object.

    Returns
    -------
    (H, W) bool
        No pixel where nothing is before the object.
    """
    depth = np.nan_to_num(np.asarray(depth_m, np.float32))
    others = ~solid & (depth > 0)
    hidden = hidden_outline(solid, others, depth, size_m)
    found = np.zeros_like(solid)
    if not hidden.any():
        return found
    x, y = outline_pixels(solid)[hidden].T
    own = np.where(solid & (depth > 0), depth, np.float32(0))
    at_edge = np.zeros_like(solid)
    at_edge[y, x] = True
    limit = float(cv2.dilate(own, BESIDE)[y, x].max()) - BEFORE * size_m
    nearer = others & (depth < limit)
    nearer &= ~_on_plane(nearer, others, solid, camera, object_from_camera, depth, size_m)
    _, parts = cv2.connectedComponents(nearer.astype(np.uint8), connectivity=8)
    beside = cv2.dilate(at_edge.astype(np.uint8), BESIDE) > 0
    touching = np.unique(parts[beside & nearer])
    found = nearer & np.isin(parts, touching)
    # Depth is often missing at the edge of what is before.
    return found | (cv2.dilate(found.astype(np.uint8), BESIDE) > 0) & ~solid & (depth == 0)


def _on_plane(
    nearer: NDArray[np.bool_],
    others: NDArray[np.bool_],
    solid: NDArray[np.bool_],
    camera: Camera,
    object_from_camera: NDArray[np.float64],
    depth: NDArray[np.float32],
    size_m: float,
) -> NDArray[np.bool_]:
    """Which of the nearer pixels (H, W) lie on the plane that the object stands on."""
    x, y, width, height = cv2.boundingRect(solid.astype(np.uint8))
    margin = max(width, height)
    window = np.zeros_like(solid)
    window[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin] = True
    around, points = (_points(chosen, camera, depth) for chosen in (others & window, solid))
    up = np.asarray(object_from_camera, np.float64)[2, :3]
    plane = support_plane(
        around, points[np.isfinite(points).all(1) & (points[:, 2] > 0)], size_m, up
    )
    low = np.zeros_like(solid)
    if plane is not None:
        low[nearer] = plane.heights(_points(nearer, camera, depth)) < LOW * size_m
    return low


def _points(chosen: NDArray[np.bool_], camera: Camera, depth: NDArray) -> NDArray[np.float64]:
    """Points (n, 3) of the chosen pixels, camera optical frame."""
    rows, columns = np.nonzero(chosen)
    return camera.points(np.column_stack([columns, rows]), depth[rows, columns])


def hidden_remarks(
    solid: NDArray[np.bool_],
    unknown: NDArray[np.bool_],
    depth_m: NDArray | None,
    size_m: float,
) -> tuple[str, ...]:
    """What to report of :func:`hidden_outline`; nothing where nothing is hidden."""
    share = float(hidden_outline(solid, unknown, depth_m, size_m).mean())
    return (hidden_remark(share),) if share else ()


def hidden_remark(share: float) -> str:
    """The assumption to report when this share (0 ... 1) of the outline is hidden."""
    return (
        f'something hides the object along {share:.0%} of its outline: what is behind it is not '
        'known, and the object may be larger'
    )
