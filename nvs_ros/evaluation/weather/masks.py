"""Faults of the mask, and shapes drawn at random in it.

Each function takes a mask (H, W) bool and an amount above 0 in its own unit, as in
:mod:`nvs_ros.evaluation.weather.pictures`.
"""

from __future__ import annotations

import cv2
import numpy as np

LEAST = 0.1
"""Share of the mask that is left however much it is eroded."""
BLOB_PX = 6.0
"""Scale of holes, pixels."""


def eroded(solid: np.ndarray, pixels: float, rng: np.random.Generator) -> np.ndarray:
    """A rim of that width is missing, but at most nine tenths of the mask."""
    inside = depth_inside(solid)
    return solid & (inside > min(pixels, float(np.quantile(inside[solid], 1 - LEAST))))


def dilated(solid: np.ndarray, pixels: float, rng: np.random.Generator) -> np.ndarray:
    """A rim of that width about the object belongs to the mask."""
    return depth_inside(~solid) <= pixels


def shifted(solid: np.ndarray, pixels: float, rng: np.random.Generator) -> np.ndarray:
    """The mask lies that far off, in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    x, y = round(pixels * np.cos(angle)), round(pixels * np.sin(angle))
    frame = np.array([[1, 0, x], [0, 1, y]], np.float64)
    return cv2.warpAffine(solid.astype(np.uint8), frame, solid.shape[::-1]) > 0


def holed(solid: np.ndarray, per_cent: float, rng: np.random.Generator) -> np.ndarray:
    """Blobs with that share of the mask's pixels are missing."""
    return solid & ~blobs(solid, per_cent / 100, rng)


def blobs(solid: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Random blobs (H, W) bool that cover a share (0..1) of a mask; a larger share has all of the
    smaller one's."""
    heights = cv2.GaussianBlur(rng.standard_normal(solid.shape, np.float32), (0, 0), BLOB_PX)
    return solid & first(solid, heights, share)


def first(chosen: np.ndarray, order: np.ndarray, share: float) -> np.ndarray:
    """The share (0..1) of the chosen pixels (H, W) bool that come first in an order (H, W)."""
    places = np.flatnonzero(chosen)
    taken = places[np.argsort(order.ravel()[places], kind='stable')][: round(share * len(places))]
    found = np.zeros(chosen.size, bool)
    found[taken] = True
    return found.reshape(chosen.shape)


def depth_inside(solid: np.ndarray) -> np.ndarray:
    """Distance (H, W) float32 of each pixel of a mask from its edge, in pixels; 0 outside."""
    return cv2.distanceTransform(solid.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
