"""How close a synthesised view is to the true picture."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from skimage.metrics import structural_similarity

from nvs_ros.silhouette import mask_iou, silhouette
from nvs_ros.zero123.conditioning import network_images

Perceptual = Callable[[np.ndarray, np.ndarray], float]
"""LPIPS of two (H, W, 3) uint8 pictures."""
LPIPS_BACKBONE = 'alexnet-owt-7be5be79.pth'
"""The backbone as torchvision stores it; the rest of LPIPS comes with the package `lpips`."""


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


def ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity of (H, W, 3) uint8 pictures, -1..1.

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


def find_perceptual() -> tuple[Perceptual | None, str]:
    """LPIPS (AlexNet) where package and weights are on this machine; nothing is downloaded.

    Returns
    -------
    perceptual : callable or None
    note : str
        What is measured, or what is missing.
    """
    if missing := [name for name in ('lpips', 'torchvision') if not importlib.util.find_spec(name)]:
        return None, f'not measured: {" and ".join(missing)} not installed'
    backbone = Path(torch.hub.get_dir()) / 'checkpoints' / LPIPS_BACKBONE
    if not backbone.is_file():
        return None, f'not measured: no {backbone}'
    import lpips

    network = lpips.LPIPS(net='alex', verbose=False).eval()

    @torch.inference_mode()
    def distance(image: np.ndarray, truth: np.ndarray) -> float:
        return float(network(network_images(image[None]), network_images(truth[None])))

    return distance, 'measured with AlexNet'


def measure(
    image: np.ndarray, truth: np.ndarray, true_mask: np.ndarray, perceptual: Perceptual | None
) -> dict[str, float]:
    """All metrics of one picture: ``psnr`` and ``fg_psnr`` (dB), ``ssim``, ``iou`` and, where it
    can be had, ``lpips``."""
    measured = {
        'psnr': psnr(image, truth),
        'ssim': ssim(image, truth),
        'fg_psnr': foreground_psnr(image, truth, true_mask),
        'iou': mask_iou(silhouette(image), true_mask),
    }
    return measured | ({} if perceptual is None else {'lpips': perceptual(image, truth)})
