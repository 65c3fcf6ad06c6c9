"""Training of the embedded model's autoencoder: 64-pixel pictures to 16x16 latents of 4
channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn

from nvs_ros.training.loop import FitSettings, fit
from nvs_ros.zero123.conditioning import network_images

KL_WEIGHT = 1e-6
COLOR_WEIGHT = 40.0


def build_autoencoder(size: int) -> AutoencoderKL:
    """An untrained autoencoder for pictures of ``size`` pixels, spatial factor 4."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(16, 48, 96),
        down_block_types=('DownEncoderBlock2D',) * 3,
        up_block_types=('UpDecoderBlock2D',) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=size,
        scaling_factor=1.0,
    )


class AutoencoderLoss(nn.Module):
    """Squared and absolute error, errors of gradient and colour, and a trace of KL.

    Without the weight on colour an autoencoder of four channels settles on a grey picture: the
    outline against the white background is most of the squared error.
    """

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Loss of (n, 3, h, w) pictures in [-1, 1]."""
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
    images: np.ndarray, settings: FitSettings, run: Path, stop_at: int | None = None
) -> AutoencoderKL:
    """Train on (objects, views, size, size, 3) uint8 pictures and whiten the latents."""

    def make_batch(rng: np.random.Generator, count: int) -> tuple[torch.Tensor]:
        objects, views = (
            rng.integers(len(images), size=count),
            rng.integers(images.shape[1], size=count),
        )
        return (network_images(images[objects, views]),)

    module = AutoencoderLoss(build_autoencoder(images.shape[2]))
    autoencoder = fit(
        module, make_batch, settings, run, name='autoencoder', stop_at=stop_at
    ).autoencoder
    sample = network_images(images[:: max(1, len(images) // 500), 0].copy())
    whiten_latents(autoencoder, sample.to(autoencoder.device))
    return autoencoder


@torch.inference_mode()
def whiten_latents(autoencoder: AutoencoderKL, images: torch.Tensor) -> None:
    """Fold a scale and shift for each channel into the 1x1 convolutions, so that latents have mean
    0, deviation 1.

    The conditioning latent of Zero-1-to-3 is not multiplied by the scaling factor; with latents
    that are white already the factor is 1 and both inputs of the network have the same range.
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
