"""The five parts of Zero-1-to-3, and the function that loads them from any supported source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from nvs_ros.errors import UserError
from nvs_ros.hero.learned_filter import LearnedPolicy
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
        Takes the channels of the noisy latent, the conditioning latent and, if the profile has one,
        the guide, concatenated.
    image_encoder : CLIPVisionModelWithProjection
    cc_projection : torch.nn.Linear
        [image embedding, pose (4)] -> context of the UNet.
    scheduler : DDIMScheduler
        Its configuration has the noise schedule and the prediction type.
    kind : str
        One of :data:`~nvs_ros.zero123.layout.KINDS`.
    model_id : str
        Name of what was loaded, for messages and metadata.
    profile : ModelProfile
        What the model was trained on, and the sampler settings tuned for it.
    learned_filter : LearnedPolicy or None
        Filter of attention maps that was learned for the UNet, for the preset ``learned``.

    Raises
    ------
    UserError
        Unknown kind, or sizes of the parts that do not fit each other.
    """

    vae: AutoencoderKL
    unet: UNet2DConditionModel
    image_encoder: CLIPVisionModelWithProjection
    cc_projection: torch.nn.Linear
    scheduler: DDIMScheduler
    kind: str
    model_id: str
    profile: ModelProfile
    learned_filter: LearnedPolicy | None = None

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
        """Side of an image over side of its latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def guide_inputs(self) -> int:
        """Channels of the guide after it is folded to the size of the latent; 0 without a guide."""
        return self.profile.guide_channels * self.latent_factor**2

    @property
    def latent_size(self) -> int:
        """Side of a latent, elements."""
        return self.unet.config.sample_size

    @property
    def image_size(self) -> int:
        """Side of the square images, pixels."""
        return self.latent_size * self.latent_factor

    @property
    def device(self) -> torch.device:
        return self.cc_projection.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.cc_projection.weight.dtype

    def to(self, device=None, dtype=None) -> Zero123Components:
        """Move all networks to a device and dtype in place; returns self."""
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
    """Load a model, one tensor at a time, directly to its device and dtype.

    Nothing is downloaded, and no code that comes with a model is executed.

    Parameters
    ----------
    source : str or Path
        ``'embedded'``; a folder in diffusers layout; an original ``.ckpt`` or ``.safetensors``;
        or a name that ``fetch`` knows or a hub id, if it is in the cache of huggingface_hub.
    device, dtype
        Of the networks.
    kind : str, optional
        One of :data:`~nvs_ros.zero123.layout.KINDS`; detected from the files or their name when
        omitted.
    use_ema : bool
        Use the moving average of the UNet if an original checkpoint has one.
    progress : callable, optional
        Called without arguments after each tensor.

    Raises
    ------
    UserError
        There is no such model, or it is damaged, unsafe or of another architecture.
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
    if files.learned_filter is not None:
        components.learned_filter = load_filter(files.learned_filter, components.unet)
    return components


def load_filter(file: Path, unet: UNet2DConditionModel) -> LearnedPolicy:
    """Load a learned filter for a UNet.

    Raises
    ------
    UserError
        The file is not a learned filter, or is one for a UNet with other layers.
    """
    try:
        policy = LearnedPolicy.load(file)
        policy.check(unet)
    except ValueError as error:
        raise UserError(f'{file}: {error}') from error
    return policy


def find_model(
    source: str | Path, *, kind: str | None = None, use_ema: bool = True, half: bool = False
) -> ModelFiles:
    """Find a model without reading its weights; parameters and errors as in
    :func:`load_components`, and ``half`` prefers float16 files."""
    model_id = str(source)
    path = EMBEDDED if model_id == 'embedded' else Path(source).expanduser()
    if not path.exists():
        path = cached_model(model_id)
    if path.is_dir():
        return open_folder(path, kind=kind, half=half, model_id=model_id)
    return open_checkpoint(path, kind=kind, use_ema=use_ema)


def empty_components(files: ModelFiles) -> Zero123Components:
    """The networks without parameters in memory (on the meta device).

    Raises
    ------
    UserError
        The configurations are not those of a Zero-1-to-3 model.
    """
    configs = files.configs
    # A full CLIP configuration contains that of its image tower.
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
    except Exception as error:  # for a wrong configuration the libraries raise errors of any type
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
