"""What the networks make while they are trained, of a few objects that stay the same."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.guide import guide
from nvs_ros.geometry.spherical import Spherical, pose_from_spherical, relative_pose
from nvs_ros.hero.presets import preset
from nvs_ros.hero.sampler import sample
from nvs_ros.scenes.dataset import DatasetSettings, draw_object
from nvs_ros.scenes.image_sheet import write_sheet
from nvs_ros.zero123.components import Zero123Components
from nvs_ros.zero123.conditioning import (
    decode_latents,
    encode_images,
    guide_latents,
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
    guides : (n, 5, S, S) float32, optional
        Of the source with its depth.
    """

    sources: np.ndarray
    truths: np.ndarray
    poses: np.ndarray
    guides: np.ndarray | None = None


def held_out_pairs(dataset: DatasetSettings) -> HeldOutPairs:
    """Pairs of objects like those of a dataset, from the next seed; spread over its categories."""
    settings = dataclasses.replace(dataset, views=2, seed=dataset.seed + 1)
    kinds = len(dataset.categories)
    drawn = [
        draw_object(settings, i * kinds + i * kinds // SAMPLES, true_sensor=True)
        for i in range(SAMPLES)
    ]
    lens = Camera.canonical(dataset.size)
    poses, guides = [], []
    for each in drawn:
        source, target = (Spherical(*map(float, camera)) for camera in each.cameras)
        poses.append(relative_pose(source, target).vector())
        if dataset.guide:
            measured = each.seen[0].measurement()
            guides.append(guide(measured, lens, pose_from_spherical(target)))
    return HeldOutPairs(
        np.stack([each.images[0] for each in drawn]),
        np.stack([each.images[1] for each in drawn]),
        np.stack(poses),
        np.stack(guides) if dataset.guide else None,
    )


def write_views(components: Zero123Components, pairs: HeldOutPairs, file: Path) -> None:
    """Write a sheet of source, synthesised and true view, with few evaluations."""
    condition = encode_images(components, network_images(pairs.sources))
    noise = torch.randn(condition.latent.shape, generator=torch.Generator().manual_seed(0))
    guides = []
    if components.guide_inputs:
        guides = [guide_latents(pairs.guides, components.latent_factor).to(condition.latent)]
    latents = sample(
        components.unet,
        components.scheduler,
        tokens=pose_tokens(components, condition.embedding, pairs.poses),
        cond_latents=torch.cat([condition.latent, *guides], 1),
        noise=noise.to(components.device),
        settings=preset('zero123', num_inference_steps=EVALUATIONS),
    )
    made = rgb_images(decode_latents(components, latents))
    rows = {'source': pairs.sources, 'synthesised': made, 'truth': pairs.truths}
    if pairs.guides is not None:
        rows = {'guide': rgb_images(torch.from_numpy(pairs.guides[:, :3])), **rows}
    write_sheet(rows, file)


@torch.inference_mode()
def write_decoded(autoencoder: AutoencoderKL, pictures: np.ndarray, file: Path) -> None:
    """Write a sheet of pictures (n, S, S, 3) uint8 and what is left of them in latents."""
    pixels = network_images(pictures).to(autoencoder.device)
    decoded = rgb_images(autoencoder.decode(autoencoder.encode(pixels).latent_dist.mode()).sample)
    write_sheet({'picture': pictures, 'decoded': decoded}, file)
