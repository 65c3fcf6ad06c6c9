"""Training of the embedded model: UNet, image encoder and pose projection together.

The noise schedule has zero terminal SNR and the network predicts v: on a small grid Stable
Diffusion's own schedule leaves hue and shape readable at the noisiest step, the network learns to
read them there, and at sampling they are missing.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from tqdm import tqdm
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from nvs_ros.geometry.spherical import Spherical, relative_pose
from nvs_ros.training.loop import FitSettings, fit, training_device
from nvs_ros.zero123.components import Zero123Components
from nvs_ros.zero123.conditioning import clip_pixels, network_images
from nvs_ros.zero123.files import ZERO123_XL
from nvs_ros.zero123.profile import ModelProfile

CONTEXT = 128
PATCH_SIZE = 16
GUIDANCE_DROPOUT = 0.1
"""Share of samples without token and conditioning latent (classifier-free guidance)."""
IDENTITY_FRACTION = 0.07
"""Share of pairs with target = source: mutual self-attention needs a source branch that
reconstructs."""
SNR_CAP = 5.0
"""Loss weight min(SNR, cap) / SNR, Hang et al. 2023, for v-prediction."""
HIGH_NOISE = 0.7
"""Timesteps are 1000 u^HIGH_NOISE: the noisy ones, where the view is decided, more often."""


def build_components(vae: AutoencoderKL, profile: ModelProfile) -> Zero123Components:
    """The untrained embedded model over a trained autoencoder."""
    size = vae.config.sample_size
    unet = UNet2DConditionModel(
        sample_size=size // 2 ** (len(vae.config.block_out_channels) - 1),
        in_channels=2 * vae.config.latent_channels,
        out_channels=vae.config.latent_channels,
        block_out_channels=(64, 128, 192),
        down_block_types=('CrossAttnDownBlock2D',) * 3,
        up_block_types=('CrossAttnUpBlock2D',) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=4,
        cross_attention_dim=CONTEXT,
    )
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            image_size=size,
            patch_size=PATCH_SIZE,
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=3,
            num_attention_heads=4,
            projection_dim=CONTEXT,
        )
    )
    projection = nn.Linear(CONTEXT + 4, CONTEXT)
    nn.init.normal_(projection.weight[:, CONTEXT:], std=0.5)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule='scaled_linear',
        prediction_type='v_prediction',
        rescale_betas_zero_snr=True,
        timestep_spacing='trailing',
        clip_sample=False,
    )
    return Zero123Components(
        vae, unet, encoder, projection, scheduler, ZERO123_XL, 'embedded', profile
    )


class DenoisingLoss(nn.Module):
    """Weighted squared error of v."""

    def __init__(self, components: Zero123Components) -> None:
        super().__init__()
        self.unet = components.unet
        self.image_encoder = components.image_encoder
        self.cc_projection = components.cc_projection
        self.scheduler = components.scheduler

    def forward(
        self,
        pixels: torch.Tensor,
        source: torch.Tensor,
        target: torch.Tensor,
        pose: torch.Tensor,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        keep: torch.Tensor,
    ) -> torch.Tensor:
        """Loss of a batch.

        Parameters
        ----------
        pixels : (n, 3, s, s)
            Source pictures as the image encoder takes them.
        source, target, noise : (n, c, h, w)
            Latents.
        pose : (n, 4)
            Relative pose vectors.
        timesteps : (n,) int64
        keep : (n,) float32
            0 where the conditioning is dropped.
        """
        embedding = self.image_encoder(pixels).image_embeds
        token = self.cc_projection(torch.cat([embedding, pose], -1))[:, None] * keep[:, None, None]
        noisy = self.scheduler.add_noise(target, noise, timesteps)
        velocity = self.scheduler.get_velocity(target, noise, timesteps)
        inputs = torch.cat([noisy, source * keep[:, None, None, None]], 1)
        predicted = self.unet(inputs, timesteps, token).sample.float()
        alpha = self.scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
        weight = (SNR_CAP * (1 - alpha) / alpha.clamp(min=1e-12)).clamp(max=1)
        return (weight * (predicted - velocity).square().mean((1, 2, 3))).mean()


@torch.inference_mode()
def encode_dataset(vae: AutoencoderKL, images: np.ndarray, file: Path) -> np.ndarray:
    """Latents (objects, views, c, h, w) float16 of all pictures; kept in ``file``."""
    if file.exists():
        return np.load(file, mmap_mode='r')
    device = training_device()
    vae.to(device)
    threads = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    latents = []
    for chunk in tqdm(np.array_split(np.arange(len(images)), max(1, len(images) // 8)), 'encode'):
        flat = images[chunk].reshape(-1, *images.shape[2:])
        with torch.autocast(device.type, torch.bfloat16):
            mode = vae.encode(network_images(flat).to(device)).latent_dist.mode()
        latents.append(mode.half().cpu().numpy().reshape(len(chunk), -1, *mode.shape[1:]))
    torch.set_num_threads(threads)
    partial = file.with_suffix('.partial.npy')
    np.save(partial, np.concatenate(latents))
    os.replace(partial, file)
    return np.load(file, mmap_mode='r')


def train_diffusion(
    components: Zero123Components,
    images: np.ndarray,
    cameras: np.ndarray,
    latents: np.ndarray,
    settings: FitSettings,
    run: Path,
    stop_at: int | None = None,
) -> Zero123Components:
    """Train everything but the autoencoder.

    Parameters
    ----------
    components : Zero123Components
    images : (objects, views, S, S, 3) uint8
    cameras : (objects, views, 3) float32
        azimuth_rad, elevation_rad, radius.
    latents : (objects, views, c, h, w) float16
    settings, run, stop_at
        As for :func:`nvs_ros.training.loop.fit`.
    """
    encoder_size = components.image_encoder.config.image_size

    def make_batch(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, ...]:
        objects = rng.integers(len(images), size=count)
        source, target = rng.integers(images.shape[1], size=(2, count))
        target = np.where(rng.random(count) < IDENTITY_FRACTION, source, target)
        pose = [
            relative_pose(Spherical(*map(float, a)), Spherical(*map(float, b))).vector()
            for a, b in zip(cameras[objects, source], cameras[objects, target], strict=True)
        ]
        target_latents = torch.from_numpy(latents[objects, target]).float()
        timesteps = (1000 * rng.random(count) ** HIGH_NOISE).astype(np.int64)
        return (
            clip_pixels(network_images(images[objects, source]), encoder_size),
            torch.from_numpy(latents[objects, source]).float(),
            target_latents,
            torch.from_numpy(np.stack(pose)).float(),
            torch.from_numpy(rng.standard_normal(target_latents.shape, np.float32)),
            torch.from_numpy(timesteps),
            torch.from_numpy((rng.random(count) >= GUIDANCE_DROPOUT).astype(np.float32)),
        )

    fit(DenoisingLoss(components), make_batch, settings, run, name='diffusion', stop_at=stop_at)
    return components
