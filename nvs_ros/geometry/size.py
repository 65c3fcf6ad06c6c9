"""How large the object is, when nobody says so."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from nvs_ros.geometry.camera import Camera


def object_size(
    solid: NDArray[np.bool_],
    camera: Camera,
    object_from_camera: NDArray[np.float64],
    camera_from_canonical: NDArray[np.float64],
    object_size_m: float | None,
    depth_m: NDArray | None,
) -> tuple[float, tuple[str, ...]]:
    """Longest side of the object's bounding box, in metres, and what was assumed for it.

    Given: taken. Else from the depth inside the mask; else from the mask's extent.

    Raises
    ------
    ValueError
        A given size that is no size, depth of another shape, a mask in which no ray ends.
    """
    if object_size_m is not None:
        if not 0 < object_size_m < math.inf:
            raise ValueError(f'object_size_m: expected a positive number, got {object_size_m}')
        return float(object_size_m), ()
    distance = float(np.linalg.norm(object_from_camera[:3, 3]))
    extent = _extent(solid, camera, camera_from_canonical) * distance
    if depth_m is not None:
        depth_m = np.asarray(depth_m)
        if depth_m.shape != solid.shape:
            raise ValueError(f'depth_m: expected {solid.shape} like the mask, got {depth_m.shape}')
        size = _size_from_depth(solid, camera, object_from_camera, depth_m, extent)
        if size is not None:
            return size, (f'object size {size:.3f} m taken from the depth inside the mask',)
    assumption = (
        f'object size {extent:.3f} m taken from the extent of the mask '
        f'at the distance of the object, {distance:.3f} m'
    )
    return extent, (assumption,)


def _extent(
    solid: NDArray[np.bool_], camera: Camera, camera_from_canonical: NDArray[np.float64]
) -> float:
    """Larger side of the mask as the canonical camera sees it, over distance."""
    contours, _ = cv2.findContours(solid.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = np.concatenate(contours)[:, 0].astype(np.float64)
    corners = (outline[:, None] + [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]).reshape(
        -1, 2
    )
    rays = camera.unproject(corners) @ camera_from_canonical
    rays = rays[rays[:, 2] > 0.1]
    if not len(rays):
        raise ValueError(
            'mask: expected it near the object that object_from_camera places, got it elsewhere'
        )
    slopes = rays[:, :2] / rays[:, 2:]
    return float(np.ptp(slopes, axis=0).max())


def _size_from_depth(
    solid: NDArray[np.bool_],
    camera: Camera,
    object_from_camera: NDArray[np.float64],
    depth_m: NDArray,
    extent: float,
) -> float | None:
    """Twice the largest coordinate of the visible surface, the origin being the centre of the box.

    None when fewer than 50 pixels of the mask have a depth near the object.
    """
    inner = cv2.erode(solid.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
    with np.errstate(invalid='ignore'):
        rows, columns = np.nonzero(inner & np.isfinite(depth_m) & (depth_m > 0))
    rays = camera.unproject(np.column_stack([columns, rows]))
    points = rays / rays[:, 2:] * depth_m[rows, columns, None]
    points = points @ object_from_camera[:3, :3].T + object_from_camera[:3, 3]
    points = points[np.linalg.norm(points, axis=1) < 1.5 * extent]
    if len(points) < 50:
        return None
    return 2 * float(np.percentile(np.abs(points), 99.5, axis=0).max())
