"""The oracle of section 4.1: how good would a view be with the attention maps of the true target?

An analysis tool, for where the true picture is known::

    maps = record_attention_maps(unet, scheduler, latents=true_latents, ...)
    view = sample(unet, scheduler, ..., attention=injected_attention_maps(unet, maps))
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from nvs_ros.hero.attention import (
    AttentionControl,
    LayerPredicate,
    Part,
    Refine,
    controlled_attention,
)
from nvs_ros.hero.map_filter import inside
from nvs_ros.hero.sampler import make_scheduler, network_rows
from nvs_ros.settings import SamplerSettings


class _Recorder(AttentionControl):
    def __init__(self) -> None:
        self.maps: dict[str, torch.Tensor] = {}

    def refiner(self, layer: str) -> Refine:
        return functools.partial(self._keep, layer)

    def _keep(self, layer: str, logits: torch.Tensor, part: Part) -> torch.Tensor:
        if layer not in self.maps:
            self.maps[layer] = logits.new_empty(part.shape)
        self.maps[layer][part.heads, part.queries] = logits
        return logits


class _Injector(AttentionControl):
    def __init__(self, maps: Mapping[str, torch.Tensor], window: tuple[int, int]) -> None:
        self.maps = maps
        self.window = window
        self._inside = False

    def begin(self, timestep: int) -> None:
        if self.source_groups:
            raise ValueError('mutual_self_attention: expected False with injected maps, got True')
        self._inside = inside(timestep, self.window)

    def refiner(self, layer: str) -> Refine | None:
        return functools.partial(self._replace, layer) if self._inside else None

    def _replace(self, layer: str, logits: torch.Tensor, part: Part) -> torch.Tensor:
        known = self.maps[layer]
        if known.shape != part.shape:
            raise ValueError(
                f'{layer}: expected recorded maps of shape {part.shape}, got {tuple(known.shape)}'
            )
        return known[part.heads, part.queries].to(logits.dtype)


@torch.inference_mode()
def record_attention_maps(
    unet: nn.Module,
    scheduler: Any,
    *,
    latents: torch.Tensor,
    tokens: torch.Tensor,
    cond_latents: torch.Tensor,
    noise: torch.Tensor,
    settings: SamplerSettings,
    timestep: int = 5,
    layers: LayerPredicate | None = None,
) -> dict[str, torch.Tensor]:
    """Record the self-attention maps of pictures that are known.

    Parameters
    ----------
    unet, scheduler, tokens, cond_latents, settings
        As in :func:`~nvs_ros.hero.sampler.sample`; guidance decides the rows.
    latents : torch.Tensor
        (n, c, h, w), latents of the true targets, scaled as the network denoises them.
    noise : torch.Tensor
        (n, c, h, w), standard normal.
    timestep : int
        How much noise to add; the paper takes t = 5.
    layers : callable, optional
        Which layers, by name; all self-attention layers when omitted.

    Returns
    -------
    dict of str to torch.Tensor
        Layer name -> maps before softmax, (rows * heads, tokens, tokens).
    """
    noised = make_scheduler(scheduler, settings).add_noise(latents, noise, torch.tensor([timestep]))
    contexts, cond_latents = (network_rows(x, settings) for x in (tokens, cond_latents))
    noised = noised.repeat(len(contexts) // len(noised), 1, 1, 1)
    rows = torch.cat([noised, cond_latents.to(noised.dtype)], 1)
    with controlled_attention(unet, _Recorder(), layers) as recorder:
        unet(rows.to(unet.dtype), timestep, contexts.to(unet.dtype))
    return recorder.maps


@contextmanager
def injected_attention_maps(
    unet: nn.Module, maps: Mapping[str, torch.Tensor], window: tuple[int, int] = (0, 1000)
) -> Iterator[AttentionControl]:
    """Replace the self-attention maps of a UNet by known ones, inside a ``with`` block.

    Parameters
    ----------
    unet : torch.nn.Module
        A diffusers UNet.
    maps : mapping of str to torch.Tensor
        From :func:`record_attention_maps`; their layers are replaced.
    window : (int, int)
        Timesteps low <= t < high where they are replaced; the paper replaces them at every step.

    Raises
    ------
    ValueError
        No layer matches, or maps of another shape are needed.
    """
    with controlled_attention(unet, _Injector(maps, window), lambda name: name in maps) as control:
        yield control
