"""The whole recipe of the embedded model: render, train the autoencoder, encode, train the rest,
save."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import yaml
from diffusers import AutoencoderKL

from nvs_ros.errors import UserError
from nvs_ros.geometry.camera import CANONICAL_FOCAL
from nvs_ros.training.autoencoder import train_autoencoder
from nvs_ros.training.dataset import DatasetSettings, make_dataset
from nvs_ros.training.diffusion import PATCH_SIZE, build_components, encode_dataset, train_diffusion
from nvs_ros.training.loop import FitSettings, join_processes
from nvs_ros.zero123.components import Zero123Components
from nvs_ros.zero123.files import NETWORKS
from nvs_ros.zero123.folder import new_folder, write_index, write_network
from nvs_ros.zero123.profile import ModelProfile


@dataclass(frozen=True)
class Recipe:
    """Settings of the three stages."""

    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    autoencoder: FitSettings = field(default_factory=FitSettings)
    diffusion: FitSettings = field(default_factory=FitSettings)

    def __post_init__(self) -> None:
        if self.dataset.size % PATCH_SIZE:
            raise ValueError(f'size: expected a multiple of {PATCH_SIZE}, got {self.dataset.size}')

    @classmethod
    def from_yaml(cls, file: Path) -> Recipe:
        """Read ``{dataset: {...}, autoencoder: {...}, diffusion: {...}}``; what is left out keeps
        its default."""
        stages = {stage.name: stage.default_factory for stage in fields(cls)}
        try:
            content = yaml.safe_load(Path(file).read_text()) or {}
            _check_keys(content, stages)
            for name, values in content.items():
                _check_keys(values or {}, [each.name for each in fields(stages[name])])
            return cls(**{name: stages[name](**content[name] or {}) for name in content})
        except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
            raise UserError(f'{file}: {error}') from None


def _check_keys(content: Any, names: Collection[str]) -> None:
    if not isinstance(content, dict):
        raise ValueError(f'expected a mapping with some of {", ".join(names)}, got {content!r}')
    if unknown := [key for key in content if key not in names]:
        raise ValueError(f'expected some of {", ".join(names)}, got {unknown[0]!r}')


def train(recipe: Recipe, run: Path, stop_at: int | None = None) -> None:
    """Run the recipe, or go on where it was interrupted.

    Parameters
    ----------
    recipe : Recipe
    run : Path
        Everything goes here: ``data/``, the states of both stages, their losses, and at the end
        ``model/``. Started by torchrun with several processes, all of them work on it.
    stop_at : int, optional
        Stop the diffusion stage after this many steps in total.
    """
    rank, _ = join_processes()

    def first_then_others(make: Callable[[], Any]) -> Any:
        """``make`` creates files in the first process; the others wait and open them."""
        made = make() if rank == 0 else None
        if dist.is_initialized():
            dist.barrier()
        return made if rank == 0 else make()

    images, cameras = first_then_others(lambda: make_dataset(recipe.dataset, run / 'data'))
    vae_folder = run / 'vae'
    if not vae_folder.exists():
        autoencoder = train_autoencoder(images, recipe.autoencoder, run)
        if rank == 0:
            with new_folder(vae_folder) as partial:
                autoencoder.save_pretrained(partial)
    vae = first_then_others(lambda: AutoencoderKL.from_pretrained(vae_folder))
    latents = first_then_others(lambda: encode_dataset(vae, images, run / 'latents.npy'))
    components = build_components(vae, profile(recipe.dataset))
    train_diffusion(components, images, cameras, latents, recipe.diffusion, run, stop_at)
    if rank == 0:
        save_model(components, recipe, run / 'model')


def profile(dataset: DatasetSettings) -> ModelProfile:
    """What a model trained on a dataset may be asked for."""
    return ModelProfile(
        radius=dataset.radius,
        elevation_deg=dataset.elevation_deg,
        photograph_fill=CANONICAL_FOCAL / (sum(dataset.radius) / 2),
    )


def save_model(components: Zero123Components, recipe: Recipe, folder: Path) -> None:
    """Write the model in diffusers layout, float16, in the place of an older one."""
    shutil.rmtree(folder, ignore_errors=True)
    with new_folder(folder) as partial:
        components.to('cpu', torch.float16)
        for name in NETWORKS:
            write_network(partial, name, getattr(components, name))
        components.scheduler.save_pretrained(partial / 'scheduler')
        write_index(partial, components.kind, {'recipe': asdict(recipe)}, components.profile)
