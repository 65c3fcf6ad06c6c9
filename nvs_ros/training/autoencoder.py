"""Training of the embedded model's autoencoder, from small images to latents of 4 channels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn

from nvs_ros.training.loop import FitSettings, Until, fit
from nvs_ros.zero123.conditioning import network_images

KL_WEIGHT = 1e-6
COLOR_WEIGHT = 40.0
WIDTHS = {2: (16, 48), 4: (16, 48, 96)}
"""Side of the image over side of the latent -> channels at each resolution."""


def build_autoencoder(size: int, factor: int = 4) -> AutoencoderKL:
    """An untrained autoencoder for images of ``size`` pixels.

    Parameters
    ----------
    size : int
        Side of the images, pixels.
    factor : int
        Side of the image over side of the latent, a key of :data:`WIDTHS`.
    """
    widths = WIDTHS[factor]
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=widths,
        down_block_types=('DownEncoderBlock2D',) * len(widths),
        up_block_types=('UpDecoderBlock2D',) * len(widths),
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=size,
        scaling_factor=1.0,
    )


class AutoencoderLoss(nn.Module):
    """Squared and absolute error, errors of gradients and colour, and a little KL divergence.

    Without the weight on colour, an autoencoder with four latent channels learns only grey images,
    because most of the squared error is at the outline against the white background.
    """

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Loss of (n, h, w, 3) uint8 images."""
        images = network_images(pictures)
        posterior = self.autoencoder.encode(images).latent_dist
        error = self.autoencoder.decode(posterior.sample()).sample.float() - images
        color = error - error.mean(1, keepdim=True)
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        return (
            10 * error.square().mean()
            + COLOR_WEIGHT * color.square().mean()
            + 0.5 * error.abs().mean()
            + 0.5 * edges
            + KL_WEIGHT * posterior.kl().mean()
        )


def train_autoencoder(
    autoencoder: AutoencoderKL,
    images: np.ndarray,
    settings: FitSettings,
    run: Path,
    until: Until | None = None,
    show: Callable[[AutoencoderKL, int], None] | None = None,
) -> bool:
    """Train on (objects, views, size, size, 3) uint8 images and whiten the latents.

    Other parameters, return value and errors are those of :func:`nvs_ros.training.loop.fit`;
    ``show`` gets the averaged autoencoder.
    """

    def make_batch(rng: np.random.Generator, count: int) -> tuple[torch.Tensor]:
        objects, views = (
            rng.integers(len(images), size=count),
            rng.integers(images.shape[1], size=count),
        )
        return (torch.from_numpy(images[objects, views]),)

    module = AutoencoderLoss(autoencoder)
    finished = fit(
        module,
        make_batch,
        settings,
        run,
        name='autoencoder',
        until=until,
        show=show and (lambda averaged, step: show(averaged.autoencoder, step)),
    )
    sample = network_images(images[:: max(1, len(images) // 500), 0].copy())
    whiten_latents(autoencoder, sample.to(autoencoder.device))
    return finished


@torch.inference_mode()
def whiten_latents(autoencoder: AutoencoderKL, images: torch.Tensor) -> None:
    """Fold a scale and shift for each channel into the 1x1 convolutions, so that latents have mean
    0 and standard deviation 1.

    The conditioning latent of Zero-1-to-3 is not multiplied by the scaling factor. With white
    latents the factor is 1, so that both inputs of the network have the same range.
    """
    latents = autoencoder.encode(images).latent_dist.mode()
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    channels = len(mean)
    encode, decode = autoencoder.quant_conv, autoencoder.post_quant_conv
    encode.weight.data[:channels] /= deviation[:, None, None, None]
    encode.bias.data[:channels] = (encode.bias.data[:channels] - mean) / deviation
    encode.bias.data[channels:] -= 2 * deviation.log()
    decode.bias.data += decode.weight.data[:, :, 0, 0] @ mean
    decode.weight.data *= deviation[None, :, None, None]
