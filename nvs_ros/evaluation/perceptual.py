"""LPIPS (Zhang et al. 2018, version 0.1, AlexNet), without torchvision.

Its weights are not part of this package; ``scripts/fetch_lpips.py`` downloads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from nvs_ros.computer.cache import cache_folder
from nvs_ros.zero123.conditioning import network_images

Perceptual = Callable[[np.ndarray, np.ndarray], float]
"""LPIPS of two (H, W, 3) uint8 images."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Normalisation from [-1, 1] to the range that the backbone was trained on."""
LAYERS = ((4, 2, False), (1, 2, True), (1, 1, True), (1, 1, False), (1, 1, False))
"""Stride and padding of each convolution of AlexNet, and whether max pooling precedes it."""


def weights_file() -> Path:
    """Path of the weights on this machine, whether they exist or not."""
    return cache_folder() / 'lpips_alexnet.safetensors'


def find_perceptual() -> tuple[Perceptual | None, str]:
    """LPIPS if its weights are on this machine; nothing is downloaded.

    Returns
    -------
    perceptual : callable or None
        None without weights.
    note : str
        Which network is used, or what is missing.
    """
    file = weights_file()
    if not file.is_file():
        return None, f'not measured: no {file.name} (scripts/fetch_lpips.py)'
    return perceptual_distance(load_file(file)), 'measured with AlexNet'


def perceptual_distance(weights: Mapping[str, torch.Tensor]) -> Perceptual:
    """LPIPS with given weights.

    Parameters
    ----------
    weights : mapping
        ``conv_i.weight`` (out, in, k, k), ``conv_i.bias`` and ``linear_i`` (out,), i from 0 to 4.
    """

    @torch.inference_mode()
    def distance(image: np.ndarray, truth: np.ndarray) -> float:
        pair = network_images(np.stack([image, truth]))
        rows = (pair - pair.new_tensor(SHIFT).view(1, 3, 1, 1)) / pair.new_tensor(SCALE).view(
            1, 3, 1, 1
        )
        total = 0.0
        for i, (stride, padding, pooled) in enumerate(LAYERS):
            if pooled:
                rows = F.max_pool2d(rows, 3, 2)
            kernel, bias = weights[f'conv_{i}.weight'], weights[f'conv_{i}.bias']
            rows = F.relu(F.conv2d(rows, kernel, bias, stride, padding))
            unit = rows / (rows.square().sum(1, keepdim=True).sqrt() + 1e-10)
            squared = (unit[0] - unit[1]).square()
            total += float((squared * weights[f'linear_{i}'].view(-1, 1, 1)).sum(0).mean())
        return total

    return distance
