"""What the network is told: preprocessing exactly as the original Zero-1-to-3 does it.

Notation (variable -> original code): ``embedding`` -> output of the frozen CLIP image tower,
``token`` -> ``c_crossattn`` after ``cc_projection``, ``latent`` -> ``c_concat``.
Without guidance both are zeros: the token *after* the projection, and the latent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from nvs_ros.zero123.components import Zero123Components
from nvs_ros.zero123.layout import STABLE_ZERO123

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ImageCondition:
    """What the network knows of source images; depends on the images alone.

    Attributes
    ----------
    embedding : torch.Tensor
        (n, 1, D) CLIP image embedding, not normalised.
    latent : torch.Tensor
        (n, c, h, w) mode of the VAE posterior, *not* multiplied by the scaling factor.
    """

    embedding: torch.Tensor
    latent: torch.Tensor


def network_images(images: np.ndarray | torch.Tensor) -> torch.Tensor:
    """(n, H, W, 3) uint8 RGB -> (n, 3, H, W) float32 in [-1, 1], on the same device."""
    images = torch.as_tensor(images)
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != torch.uint8:
        raise ValueError(f'expected (n, H, W, 3) uint8, got {tuple(images.shape)} {images.dtype}')
    return images.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0


def rgb_images(images: torch.Tensor) -> np.ndarray:
    """(n, 3, H, W) in [-1, 1] -> (n, H, W, 3) uint8 RGB, clipped and rounded."""
    scaled = ((images.float() + 1.0) * 127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def clip_pixels(images: torch.Tensor, size: int) -> torch.Tensor:
    """Resize and normalise for the CLIP image tower, as the original does.

    Bicubic with aligned corners, without antialiasing and without a clamp; this is what
    ``kornia.geometry.resize`` of the original computes. The CLIP processor of transformers
    differs (it antialiases and rounds to uint8).

    Parameters
    ----------
    images : torch.Tensor
        (n, 3, H, W) in [-1, 1].
    size : int
        Side of the square picture the tower takes, pixels.

    Returns
    -------
    torch.Tensor
        (n, 3, size, size) float32.
    """
    images = images.float()
    resized = F.interpolate(
        images, size=(size, size), mode='bicubic', align_corners=True, antialias=False
    )
    mean = images.new_tensor(CLIP_MEAN).view(1, 3, 1, 1)
    std = images.new_tensor(CLIP_STD).view(1, 3, 1, 1)
    return ((resized + 1.0) / 2.0 - mean) / std


@torch.inference_mode()
def encode_images(components: Zero123Components, images: torch.Tensor) -> ImageCondition:
    """Embed and encode source images.

    Parameters
    ----------
    components : Zero123Components
    images : torch.Tensor
        (n, 3, S, S) in [-1, 1], S = ``components.image_size``; any device and float dtype.

    Raises
    ------
    ValueError
        If the shape is another or a value is not finite.
    """
    size = components.image_size
    if images.ndim != 4 or images.shape[1:] != (3, size, size):
        raise ValueError(f'expected images (n, 3, {size}, {size}), got {tuple(images.shape)}')
    if not torch.isfinite(images).all():
        raise ValueError('expected finite images in [-1, 1], got NaN or infinity')
    images = images.to(components.device)
    pixels = clip_pixels(images, components.image_encoder.config.image_size)
    embedding = components.image_encoder(pixels.to(components.dtype)).image_embeds
    latent = components.vae.encode(images.to(components.dtype)).latent_dist.mode()
    return ImageCondition(embedding.unsqueeze(1), latent)


@torch.inference_mode()
def pose_tokens(
    components: Zero123Components,
    embedding: torch.Tensor,
    pose_vectors: torch.Tensor | np.ndarray,
    *,
    source_polar_rad: float | None = None,
) -> torch.Tensor:
    """The one cross-attention token of each target: image embedding and relative pose, projected.

    Parameters
    ----------
    components : Zero123Components
    embedding : torch.Tensor
        (1, 1, D) of one source for all targets, or (m, 1, D).
    pose_vectors : array
        (m, 4) rows [delta polar (rad), sin delta azimuth, cos delta azimuth, delta radius
        (model units)], target minus source (``RelativePose.vector``).
    source_polar_rad : float, optional
        Angle of the source camera from the zenith. Stable-Zero123 was trained with it in the
        place of the radius difference and needs it; other kinds do not read it.

    Returns
    -------
    torch.Tensor
        (m, 1, C) with C the context width of the UNet.

    Raises
    ------
    ValueError
        If a shape is another, a value is not finite, or Stable-Zero123 misses its angle.
    """
    poses = torch.as_tensor(pose_vectors, dtype=torch.float32, device=components.device)
    if poses.ndim != 2 or poses.shape[1] != 4:
        raise ValueError(f'expected pose vectors (m, 4), got {tuple(poses.shape)}')
    if not torch.isfinite(poses).all():
        raise ValueError(f'expected finite pose vectors, got {poses.tolist()}')
    count, width = len(poses), components.image_encoder.config.projection_dim
    if embedding.shape not in {(1, 1, width), (count, 1, width)}:
        raise ValueError(
            f'expected an embedding (1 or {count}, 1, {width}), got {tuple(embedding.shape)}'
        )
    if components.kind == STABLE_ZERO123:
        if source_polar_rad is None:
            raise ValueError(f'{STABLE_ZERO123} needs source_polar_rad, got None')
        poses = torch.cat([poses[:, :3], poses.new_full((count, 1), source_polar_rad)], dim=1)
    embedding = embedding.to(components.device, components.dtype).expand(count, 1, width)
    return components.cc_projection(
        torch.cat([embedding, poses.to(components.dtype).unsqueeze(1)], dim=-1)
    )


def guide_latents(guides: np.ndarray | torch.Tensor, factor: int) -> torch.Tensor:
    """Guides (n, g, S, S) folded to the size of a latent, (n, g * factor**2, S/factor, S/factor).

    No pixel is averaged: each latent cell gets all its pixels as channels.
    """
    return F.pixel_unshuffle(torch.as_tensor(guides), factor)


@torch.inference_mode()
def decode_latents(components: Zero123Components, latents: torch.Tensor) -> torch.Tensor:
    """Denoised latents (n, c, h, w) -> images (n, 3, S, S), nominally in [-1, 1], not clipped."""
    latents = latents.to(components.device, components.dtype)
    return components.vae.decode(latents / components.vae.config.scaling_factor).sample
