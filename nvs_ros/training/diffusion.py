"""Training of the embedded model: UNet, image encoder and pose projection together.

The noise schedule has zero terminal SNR and the network predicts v: on a small grid Stable
Diffusion's own schedule leaves hue and shape readable at the noisiest step, the network learns to
read them there, and at sampling they are missing.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from tqdm import tqdm
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from nvs_ros.errors import UserError
from nvs_ros.geometry.guide import GUIDE_CHANNELS
from nvs_ros.geometry.spherical import Spherical, relative_pose
from nvs_ros.replacing import replacing
from nvs_ros.scenes.dataset import Dataset
from nvs_ros.training.loop import FitSettings, Until, fit, training_device
from nvs_ros.zero123.components import Zero123Components
from nvs_ros.zero123.conditioning import clip_pixels, guide_latents, network_images
from nvs_ros.zero123.layout import ZERO123_XL
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
ENCODED_AT_ONCE = 32
"""Objects whose views are encoded together."""
WITHHELD = 0.1
"""Share of samples without a guide."""
WITHOUT_DEPTH = 0.4
"""Share of samples whose guide knows silhouettes alone."""
SEVERAL_VIEWS = 0.25
"""Share of guides that are those of two or three views."""
HIGH_NOISE = 0.7
"""Timesteps are 1000 u^HIGH_NOISE: the noisy ones, where the view is decided, more often."""


def build_components(
    vae: AutoencoderKL, profile: ModelProfile, widths: tuple[int, ...] = (64, 128, 192)
) -> Zero123Components:
    """The untrained embedded model over a trained autoencoder.

    Parameters
    ----------
    vae : AutoencoderKL
    profile : ModelProfile
    widths : tuple of int
        Channels of the UNet at each resolution; multiples of 8.
    """
    size = vae.config.sample_size
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    unet = UNet2DConditionModel(
        sample_size=size // factor,
        in_channels=2 * vae.config.latent_channels + profile.guide_channels * factor**2,
        out_channels=vae.config.latent_channels,
        block_out_channels=widths,
        down_block_types=('CrossAttnDownBlock2D',) * len(widths),
        up_block_types=('CrossAttnUpBlock2D',) * len(widths),
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


def with_profile(components: Zero123Components, profile: ModelProfile) -> Zero123Components:
    """The same model with another profile; inputs for a guide that it had not do nothing at first.

    Raises
    ------
    UserError
        It has a guide and is to have none.
    """
    unet = components.unet
    more = (profile.guide_channels - components.profile.guide_channels) * (
        components.latent_factor**2
    )
    if more < 0:
        raise UserError(f'{components.model_id}: expected a model without a guide, got one with it')
    if more:
        weight = unet.conv_in.weight
        widened = UNet2DConditionModel.from_config(
            unet.config, in_channels=unet.config.in_channels + more
        )
        state = unet.state_dict()
        zeros = weight.new_zeros(len(weight), more, *weight.shape[2:])
        state['conv_in.weight'] = torch.cat([weight, zeros], 1)
        widened.load_state_dict(state)
        unet = widened.to(weight.device, weight.dtype)
    return dataclasses.replace(components, unet=unet, profile=profile)


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
        pictures: torch.Tensor,
        source: torch.Tensor,
        target: torch.Tensor,
        noise: torch.Tensor,
        pose: torch.Tensor,
        timesteps: torch.Tensor,
        keep: torch.Tensor,
        guide: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Loss of a batch.

        Parameters
        ----------
        pictures : (n, S, S, 3) uint8
            Source pictures.
        source, target : (n, c, h, w) float16
            Latents.
        noise : (n, c, h, w) float32
        pose : (n, 4) float32
            Relative pose vectors.
        timesteps : (n,) int64
        keep : (n,) float32
            0 where the conditioning is dropped.
        guide : (n, g, S, S) float16, optional
        """
        source, target = source.float(), target.float()
        pixels = clip_pixels(network_images(pictures), self.image_encoder.config.image_size)
        embedding = self.image_encoder(pixels).image_embeds
        token = self.cc_projection(torch.cat([embedding, pose], -1))[:, None] * keep[:, None, None]
        noisy = self.scheduler.add_noise(target, noise, timesteps)
        velocity = self.scheduler.get_velocity(target, noise, timesteps)
        given = [source] if guide is None else [source, self._folded(guide)]
        inputs = torch.cat([noisy, torch.cat(given, 1) * keep[:, None, None, None]], 1)
        predicted = self.unet(inputs, timesteps, token).sample.float()
        alpha = self.scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
        weight = (SNR_CAP * (1 - alpha) / alpha.clamp(min=1e-12)).clamp(max=1)
        return (weight * (predicted - velocity).square().mean((1, 2, 3))).mean()

    def _folded(self, guide: torch.Tensor) -> torch.Tensor:
        return guide_latents(guide.float(), guide.shape[-1] // self.unet.config.sample_size)


@torch.inference_mode()
def encode_dataset(vae: AutoencoderKL, images: np.ndarray, file: Path) -> np.ndarray:
    """Latents (objects, views, c, h, w) float16 of all pictures; kept in ``file``."""
    if not file.exists():
        device = training_device()
        vae.to(device)
        threads = torch.get_num_threads()
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        side = images.shape[2] // 2 ** (len(vae.config.block_out_channels) - 1)
        shape = (*images.shape[:2], vae.config.latent_channels, side, side)
        with replacing(file) as partial:
            latents = np.lib.format.open_memmap(partial, 'w+', np.float16, shape)
            for first in tqdm(range(0, len(images), ENCODED_AT_ONCE), 'encode'):
                chunk = images[first : first + ENCODED_AT_ONCE]
                with torch.autocast(device.type, torch.bfloat16):
                    flat = network_images(chunk.reshape(-1, *chunk.shape[2:]).copy()).to(device)
                    mode = vae.encode(flat).latent_dist.mode()
                latents[first : first + len(chunk)] = (
                    mode.half().cpu().numpy().reshape(len(chunk), *shape[1:])
                )
            latents.flush()
        torch.set_num_threads(threads)
    return np.load(file, mmap_mode='r')


def train_diffusion(
    components: Zero123Components,
    dataset: Dataset,
    latents: np.ndarray,
    source_latents: np.ndarray,
    settings: FitSettings,
    run: Path,
    until: Until | None = None,
    show: Callable[[Zero123Components, int], None] | None = None,
) -> bool:
    """Train everything but the autoencoder.

    Parameters
    ----------
    components : Zero123Components
    dataset : Dataset
    latents, source_latents : (objects, views, c, h, w) float16
        Of its images and its sources.
    settings, run, until
        As for :func:`nvs_ros.training.loop.fit`, and what is returned too.
    show : callable, optional
        ``show(components, step)`` is called after each checkpoint with the averaged weights.
    """

    cameras = dataset.cameras

    def make_batch(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, ...]:
        objects = rng.integers(len(cameras), size=count)
        source, target = rng.integers(cameras.shape[1], size=(2, count))
        target = np.where(rng.random(count) < IDENTITY_FRACTION, source, target)
        pose = [
            relative_pose(Spherical(*map(float, a)), Spherical(*map(float, b))).vector()
            for a, b in zip(cameras[objects, source], cameras[objects, target], strict=True)
        ]
        target_latents = latents[objects, target]
        timesteps = (1000 * rng.random(count) ** HIGH_NOISE).astype(np.int64)
        batch = (
            torch.from_numpy(dataset.sources[objects, source]),
            torch.from_numpy(source_latents[objects, source]),
            torch.from_numpy(target_latents),
            torch.from_numpy(rng.standard_normal(target_latents.shape, np.float32)),
            torch.from_numpy(np.stack(pose)).float(),
            torch.from_numpy(timesteps),
            torch.from_numpy((rng.random(count) >= GUIDANCE_DROPOUT).astype(np.float32)),
        )
        if dataset.sightings is None:
            return batch
        guides = [_guide(dataset, *each, rng) for each in zip(objects, source, target, strict=True)]
        return (*batch, torch.from_numpy(np.stack(guides).astype(np.float16)))

    def show_components(averaged: DenoisingLoss, step: int) -> None:
        names = ('unet', 'image_encoder', 'cc_projection')
        networks = {name: getattr(averaged, name) for name in names}
        show(dataclasses.replace(components, **networks), step)

    return fit(
        DenoisingLoss(components),
        make_batch,
        settings,
        run,
        name='diffusion',
        until=until,
        show=show and show_components,
    )


def _guide(
    dataset: Dataset, index: int, source: int, target: int, rng: np.random.Generator
) -> np.ndarray:
    """Guide (g, S, S) of one sample: nothing, the silhouettes alone, or with depth; of one view or
    of several."""
    kind = rng.random()
    if kind < WITHHELD:
        return np.zeros((GUIDE_CHANNELS, *dataset.images.shape[2:4]), np.float32)
    views = [source]
    if rng.random() < SEVERAL_VIEWS:
        others = np.setdiff1d(np.arange(dataset.cameras.shape[1]), [source, target])
        views += rng.choice(others, min(len(others), rng.integers(1, 3)), replace=False).tolist()
    camera = dataset.cameras[index, target]
    depth = kind >= WITHHELD + WITHOUT_DEPTH
    return dataset.sightings.guide(index, views, camera, depth=depth)
