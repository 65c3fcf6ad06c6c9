"""How close a synthesised view is to the true picture."""

from __future__ import annotations

import numpy as np


def psnr(image: np.ndarray, truth: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio of (H, W, 3) uint8 pictures, dB; infinite when they are equal.

    Parameters
    ----------
    weight : (H, W), optional
        Weight of each pixel, not negative and not all zero; all pixels alike when omitted.
    """
    if image.shape != truth.shape:
        raise ValueError(f'expected pictures of one shape, got {image.shape} and {truth.shape}')
    squared = np.square(image.astype(np.float64) - truth.astype(np.float64)).mean(-1)
    error = np.average(squared, weights=weight)
    return float(10 * np.log10(255**2 / error)) if error > 0 else float('inf')


def foreground_psnr(image: np.ndarray, truth: np.ndarray, true_mask: np.ndarray) -> float:
    """PSNR over the pixels that the object truly covers, dB."""
    return psnr(image, truth, true_mask.astype(np.float64))


def mask_iou(mask: np.ndarray, true_mask: np.ndarray) -> float:
    """Intersection over union of two (H, W) masks, object where more than half covered; 1 when
    both are empty."""
    a, b = mask > 127, true_mask > 127
    union = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / union) if union else 1.0
