"""Whether mask, depth and picture agree, and which mask the depth would give."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.measured import BALL, STEEPEST
from nvs_ros.geometry.occlusion import outline_pixels
from nvs_ros.geometry.support_plane import support_plane

AROUND = np.ones((13, 13), np.uint8)
"""Kernel in which edges of colour are looked for about an outline."""
STEP = 0.04
"""A step of depth within two pixels of more than so many sizes of the object is an edge, unless
:data:`STEEPEST` allows more."""
LOW = 0.03
"""What is lower above the plane that the object stands on, in sizes, may be that plane."""
REACH = 0.08
"""How far a mask grows at most, in sizes of the object."""
OWN, MOST = 0.6, 0.5
"""A connected surface belongs to the object when the mask has this share of it, or it has this
share of the mask."""


def outline_misfit(image: NDArray[np.uint8], solid: NDArray[np.bool_]) -> float:
    """How far the outline of a mask is off the edges of colour near it, 0 ... 1.

    Parameters
    ----------
    image : (H, W, 3) uint8
    solid : (H, W) bool
        Pixels of the object, at least one.
    """
    x, y = outline_pixels(solid).T
    strength = np.sqrt(squared_gradient(image, 1.0))
    best = cv2.dilate(strength, AROUND)[y, x]
    here = cv2.dilate(strength, np.ones((3, 3), np.uint8))[y, x]
    return float(1 - (here / np.maximum(best, 1e-6)).mean())


def squared_gradient(image: NDArray[np.uint8], sigma_px: float) -> NDArray[np.float32]:
    """Squared gradient (H, W) of a smoothed picture (H, W, 3), summed over its channels."""
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma_px)
    along = [cv2.Sobel(smooth, cv2.CV_32F, *axis, ksize=3) for axis in ((1, 0), (0, 1))]
    return (along[0] ** 2 + along[1] ** 2).sum(-1)


def mask_by_depth(
    solid: NDArray[np.bool_],
    camera: Camera,
    object_from_camera: NDArray[np.float64],
    depth_m: NDArray,
    size_m: float,
    *,
    any_slope: bool = False,
) -> NDArray[np.bool_]:
    """The mask that the depth would give: the surface that most of a mask lies on.

    That surface ends at steps of depth and at the plane below. Where nothing is measured, in the
    strip where the object may meet the plane, and where the surface encloses the plane (a plate),
    the given mask holds.

    Parameters
    ----------
    solid : (H, W) bool
        The given mask, at least one pixel.
    camera : Camera
        Of mask and depth.
    object_from_camera : (4, 4) float
        Metres; its z axis points up.
    depth_m : (H, W) float
        Along the optical axis, metres; NaN and 0 are unknown.
    size_m : float
        Size of the object.
    any_slope : bool
        The plane may have any slope, in case the z axis of the object does not point up.
    """
    distance = float(np.linalg.norm(object_from_camera[:3, 3]))
    size_px = camera.matrix[0, 0] * size_m / distance
    window = _window(solid, 2 * size_px)
    given, depth = solid[window], np.nan_to_num(np.asarray(depth_m[window], np.float32))
    known = depth > 0
    points = _points(camera, window, depth)
    pose = np.asarray(object_from_camera, np.float64)
    centre = -pose[:3, 3] @ pose[:3, :3]
    low = _low(points, known, given, None if any_slope else pose[2, :3], size_m)
    near = np.linalg.norm(points - centre, axis=-1) < 1.1 * BALL * size_m
    step_m = max(STEP * size_m, 2 * STEEPEST * distance / camera.matrix[0, 0])
    surface, edges = _surface(given, depth, known & near & ~low, step_m)
    reach = _about(given, REACH * size_px)
    open_ = ~known | (low & _about(surface, LOW * size_px + 2)) | (edges & _about(surface, 2))
    refined = (surface & reach) | (given & open_)
    refined |= _enclosed(given & low & ~refined, refined)
    found = np.zeros_like(solid)
    found[window] = refined
    return found


def _window(solid: NDArray[np.bool_], margin_px: float) -> tuple[slice, slice]:
    x, y, width, height = cv2.boundingRect(solid.astype(np.uint8))
    margin = round(margin_px)
    return np.s_[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin]


def _points(
    camera: Camera, window: tuple[slice, slice], depth: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Points (h, w, 3) of a window's pixels, camera optical frame."""
    rows, columns = np.indices(depth.shape)
    pixels = np.column_stack([columns.ravel() + window[1].start, rows.ravel() + window[0].start])
    return np.nan_to_num(camera.points(pixels, depth.ravel())).reshape(*depth.shape, 3)


def _low(
    points: NDArray[np.float64],
    known: NDArray[np.bool_],
    given: NDArray[np.bool_],
    up: NDArray[np.float64] | None,
    size_m: float,
) -> NDArray[np.bool_]:
    """Pixels (h, w) that may lie on the plane that the object stands on."""
    own = points[known & given]
    plane = support_plane(points[known & ~given], own, size_m, up) if len(own) else None
    if plane is None:
        return np.zeros_like(given)
    return known & (points @ plane.normal - plane.offset_m < LOW * size_m)


def _surface(
    given: NDArray[np.bool_],
    depth: NDArray[np.float32],
    usable: NDArray[np.bool_],
    step_m: float,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The connected surfaces (h, w) of usable pixels that belong to the given mask, and the pixels
    at steps between surfaces."""
    kernel = np.ones((3, 3), np.uint8)
    nearest = cv2.erode(np.where(usable, depth, np.float32(np.inf)), kernel)
    farthest = cv2.dilate(np.where(usable, depth, np.float32(-np.inf)), kernel)
    with np.errstate(over='ignore', invalid='ignore'):
        inner = usable & (farthest - nearest < step_m)
    count, parts = cv2.connectedComponents(inner.astype(np.uint8), connectivity=4)
    size = np.bincount(parts.ravel(), minlength=count)
    shared = np.bincount(parts[given], minlength=count)
    belongs = (shared >= OWN * size) | (shared >= MOST * shared[1:].sum())
    belongs[0] = False
    chosen = belongs[parts] & inner
    # Pixels at a step have the depth of one of its sides.
    beside = cv2.erode(np.where(chosen, depth, np.float32(np.inf)), np.ones((5, 5), np.uint8))
    return chosen | (usable & (np.abs(depth - beside) < step_m)), usable & ~inner


def _enclosed(chosen: NDArray[np.bool_], within: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those connected parts of the chosen pixels (h, w) that the other ones surround."""
    _, parts = cv2.connectedComponents(chosen.astype(np.uint8), connectivity=8)
    beside = cv2.dilate((~chosen & ~within).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return chosen & ~np.isin(parts, parts[beside & chosen])


def _about(chosen: NDArray[np.bool_], pixels: float) -> NDArray[np.bool_]:
    """What is at most so far from the chosen pixels."""
    away = cv2.distanceTransform((~chosen).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    return away <= pixels
