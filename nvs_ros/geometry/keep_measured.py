"""What was measured stays measured: pixels that a finished view takes from the depth camera, and
those that it may not fill."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from nvs_ros.geometry.camera import CANONICAL_FOCAL, Camera
from nvs_ros.geometry.guide import Measurement, possible_pixels, splat
from nvs_ros.geometry.measured import Surface
from nvs_ros.geometry.resample import middle_rays, minification, redraw
from nvs_ros.geometry.target import TargetCamera

BLENDED = 2.0
"""At the border of what was measured the view fades in over so many pixels."""
POINTS_PER_PIXEL = 1.5
"""Measured points in a pixel, on the average, where the resolution follows from them."""
LARGEST = 2048
"""Longest side of the picture in which points are collected, pixels."""


def keep_measured(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    surface: Surface,
    target: TargetCamera,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Put what was measured over a finished view, at the resolution that was measured.

    The points that the target camera sees are collected by a camera at the same place that looks
    at the object, and that picture is warped like the network's own: exact for roll, aim,
    intrinsics and distortion. A pixel in the middle of measured surface shows nothing imagined.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB on white, of ``target.camera``.
    mask : (H, W) uint8
        Coverage by the object.
    surface : Surface
        In the object frame of the target.
    target : TargetCamera

    Returns
    -------
    image : (H, W, 3) uint8
    mask : (H, W) uint8
        At least as much as was measured.
    measured : (H, W) uint8
        Share of each pixel that was measured, 0 ... 255.
    """
    layer = _layer(surface, target)
    if layer is None:
        return image, mask, np.zeros_like(mask)
    measured = layer[..., 3]
    rest = 1 - measured[..., None] / np.float32(255)
    mixed = np.clip(np.rint(layer[..., :3] + rest * (image.astype(np.float32) - 255)), 0, 255)
    # Interpolation overshoots beside the border: what was not measured stays as it was.
    image = np.where(measured[..., None] > 0, mixed, image).astype(np.uint8)
    return image, np.maximum(mask, measured), measured


def clear_empty(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    measurement: Measurement,
    target: TargetCamera,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Take out of the network's picture what it imagined where the cameras saw empty space.

    Parameters
    ----------
    image : (S, S, 3) uint8
        RGB on white, of ``target.canonical_camera``.
    mask : (S, S) uint8
        Coverage by the object.
    measurement : Measurement
        In the object frame of the target. One that knows of no empty space takes nothing.
    target : TargetCamera

    Returns
    -------
    image : (S, S, 3) uint8
        White where nothing can be.
    mask : (S, S) uint8
        0 there.
    """
    if not measurement.possible.any():
        return image, mask
    empty = ~possible_pixels(measurement, target.canonical_camera, target.object_from_canonical)
    return np.where(empty[..., None], 255, image).astype(np.uint8), np.where(empty, 0, mask).astype(
        np.uint8
    )


def _layer(surface: Surface, target: TargetCamera) -> NDArray[np.uint8] | None:
    """RGB on white and coverage (H, W, 4) of what was measured, as the target camera sees it."""
    own = target.canonical_camera
    colors, known = splat(surface, own, target.object_from_canonical)
    if not known.any():
        return None
    camera, pose = target.camera, target.object_from_camera
    canonical_from_camera = target.object_from_canonical[:3, :3].T @ pose[:3, :3]
    rays = middle_rays(own) @ canonical_from_camera
    finest = 1 / max(minification(own, camera, canonical_from_camera, rays), 1e-3)
    # As fine as there are points for, but no finer than the camera that is asked for.
    finer = min(math.sqrt(_seen(surface, target) / known.sum() / POINTS_PER_PIXEL), finest)
    if finer > 1:
        own = _resized(own, min(LARGEST, math.ceil(finer * own.width)))
        colors, known = splat(surface, own, target.object_from_canonical)
    picture = _soft(colors, known)
    level = np.allclose(canonical_from_camera, np.eye(3), rtol=0, atol=1e-9)
    if level and own is camera:
        return picture
    ratio = minification(own, camera, canonical_from_camera, rays)
    return redraw(picture, own, camera, canonical_from_camera, ratio)


def _seen(surface: Surface, target: TargetCamera) -> int:
    """Points that face the target."""
    towards = target.object_from_canonical[:3, 3].astype(np.float32) - surface.points
    return int(((towards * surface.normals).sum(1) > 0).sum())


def _resized(camera: Camera, size: int) -> Camera:
    """The canonical camera with other pixels."""
    zoom = camera.matrix[0, 0] / (CANONICAL_FOCAL * camera.width)
    return Camera.canonical(size, zoom)


def _soft(colors: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """RGB on white and coverage (S, S, 4); gaps of a pixel filled, faded at the border."""
    whole = cv2.morphologyEx(known.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    gaps = (whole > 0) & ~known
    if gaps.any():
        sums = cv2.boxFilter(colors * known[..., None], -1, (3, 3), normalize=False)
        counts = cv2.boxFilter(known.astype(np.float32), -1, (3, 3), normalize=False)
        filled = gaps & (counts > 0)
        colors = colors.copy()
        colors[filled] = sums[filled] / counts[filled][:, None]
        whole[gaps & ~filled] = 0
    inside = cv2.distanceTransform(whole, cv2.DIST_L2, 3)
    share = np.clip(inside / BLENDED, 0, 1)[..., None]
    on_white = share * colors + (1 - share) * 255
    return np.rint(np.concatenate([on_white, 255 * share], -1)).astype(np.uint8)
