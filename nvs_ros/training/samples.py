"""What the networks make while they are trained, of a few objects that stay the same."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from nvs_ros.geometry.spherical import Spherical, relative_pose
from nvs_ros.hero.presets import preset
from nvs_ros.hero.sampler import sample
from nvs_ros.training.dataset import DatasetSettings, render_object
from nvs_ros.training.plots import write_sheet
from nvs_ros.zero123.components import Zero123Components
from nvs_ros.zero123.conditioning import (
    decode_latents,
    encode_images,
    network_images,
    pose_tokens,
    rgb_images,
)

SAMPLES = 6
EVALUATIONS = 10


@dataclass(frozen=True)
class HeldOutPairs:
    """Two views of each of n objects that training does not see.

    Attributes
    ----------
    sources, truths : (n, S, S, 3) uint8
    poses : (n, 4) float64
        Relative pose vectors.
    """

    sources: np.ndarray
    truths: np.ndarray
    poses: np.ndarray


def held_out_pairs(dataset: DatasetSettings) -> HeldOutPairs:
    """Pairs of objects like those of a dataset, from the next seed; spread over its categories."""
    settings = dataclasses.replace(dataset, views=2, seed=dataset.seed + 1)
    kinds = len(dataset.categories)
    indices = [i * kinds + i * kinds // SAMPLES for i in range(SAMPLES)]
    images, _, cameras = zip(*(render_object(settings, index) for index in indices), strict=True)
    poses = [
        relative_pose(*(Spherical(*map(float, camera)) for camera in pair)).vector()
        for pair in cameras
    ]
    return HeldOutPairs(
        np.stack([pair[0] for pair in images]),
        np.stack([pair[1] for pair in images]),
        np.stack(poses),
    )


def write_views(components: Zero123Components, pairs: HeldOutPairs, file: Path) -> None:
    """Write a sheet of source, synthesised and true view, with few evaluations."""
    condition = encode_images(components, network_images(pairs.sources))
    noise = torch.randn(condition.latent.shape, generator=torch.Generator().manual_seed(0))
    latents = sample(
        components.unet,
        components.scheduler,
        tokens=pose_tokens(components, condition.embedding, pairs.poses),
        cond_latents=condition.latent,
        noise=noise.to(components.device),
        settings=preset('zero123', num_inference_steps=EVALUATIONS),
    )
    made = rgb_images(decode_latents(components, latents))
    write_sheet({'source': pairs.sources, 'synthesised': made, 'truth': pairs.truths}, file)


@torch.inference_mode()
def write_decoded(autoencoder: AutoencoderKL, pictures: np.ndarray, file: Path) -> None:
    """Write a sheet of pictures (n, S, S, 3) uint8 and what is left of them in latents."""
    pixels = network_images(pictures).to(autoencoder.device)
    decoded = rgb_images(autoencoder.decode(autoencoder.encode(pixels).latent_dist.mode()).sample)
    write_sheet({'picture': pictures, 'decoded': decoded}, file)
