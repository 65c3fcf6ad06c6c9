"""The condition of a frame: what image, mask, pose and depth say of each other without the truth.

Bad weather shows in it: blur, noise and clipped light in the picture, a mask whose outline lies on
no edge, depth that is rough, missing or not where the pose says the object is.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from nvs_ros.geometry.agreement import outline_misfit, squared_gradient
from nvs_ros.geometry.canonical import SOLID, CanonicalView, coverage
from nvs_ros.geometry.occlusion import hidden_outline, outline_pixels
from nvs_ros.observation import Frame

AROUND_PX = 6
"""How far about the outline edges are looked for, pixels."""
STEP = 0.03
"""Least step of depth at an outline, in sizes of the object."""
BALL = 0.6
"""Radius about the object's centre in which its surface is, in sizes of the object."""
BLACK, WHITE = 2, 253
"""Values of a picture up to and from which it is clipped."""
FRONT = 0.25
"""Usual distance of the visible surface before the object's centre, in sizes of the object."""


class Condition(NamedTuple):
    """What is known of a frame's faults; each is 0 in the best case.

    Attributes
    ----------
    soft : float
        How blurred the picture is about the object, 0..1.
    grain : float
        Fine noise in it: logarithm of its share.
    clipped : float
        Share of the object's pixels that are black or white, 0..1.
    color_misfit : float
        How far the mask's outline is off the edges of colour near it, 0..1.
    depth_misfit : float
        Share of the outline without a step in depth, 0..1; 1 without depth.
    missing : float
        Share of the mask without depth, 0..1.
    strays : float
        Share of the measured points in the mask that are too far from the centre, 0..1.
    rough : float
        Median second difference of depth in the mask, in sizes of the object.
    displaced : float
        How far the visible surface is from where it usually is before the centre, in sizes.
    off_centre : float
        Distance of the silhouette's middle from the projected centre, in sizes of the object.
    too_large, too_small : float
        The silhouette's longer side above or below the size, in sizes of the object.
    hidden : float
        Share of the outline beside which something is nearer, 0..1.
    """

    soft: float
    grain: float
    clipped: float
    color_misfit: float
    depth_misfit: float
    missing: float
    strays: float
    rough: float
    displaced: float
    off_centre: float
    too_large: float
    too_small: float
    hidden: float


def condition_of(frame: Frame, view: CanonicalView) -> Condition:
    """The condition of a frame.

    Parameters
    ----------
    frame : Frame
    view : CanonicalView
        The frame as the network is shown it.
    """
    solid = coverage(np.asarray(frame.mask)) >= SOLID
    x, y, width, height = cv2.boundingRect(solid.astype(np.uint8))
    margin = 2 * AROUND_PX
    window = np.s_[
        max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin
    ]
    image, solid = np.ascontiguousarray(frame.image[window]), np.ascontiguousarray(solid[window])
    depth = None if frame.depth_m is None else np.asarray(frame.depth_m, np.float32)[window]
    inside = image[solid]
    clipped = (inside.max(-1) <= BLACK) | (inside.min(-1) >= WHITE)
    return Condition(
        *_sharpness(image, solid),
        float(clipped.mean()),
        outline_misfit(image, solid),
        *_depth_faults(frame, window, solid, depth, view.unit_m),
        *_silhouette_faults(view),
        _hidden(solid, depth, view.unit_m),
    )


def _sharpness(image: NDArray[np.uint8], solid: NDArray[np.bool_]) -> tuple[float, float]:
    """``soft`` and ``grain``.

    At a sharp edge the energy of the gradient halves when the picture is smoothed twice as wide; at
    a blurred one it stays, and of noise hardly anything is left.
    """
    near = cv2.dilate(solid.astype(np.uint8), np.ones((2 * AROUND_PX + 1,) * 2, np.uint8)) > 0
    fine, coarse = (float(squared_gradient(image, sigma)[near].mean()) for sigma in (1, 2))
    octaves = float(np.log2((fine + 1e-6) / (coarse + 1e-6)))
    return float(np.clip(1 - octaves, 0, 1)), max(0.0, octaves - 1)


def _depth_faults(
    frame: Frame,
    window: tuple[slice, slice],
    solid: NDArray[np.bool_],
    depth: NDArray[np.float32] | None,
    unit_m: float,
) -> tuple[float, float, float, float, float]:
    """``depth_misfit``, ``missing``, ``strays``, ``rough`` and ``displaced``."""
    if depth is None:
        return 1.0, 1.0, 0.0, 0.0, 0.0
    with np.errstate(invalid='ignore'):
        known = np.isfinite(depth) & (depth > 0)
    measured = known & solid
    if not measured.any():
        return 1.0, 1.0, 0.0, 0.0, 0.0
    filled = np.where(known, depth, np.float32(np.median(depth[measured]) + unit_m))
    kernel = np.ones((5, 5), np.uint8)
    step = cv2.dilate(filled, kernel) - cv2.erode(filled, kernel)
    x, y = outline_pixels(solid).T
    rows, columns = np.nonzero(measured)
    pixels = np.column_stack([columns + window[1].start, rows + window[0].start])
    points = frame.camera.points(pixels, depth[rows, columns])
    camera_from_object = -frame.object_from_camera[:3, 3] @ frame.object_from_camera[:3, :3]
    away = np.linalg.norm(points - camera_from_object, axis=1)
    second = np.abs(cv2.Laplacian(filled, cv2.CV_32F))[
        cv2.erode(measured.astype(np.uint8), kernel) > 0
    ]
    front = (camera_from_object[2] - np.median(points[:, 2])) / unit_m
    return (
        float((step[y, x] < STEP * unit_m).mean()),
        float(1 - measured.sum() / solid.sum()),
        float((away > BALL * unit_m).mean()),
        float(np.median(second)) / unit_m if len(second) else 0.0,
        float(abs(front - FRONT)),
    )


def _silhouette_faults(view: CanonicalView) -> tuple[float, float, float]:
    """``off_centre``, ``too_large`` and ``too_small``."""
    x, y, width, height = cv2.boundingRect((view.mask >= SOLID).astype(np.uint8))
    distance = float(np.linalg.norm(view.object_from_camera[:3, 3]))
    size_px = view.camera.matrix[0, 0] * view.unit_m / distance
    middle = np.array([x + (width - 1) / 2, y + (height - 1) / 2]) - view.camera.matrix[:2, 2]
    longer = float(max(width, height) / size_px)
    return (
        float(np.linalg.norm(middle) / size_px),
        max(0.0, longer - 1),
        max(0.0, 1 - longer),
    )


def _hidden(solid: NDArray[np.bool_], depth: NDArray[np.float32] | None, unit_m: float) -> float:
    if depth is None:
        return 0.0
    return float(hidden_outline(solid, ~solid & (np.nan_to_num(depth) > 0), depth, unit_m).mean())
