"""The five parts of Zero-1-to-3 and the one function that loads them from anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from nvs_ros.errors import UserError
from nvs_ros.zero123.diffusers_folder import open_folder
from nvs_ros.zero123.hub import cached_model
from nvs_ros.zero123.layout import KINDS, NETWORKS, ModelFiles, fill
from nvs_ros.zero123.ldm import open_checkpoint
from nvs_ros.zero123.profile import ModelProfile, read_profile

EMBEDDED = Path(__file__).parent / 'embedded'
"""The small model that comes with the package, in diffusers layout."""


@dataclass
class Zero123Components:
    """The parts of a Zero-1-to-3 model; every size is read from their configurations.

    Attributes
    ----------
    vae : AutoencoderKL
    unet : UNet2DConditionModel
        Takes the noisy latent, the conditioning latent and the guide where the profile has one,
        channels concatenated.
    image_encoder : CLIPVisionModelWithProjection
    cc_projection : torch.nn.Linear
        [image embedding, pose (4)] -> context of the UNet.
    scheduler : DDIMScheduler
        Its configuration names the noise schedule and the prediction type.
    kind : str
        One of ``KINDS``.
    model_id : str
        What was loaded, for messages and metadata.
    profile : ModelProfile
        What it was trained on and how it wants to be sampled.
    """

    vae: AutoencoderKL
    unet: UNet2DConditionModel
    image_encoder: CLIPVisionModelWithProjection
    cc_projection: torch.nn.Linear
    scheduler: DDIMScheduler
    kind: str
    model_id: str
    profile: ModelProfile

    def __post_init__(self):
        if self.kind not in KINDS:
            raise UserError(f'expected a kind of {", ".join(KINDS)}, got {self.kind!r}')
        if not isinstance(self.latent_size, int):
            raise UserError(
                f'{self.model_id}: expected the side of a square latent as sample_size of the '
                f'UNet, found {self.latent_size!r}'
            )
        latent = self.vae.config.latent_channels
        width = self.image_encoder.config.projection_dim
        for name, expected, found in (
            (
                'input channels of the UNet',
                2 * latent + self.guide_inputs,
                self.unet.config.in_channels,
            ),
            ('output channels of the UNet', latent, self.unet.config.out_channels),
            ('inputs of cc_projection', width + 4, self.cc_projection.in_features),
            (
                'outputs of cc_projection',
                self.unet.config.cross_attention_dim,
                self.cc_projection.out_features,
            ),
        ):
            if found != expected:
                raise UserError(f'{self.model_id}: expected {expected} {name}, found {found}')

    @property
    def latent_factor(self) -> int:
        """Side of a picture over side of its latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def guide_inputs(self) -> int:
        """Channels of the guide at the size of the latent; 0 without one."""
        return self.profile.guide_channels * self.latent_factor**2

    @property
    def latent_size(self) -> int:
        """Side of a latent, elements."""
        return self.unet.config.sample_size

    @property
    def image_size(self) -> int:
        """Side of the square pictures, pixels."""
        return self.latent_size * self.latent_factor

    @property
    def device(self) -> torch.device:
        return self.cc_projection.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.cc_projection.weight.dtype

    def to(self, device=None, dtype=None) -> Zero123Components:
        """Move and convert all networks in place."""
        for name in NETWORKS:
            getattr(self, name).to(device=device, dtype=dtype)
        return self


def load_components(
    source: str | Path = 'embedded',
    *,
    device: torch.device | str = 'cpu',
    dtype: torch.dtype = torch.float32,
    kind: str | None = None,
    use_ema: bool = True,
    progress: Callable[[], object] = lambda: None,
) -> Zero123Components:
    """Load a model, one tensor at a time, straight to its device and dtype.

    Nothing is downloaded and no code that comes with a model is run.

    Parameters
    ----------
    source : str or Path
        ``'embedded'``; a folder in diffusers layout; an original ``.ckpt`` or ``.safetensors``;
        a name that ``fetch`` knows, or a hub id, that is in the cache of huggingface_hub.
    device, dtype
        Where the networks go.
    kind : str, optional
        One of ``KINDS``; detected when omitted.
    use_ema : bool
        Of an original checkpoint, take the moving average of the UNet where there is one.
    progress : callable, optional
        Called after each tensor.

    Raises
    ------
    UserError
        If there is no such model, or it is damaged, unsafe or of another architecture; the
        message says what was expected and what was found.
    """
    half = dtype == torch.float16
    files = find_model(source, kind=kind, use_ema=use_ema, half=half)
    components = empty_components(files)
    for name in NETWORKS:
        fill(
            getattr(components, name),
            files.readers[name],
            device=device,
            dtype=dtype,
            name=f'{files.model_id}: {name}',
            progress=progress,
        )
    return components


def find_model(
    source: str | Path, *, kind: str | None = None, use_ema: bool = True, half: bool = False
) -> ModelFiles:
    """Find a model without reading its weights; parameters as of :func:`load_components`."""
    model_id = str(source)
    path = EMBEDDED if model_id == 'embedded' else Path(source).expanduser()
    if not path.exists():
        path = cached_model(model_id)
    if path.is_dir():
        return open_folder(path, kind=kind, half=half, model_id=model_id)
    return open_checkpoint(path, kind=kind, use_ema=use_ema)


def empty_components(files: ModelFiles) -> Zero123Components:
    """The networks with their sizes but without memory (on the meta device)."""
    configs = files.configs
    # A full CLIP configuration holds that of its image tower.
    clip = configs['image_encoder'].get('vision_config', configs['image_encoder'])
    try:
        with torch.device('meta'):
            networks = {
                'vae': AutoencoderKL.from_config(configs['vae']),
                'unet': UNet2DConditionModel.from_config(configs['unet']),
                'image_encoder': CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(clip)),
                'cc_projection': torch.nn.Linear(**configs['cc_projection']),
            }
        scheduler = DDIMScheduler.from_config(configs['scheduler'])
    except Exception as error:  # the libraries raise anything at a configuration that is wrong
        raise UserError(
            f'{files.model_id}: expected the configuration of a Zero-1-to-3, found {error!r}'
        ) from error
    return Zero123Components(
        **networks,
        scheduler=scheduler,
        kind=files.kind,
        model_id=files.model_id,
        profile=read_profile(files.kind, files.profile, files.model_id),
    )
