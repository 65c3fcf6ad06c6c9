"""The five parts of Zero-1-to-3 and the one function that loads them from anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPVisionModelWithProjection

EMBEDDED = Path(__file__).parent / 'embedded'
"""The small model that comes with the package, in diffusers layout."""

ZERO123 = 'zero123'
STABLE_ZERO123 = 'stable_zero123'
KINDS = (ZERO123, STABLE_ZERO123)
"""How the pose is told: the fourth entry is the radius difference, or the source's polar angle."""


@dataclass
class Zero123Components:
    """The parts of a Zero-1-to-3 model; every size is read from their configurations.

    Attributes
    ----------
    vae : AutoencoderKL
    unet : UNet2DConditionModel
        Takes the noisy latent and the conditioning latent, channels concatenated.
    image_encoder : CLIPVisionModelWithProjection
    cc_projection : torch.nn.Linear
        [image embedding, pose (4)] -> context of the UNet.
    scheduler : DDIMScheduler
        Its configuration names the noise schedule and the prediction type.
    kind : str
        One of ``KINDS``.
    model_id : str
        What was loaded, for messages and metadata.
    """

    vae: AutoencoderKL
    unet: UNet2DConditionModel
    image_encoder: CLIPVisionModelWithProjection
    cc_projection: torch.nn.Linear
    scheduler: DDIMScheduler
    kind: str
    model_id: str

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f'expected a kind of {KINDS}, got {self.kind!r}')
        latent = self.vae.config.latent_channels
        found = {
            'unet input channels': (self.unet.config.in_channels, 2 * latent),
            'cc_projection inputs': (
                self.cc_projection.in_features,
                self.image_encoder.config.projection_dim + 4,
            ),
            'cc_projection outputs': (
                self.cc_projection.out_features,
                self.unet.config.cross_attention_dim,
            ),
        }
        for name, (came, expected) in found.items():
            if came != expected:
                raise ValueError(f'{self.model_id}: expected {expected} {name}, found {came}')

    @property
    def latent_size(self) -> int:
        """Side of a latent, elements."""
        return self.unet.config.sample_size

    @property
    def image_size(self) -> int:
        """Side of the square pictures, pixels."""
        return self.latent_size * 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def device(self) -> torch.device:
        return self.cc_projection.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.cc_projection.weight.dtype

    def to(self, device=None, dtype=None) -> Zero123Components:
        """Move and convert all networks in place."""
        for module in (self.vae, self.unet, self.image_encoder, self.cc_projection):
            module.to(device=device, dtype=dtype)
        return self


def load_components(
    source: str | Path = 'embedded', *, device='cpu', dtype: torch.dtype = torch.float32
) -> Zero123Components:
    """Load a model by name, path or hub id; see :mod:`nvs_ros.zero123.folder`."""
    from nvs_ros.zero123.folder import load_folder

    path = EMBEDDED if str(source) == 'embedded' else Path(source)
    return load_folder(path, device=device, dtype=dtype)
