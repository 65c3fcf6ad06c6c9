"""The size of an object, estimated from depth or mask when it is not given."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.like_mask import check_like_mask


def object_size(
    solid: NDArray[np.bool_],
    camera: Camera,
    object_from_camera: NDArray[np.float64],
    camera_from_canonical: NDArray[np.float64],
    object_size_m: float | None,
    depth_m: NDArray | None,
) -> tuple[float, tuple[str, ...]]:
    """Longest side of the object's bounding box, in metres, and what was assumed for it.

    The given size if there is one; else from the depth inside the mask (within 8 % for boxes and
    ellipsoids at 1 mm of noise); else from the extent of the mask (up to 60 % too large for a box
    seen over a corner, 30 % too small for a long object seen end on).

    Parameters
    ----------
    solid : bool (H, W)
        Pixels of the object.
    camera : Camera
        Of the mask.
    object_from_camera : ndarray (4, 4)
        Metres.
    camera_from_canonical : ndarray (3, 3)
        Rotation from the canonical camera, which looks straight at the object's centre.
    object_size_m : float or None
        The given size.
    depth_m : float (H, W) or None
        Metres along the optical axis; NaN and 0 are unknown.

    Raises
    ------
    ValueError
        The given size is not positive and finite, the depth has another shape than the mask, or the
        mask is nowhere near the object that the pose places.
    """
    if object_size_m is not None:
        if not 0 < object_size_m < math.inf:
            raise ValueError(f'object_size_m: expected a positive number, got {object_size_m}')
        return float(object_size_m), ()
    distance = float(np.linalg.norm(object_from_camera[:3, 3]))
    extent = _extent(solid, camera, camera_from_canonical) * distance
    assumptions = (
        f'object size {extent:.3f} m taken from the extent of the mask '
        f'at the distance of the object, {distance:.3f} m',
    )
    if depth_m is None:
        return extent, assumptions
    depth_m = np.asarray(depth_m)
    check_like_mask(solid.shape, depth_m=depth_m)
    points = _surface(solid, camera, object_from_camera, depth_m)
    near = points[np.linalg.norm(points, axis=1) < 1.5 * extent]
    if len(near) < 50:
        remark = f'no depth inside the mask agrees with the pose ({len(points)} values)'
        return extent, (*assumptions, remark)
    # The origin is the centre of the box, so the visible half gives the size of the hidden one.
    size = 2 * float(np.percentile(np.abs(near), 99.8, axis=0).max())
    return size, (f'object size {size:.3f} m taken from the depth inside the mask',)


def _extent(
    solid: NDArray[np.bool_], camera: Camera, camera_from_canonical: NDArray[np.float64]
) -> float:
    """Larger side of the mask as the canonical camera sees it, as a fraction of the distance."""
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


def _surface(
    solid: NDArray[np.bool_],
    camera: Camera,
    object_from_camera: NDArray[np.float64],
    depth_m: NDArray,
) -> NDArray[np.float64]:
    """Points (N, 3) of the visible surface in the object frame, without the edge of the mask."""
    inner = cv2.erode(solid.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
    with np.errstate(invalid='ignore'):
        rows, columns = np.nonzero(inner & np.isfinite(depth_m) & (depth_m > 0))
    points = camera.points(np.column_stack([columns, rows]), depth_m[rows, columns])
    return points @ object_from_camera[:3, :3].T + object_from_camera[:3, 3]
