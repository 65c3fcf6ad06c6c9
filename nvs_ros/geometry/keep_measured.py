"""Measurements take precedence over the network: pixels that a finished view takes from measured
surface, and pixels that must stay empty."""

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
"""Width in pixels over which measured pixels fade into the synthesised view at their border."""
POINTS_PER_PIXEL = 1.5
"""Measured points per pixel, on average, for which the resolution of the layer is chosen."""
LARGEST = 2048
"""Longest side of the image in which points are drawn, pixels."""


def keep_measured(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    surface: Surface,
    target: TargetCamera,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Put measured surface over a finished view, at the resolution of the measurement.

    The points that the target camera sees are drawn for the canonical camera at the same place, and
    that image is warped like the network's own: exact for roll, aim, intrinsics and distortion.
    Pixels inside measured surface show nothing imagined; at its border both are blended.

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
        The larger of the given coverage and ``measured``.
    measured : (H, W) uint8
        Share of each pixel that was measured, 0 ... 255.
    """
    layer = _layer(surface, target)
    if layer is None:
        return image, mask, np.zeros_like(mask)
    measured = layer[..., 3]
    rest = 1 - measured[..., None] / np.float32(255)
    mixed = np.clip(np.rint(layer[..., :3] + rest * (image.astype(np.float32) - 255)), 0, 255)
    # Interpolation overshoots beside the border: pixels without coverage stay as they were.
    image = np.where(measured[..., None] > 0, mixed, image).astype(np.uint8)
    return image, np.maximum(mask, measured), measured


def clear_empty(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    measurement: Measurement,
    target: TargetCamera,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Remove from the network's image what it drew where the cameras saw empty space.

    Parameters
    ----------
    image : (S, S, 3) uint8
        RGB on white, of ``target.canonical_camera``.
    mask : (S, S) uint8
        Coverage by the object.
    measurement : Measurement
        In the object frame of the target. One without possible cells removes nothing.
    target : TargetCamera

    Returns
    -------
    image : (S, S, 3) uint8
        White where the object cannot be.
    mask : (S, S) uint8
        0 where the object cannot be.
    """
    if not measurement.possible.any():
        return image, mask
    empty = ~possible_pixels(measurement, target.canonical_camera, target.object_from_canonical)
    image, mask = image.copy(), mask.copy()
    image[empty], mask[empty] = 255, 0
    return image, mask


def _layer(surface: Surface, target: TargetCamera) -> NDArray[np.uint8] | None:
    """Measured surface as the target camera sees it: RGB on white and coverage (H, W, 4) uint8.

    None when the target sees no measured point.
    """
    own = target.canonical_camera
    colors, known = splat(surface, own, target.object_from_canonical)
    if not known.any():
        return None
    camera, pose = target.camera, target.object_from_camera
    canonical_from_camera = target.object_from_canonical[:3, :3].T @ pose[:3, :3]
    rays = middle_rays(own) @ canonical_from_camera
    finest = 1 / max(minification(own, camera, canonical_from_camera, rays), 1e-3)
    # As fine as the points allow, but no finer than the requested camera.
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
    """Number of points whose normals face the target."""
    towards = target.object_from_canonical[:3, 3].astype(np.float32) - surface.points
    return int(((towards * surface.normals).sum(1) > 0).sum())


def _resized(camera: Camera, size: int) -> Camera:
    """The same field of view with an image of ``size`` pixels a side."""
    zoom = camera.matrix[0, 0] / (CANONICAL_FOCAL * camera.width)
    return Camera.canonical(size, zoom)


def _soft(colors: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """RGB on white and coverage (S, S, 4); gaps of one pixel are filled, the border fades."""
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
