"""A mark on synthetic pictures that people see, beside the object."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BORDER = 1 / 24
"""Width of the marked border, in shorter sides of the picture; at least :data:`LEAST_PX`."""
LEAST_PX = 3
STRIPES_PX = 8
"""Period of the stripes, pixels."""
COLORS = ((255, 255, 255), (200, 0, 160))
"""Of the stripes: white, and a purple that is rare in photographs."""
CLEAR_PX = 3
"""Distance of the mark from the object, pixels."""
NO_ROOM = 'the visible mark has no room beside the object'
"""Warning of a view whose border is covered by the object."""
LEAST_SHARE = 0.25
"""Share of the border that is marked, below which :data:`NO_ROOM` is said."""


def marked(
    image: NDArray[np.uint8], mask: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Draw stripes along the border of a picture, but neither on the object nor close to it.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB of a finished view, with what was measured of it; not changed.
    mask : (H, W) uint8
        Coverage by the object: where it is above 0 the picture stays as it is.

    Returns
    -------
    image : (H, W, 3) uint8
    warnings : tuple of str
        :data:`NO_ROOM`, or nothing.
    """
    height, width = mask.shape
    border = max(LEAST_PX, round(BORDER * min(height, width)))
    free = np.ones((height, width), bool)
    free[border:-border, border:-border] = False
    size = free.sum()
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * CLEAR_PX + 1,) * 2)
    free &= cv2.dilate((mask > 0).astype(np.uint8), around) == 0
    rows, columns = np.indices((height, width), sparse=True)
    stripe = (rows + columns) % STRIPES_PX < STRIPES_PX // 2
    drawn = np.where(stripe[..., None], COLORS[1], COLORS[0]).astype(np.uint8)
    enough = free.sum() >= LEAST_SHARE * size
    return np.where(free[..., None], drawn, image), () if enough else (NO_ROOM,)
