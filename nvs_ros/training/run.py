"""A whole training: render, train the autoencoder, encode, train the rest, save."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from diffusers import AutoencoderKL

from nvs_ros.errors import UserError
from nvs_ros.geometry.camera import CANONICAL_FOCAL
from nvs_ros.geometry.guide import GUIDE_CHANNELS
from nvs_ros.scenes.dataset import DatasetSettings, make_dataset
from nvs_ros.training.autoencoder import build_autoencoder, train_autoencoder
from nvs_ros.training.diffusion import (
    build_components,
    encode_dataset,
    train_diffusion,
    with_profile,
)
from nvs_ros.training.loop import Until, join_processes
from nvs_ros.training.progress_samples import SAMPLES, held_out_pairs, write_decoded, write_views
from nvs_ros.training.recipe import Recipe, keep_recipe
from nvs_ros.zero123.components import Zero123Components, find_model, load_components
from nvs_ros.zero123.diffusers_folder import new_folder, write_index, write_network
from nvs_ros.zero123.layout import NETWORKS
from nvs_ros.zero123.profile import ModelProfile

INITIAL = 'initial'
"""Folder of a run with the model it started from."""


def train(recipe: Recipe, run: Path, until: Until | None = None) -> bool:
    """Run the recipe, or go on where it was interrupted.

    Parameters
    ----------
    recipe : Recipe
    run : Path
        Everything goes here: ``recipe.yaml``, ``data/``, for both stages their states, losses and
        samples, and at the end, or at each stop in the last stage, ``model/``. Started by torchrun
        with several processes, all of them work on it.
    until : Until, optional
        Stop before the end, to go on later; its step is one of the last stage.

    Returns
    -------
    bool
        Whether the recipe is done.

    Raises
    ------
    UserError
        The folder belongs to another recipe, or the model to start from does not fit.
    """
    until = until or Until()
    rank, _ = join_processes()
    if rank == 0:
        keep_recipe(recipe, run)
    dataset = _first_then_others(lambda: make_dataset(recipe.dataset, run / 'data'))
    if recipe.initialize_from is None:
        components = _new_components(recipe, run, dataset.images, until)
    else:
        components = _given_components(recipe, run)
    if components is None:
        return False
    latents = _first_then_others(
        lambda: encode_dataset(components.vae, dataset.images, run / 'latents.npy')
    )
    source_latents = latents
    if dataset.sightings is not None:
        source_latents = _first_then_others(
            lambda: encode_dataset(components.vae, dataset.sources, run / 'source_latents.npy')
        )
    pairs = held_out_pairs(recipe.dataset)

    def show(averaged: Zero123Components, step: int) -> None:
        averaged.vae.to(averaged.device)
        write_views(averaged, pairs, run / f'diffusion_samples_{step}.png')

    finished = train_diffusion(
        components, dataset, latents, source_latents, recipe.diffusion, run, until, show
    )
    if rank == 0:
        source = {'recipe': recipe.as_dict()}
        if recipe.initialize_from is not None:
            source['initial'] = dict(find_model(run / INITIAL).source)
        save_model(components, source, run / 'model', torch.float16)
    return finished


def _new_components(
    recipe: Recipe, run: Path, images: np.ndarray, until: Until
) -> Zero123Components | None:
    """Untrained networks over the autoencoder, which is trained first; None when that was
    stopped."""
    folder = run / 'vae'
    if not folder.exists():
        pictures = images[:SAMPLES, 0].copy()

        def show(averaged: AutoencoderKL, step: int) -> None:
            write_decoded(averaged, pictures, run / f'autoencoder_samples_{step}.png')

        torch.manual_seed(recipe.autoencoder.seed)
        autoencoder = build_autoencoder(recipe.dataset.size, recipe.architecture.latent_factor)
        settings = recipe.autoencoder
        stage_until = dataclasses.replace(until, step=None)
        if not train_autoencoder(autoencoder, images, settings, run, stage_until, show):
            return None
        if join_processes()[0] == 0:
            with new_folder(folder) as partial:
                autoencoder.save_pretrained(partial)
    vae = _first_then_others(lambda: AutoencoderKL.from_pretrained(folder))
    torch.manual_seed(recipe.diffusion.seed)
    return build_components(vae, profile(recipe.dataset), recipe.architecture.widths)


def _given_components(recipe: Recipe, run: Path) -> Zero123Components:
    """The networks of the model to start from, of which the run keeps a copy."""
    folder = run / INITIAL

    def copy() -> None:
        if not folder.exists():
            given = load_components(recipe.initialize_from)
            _check_start(given, recipe)
            source = {'model': recipe.initialize_from, **find_model(recipe.initialize_from).source}
            given = with_profile(given, profile(recipe.dataset))
            save_model(given, source, folder, torch.float32)

    _first_then_others(copy)
    components = load_components(folder)
    for name in NETWORKS:
        getattr(components, name).requires_grad_(name != 'vae')
    return components


def _check_start(given: Zero123Components, recipe: Recipe) -> None:
    name, size = given.model_id, recipe.dataset.size
    if given.image_size != size:
        raise UserError(
            f'initialize_from: expected a model for {size} px like the dataset, '
            f'{name} is one for {given.image_size} px'
        )
    predicted = given.scheduler.config.prediction_type
    if predicted != 'v_prediction':
        raise UserError(
            f'initialize_from: expected a model that predicts v, {name} predicts {predicted}'
        )


def _first_then_others(make: Callable[[], Any]) -> Any:
    """``make`` creates files in the first process; the others wait and open them."""
    rank, world = join_processes()
    made = make() if rank == 0 else None
    if world > 1:
        dist.barrier()
    return made if rank == 0 else make()


def profile(dataset: DatasetSettings) -> ModelProfile:
    """What a model trained on a dataset may be asked for."""
    return ModelProfile(
        radius=dataset.radius,
        elevation_deg=dataset.elevation_deg,
        photograph_fill=CANONICAL_FOCAL / (sum(dataset.radius) / 2),
        guide_channels=GUIDE_CHANNELS if dataset.guide else 0,
    )


def save_model(
    components: Zero123Components, source: Mapping[str, Any], folder: Path, dtype: torch.dtype
) -> None:
    """Write a model in diffusers layout, in the place of an older one once it is whole.

    Parameters
    ----------
    components : Zero123Components
    source : mapping
        What it was made from, for ``model_index.json``.
    folder : Path
    dtype : torch.dtype
    """
    fresh, old = (folder.with_name(f'.{folder.name}.{state}') for state in ('new', 'old'))
    shutil.rmtree(fresh, ignore_errors=True)
    with new_folder(fresh) as partial:
        for name in NETWORKS:
            write_network(partial, name, getattr(components, name), dtype)
        components.scheduler.save_pretrained(partial / 'scheduler')
        write_index(partial, components.kind, source, components.profile)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)
