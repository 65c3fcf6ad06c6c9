"""How close a synthesised view is to the true image."""

from __future__ import annotations

import numpy as np
from skimage.metrics import structural_similarity

from nvs_ros.evaluation.perceptual import Perceptual
from nvs_ros.silhouette import mask_iou, silhouette


def psnr(image: np.ndarray, truth: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio of (H, W, 3) uint8 images, dB; infinite if they are equal.

    Parameters
    ----------
    image, truth : (H, W, 3) uint8
    weight : (H, W), optional
        Weight of each pixel, not negative and not all zero; equal weights when omitted.

    Raises
    ------
    ValueError
        The images differ in shape.
    """
    if image.shape != truth.shape:
        raise ValueError(f'expected pictures of one shape, got {image.shape} and {truth.shape}')
    squared = np.square(image.astype(np.float64) - truth.astype(np.float64)).mean(-1)
    error = np.average(squared, weights=weight)
    return float(10 * np.log10(255**2 / error)) if error > 0 else float('inf')


def foreground_psnr(image: np.ndarray, truth: np.ndarray, true_mask: np.ndarray) -> float:
    """PSNR, dB, over the pixels of the object, weighted by its true coverage (H, W) uint8."""
    return psnr(image, truth, true_mask.astype(np.float64))


def ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity of (H, W, 3) uint8 images, -1..1.

    Wang et al. 2004: Gaussian window of 1.5 pixels, mean over the channels.
    """
    return float(
        structural_similarity(
            image,
            truth,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def measure(
    image: np.ndarray, truth: np.ndarray, true_mask: np.ndarray, perceptual: Perceptual | None
) -> dict[str, float]:
    """All metrics of one image: ``psnr`` and ``fg_psnr`` (dB), ``ssim``, ``iou`` and, if LPIPS is
    available, ``lpips``."""
    measured = {
        'psnr': psnr(image, truth),
        'ssim': ssim(image, truth),
        'fg_psnr': foreground_psnr(image, truth, true_mask),
        'iou': mask_iou(silhouette(image), true_mask),
    }
    return measured | ({} if perceptual is None else {'lpips': perceptual(image, truth)})
