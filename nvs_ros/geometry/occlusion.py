"""Where the outline of a mask is the edge of something in front of the object."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BEFORE = 0.1
"""Least distance of an occluder in front of the outline, in sizes of the object."""
BESIDE = np.ones((5, 5), np.uint8)
"""Kernel that reaches two pixels, the widest gap between two masks that still count as touching."""


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


def hidden_remark(share: float) -> str:
    """The assumption to report when this share (0 ... 1) of the outline is hidden."""
    return (
        f'something hides the object along {share:.0%} of its outline: what is behind it is not '
        'known, and the object may be larger'
    )
