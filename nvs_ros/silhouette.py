"""The silhouette of an object in an image on white, and the IoU of masks."""

from __future__ import annotations

import cv2
import numpy as np

OBJECT_FROM = 24
"""A pixel whose darkest channel is this far below 255 belongs to the object; chosen on decoded
training images."""


def silhouette(image: np.ndarray) -> np.ndarray:
    """Separate an object from the white background it was drawn on.

    Background is every nearly white region that is connected to the border of the image. So white
    parts inside the object belong to the object, but white parts on its outline do not.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB on white.

    Returns
    -------
    mask : (H, W) uint8
        255 object, 0 background.
    """
    bright = (image.min(-1) > 255 - OBJECT_FROM).astype(np.uint8)
    framed = cv2.copyMakeBorder(bright, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, regions = cv2.connectedComponents(framed, connectivity=4)
    return np.where(regions[1:-1, 1:-1] == regions[0, 0], 0, 255).astype(np.uint8)


def mask_iou(mask: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks (H, W) uint8, thresholded at half coverage; 1 if both
    are empty."""
    a, b = mask > 127, other > 127
    union = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / union) if union else 1.0
