"""Sampling novel views: DDIM with the four parts of Zero-to-Hero over a batch of targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.utils.torch_utils import randn_tensor
from torch import nn

from nvs_ros.hero.attention import AttentionControl
from nvs_ros.hero.filtering import attention_map_filtering
from nvs_ros.hero.map_filter import inside
from nvs_ros.hero.scheduler import HourglassDDIMScheduler
from nvs_ros.hero.shortcuts import single_token_context, timestep_table
from nvs_ros.hero.source_branch import SourceMemory
from nvs_ros.settings import SamplerSettings

_SCHEDULER_FIELDS = (
    'schedule',
    'early_steps',
    'middle_steps',
    'late_steps',
    'stage_boundaries',
    'resampling_passes',
    'resampling_window',
)


def make_scheduler(scheduler: Any, settings: SamplerSettings) -> HourglassDDIMScheduler:
    """Make a scheduler with the noise schedule of a model and the timesteps of the settings.

    Parameters
    ----------
    scheduler : SchedulerMixin
        The scheduler that came with the model; only its config is read.
    settings : SamplerSettings
        Schedule and resampling.

    Raises
    ------
    ValueError
        As for :class:`~nvs_ros.hero.scheduler.HourglassDDIMScheduler`.
    """
    fields = {name: getattr(settings, name) for name in _SCHEDULER_FIELDS}
    made = HourglassDDIMScheduler.from_config(scheduler.config, **fields)
    made.set_timesteps(settings.num_inference_steps)
    return made


@torch.inference_mode()
def sample(
    unet: ModelMixin,
    scheduler: Any,
    *,
    tokens: torch.Tensor,
    cond_latents: torch.Tensor,
    noise: torch.Tensor,
    settings: SamplerSettings,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    source_token: torch.Tensor | None = None,
    source_cond_latent: torch.Tensor | None = None,
    source_generator: torch.Generator | None = None,
    source_noise: torch.Tensor | None = None,
    source_memory: SourceMemory | None = None,
    further_conditions: Sequence[tuple[torch.Tensor, torch.Tensor]] = (),
    callback: Callable[[dict[str, Any]], None] | None = None,
    attention: AbstractContextManager[AttentionControl] | None = None,
) -> torch.Tensor:
    """Denoise n views of one frame in one batch.

    Parameters
    ----------
    unet : diffusers.ModelMixin
        Takes (rows, c + k, h, w): noisy latent, then its conditioning; and one token per row.
    scheduler : SchedulerMixin
        The model's own scheduler; only its config is read.
    tokens : torch.Tensor
        (n, 1, d), projected image embedding and relative pose of each target.
    cond_latents : torch.Tensor
        (n, k, h, w), conditioning latent of the source image (not scaled) and other channels that
        the model takes beside the noisy latent.
    noise : torch.Tensor
        (n, c, h, w), standard normal. The latents keep its dtype.
    settings : SamplerSettings
        The method.
    generator : torch.Generator or sequence of n of them, optional
        Noise for resampling, and for `eta` above 0. With one generator per target a view does not
        depend on the rest of its batch.
    source_token, source_cond_latent : torch.Tensor, optional
        (1, 1, d) and (1, k, h, w), for the identity pose; needed for mutual self-attention.
    source_generator : torch.Generator, optional
        For all noise of the source branch, which the n targets share.
    source_noise : torch.Tensor, optional
        (1, c, h, w), initial noise of the source branch instead of a draw from `source_generator`.
    source_memory : SourceMemory, optional
        Keys and values of the source branch from an earlier run; if it is not complete, this run
        fills it. Use one for each combination of frame, model, settings and source noise.
    further_conditions : sequence of (tokens, cond_latents), optional
        For further frames of the same object, with the shapes above. Each network evaluation uses
        those of a random frame, drawn for each target from `generator`: stochastic conditioning
        (Watson et al., *Novel View Synthesis with Diffusion Models*, 2022, section 2.2).
    callback : callable, optional
        Called after each network evaluation with a dict of ``evaluation`` (from 1),
        ``evaluations``, ``timestep``, ``latents`` and ``denoised`` (n, c, h, w); it may raise to
        cancel.
    attention : context manager, optional
        Controls the UNet's self-attention during the run, for example to choose layers or to inject
        known maps; ``attention_map_filtering(unet, settings)`` when omitted.

    Returns
    -------
    torch.Tensor
        (n, c, h, w), denoised latents.

    Raises
    ------
    ValueError
        Shapes or the number of generators do not fit n, `source_token` or `source_cond_latent` is
        missing for mutual self-attention, or the schedule cannot be used with the model.
    RuntimeError
        The UNet's self-attention is controlled already.
    """
    generator = list(generator) if isinstance(generator, Sequence) else generator
    conditions = [(tokens, cond_latents), *further_conditions]
    for condition in conditions:
        _check_targets(*condition, noise, generator)
    own_scheduler = make_scheduler(scheduler, settings)
    timesteps = own_scheduler.timesteps.tolist()
    target = _Branch(conditions, noise, generator, own_scheduler)
    branches = [target]
    mutual = settings.mutual_self_attention and any(
        inside(t, settings.msa_window) for t in timesteps
    )
    if mutual and not (source_memory is not None and source_memory.complete):
        if source_token is None or source_cond_latent is None:
            raise ValueError('mutual self-attention: expected source_token and source_cond_latent')
        if source_noise is None:
            shape = (1, *noise.shape[1:])
            source_noise = randn_tensor(shape, source_generator, noise.device, noise.dtype)
        given = [(source_token, source_cond_latent)], source_noise, source_generator
        branches = [_Branch(*given, make_scheduler(scheduler, settings)), target]
        if source_memory is not None:
            source_memory.restart()

    device_timesteps = torch.tensor(timesteps, device=noise.device)
    with ExitStack() as stack:
        stack.enter_context(single_token_context(unet))
        table = stack.enter_context(timestep_table(unet, timesteps))
        control = stack.enter_context(attention or attention_map_filtering(unet, settings))
        control.source_memory = source_memory
        if source_memory is not None and getattr(control, 'storage', None) is not None:
            source_memory.copies = True
        batch = _Batch(branches, settings, unet.dtype)
        for index, t in enumerate(timesteps):
            if len(batch.branches) > 1 and t < settings.msa_window[0]:
                batch = _Batch([target], settings, unet.dtype)
            control.source_groups = batch.halves if len(batch.branches) > 1 else 0
            control.announce(t)
            table.turn_to(index)
            if source_memory is not None:
                source_memory.evaluation = index
            batch.evaluate(unet, device_timesteps[index], t)
            if callback is not None:
                progress = {'evaluation': index + 1, 'evaluations': len(timesteps), 'timestep': t}
                callback(progress | {'latents': target.latents, 'denoised': target.denoised})
    if mutual and source_memory is not None:
        source_memory.finish()
    return target.latents


def _check_targets(
    tokens: torch.Tensor, cond_latents: torch.Tensor, noise: torch.Tensor, generator: Any
) -> None:
    targets = len(noise)
    rows = cond_latents.shape[0], *cond_latents.shape[2:]
    if len(tokens) != targets or rows != (targets, *noise.shape[2:]):
        raise ValueError(
            f'expected {targets} tokens and cond_latents at the size of the noise '
            f'{tuple(noise.shape)}, got {tuple(tokens.shape)} and {tuple(cond_latents.shape)}'
        )
    if isinstance(generator, list) and len(generator) != targets:
        raise ValueError(
            f'generator: expected one for each of {targets} targets, got {len(generator)}'
        )


class _Branch:
    """Rows that are denoised together: the targets, or the source."""

    def __init__(
        self,
        conditions: list[tuple[torch.Tensor, torch.Tensor]],
        noise: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None,
        scheduler: HourglassDDIMScheduler,
    ) -> None:
        self.conditions = conditions
        self.latents = noise * scheduler.init_noise_sigma
        self.denoised = self.latents
        self.generator = generator
        self.scheduler = scheduler

    def condition(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and conditioning latents of the next evaluation; each row draws one of several."""
        if len(self.conditions) == 1:
            return self.conditions[0]
        count, rows = len(self.conditions), len(self.latents)
        if isinstance(self.generator, list):
            drawn = torch.cat([torch.randint(count, (1,), generator=g) for g in self.generator])
        else:
            drawn = torch.randint(count, (rows,), generator=self.generator)
        chosen = drawn.tolist()
        tokens, latents = zip(*self.conditions, strict=True)
        return (
            torch.stack([tokens[frame][row] for row, frame in enumerate(chosen)]),
            torch.stack([latents[frame][row] for row, frame in enumerate(chosen)]),
        )

    def step(self, prediction: torch.Tensor, timestep: int, eta: float) -> None:
        self.latents, self.denoised = self.scheduler.step(
            prediction, timestep, self.latents, eta, generator=self.generator, return_dict=False
        )


class _Batch:
    """The rows of network evaluations: ``[uncond: branches; cond: branches]``."""

    def __init__(
        self, branches: list[_Branch], settings: SamplerSettings, dtype: torch.dtype
    ) -> None:
        self.branches = branches
        self.settings = settings
        self.halves = 2 if settings.guidance_scale > 1 else 1
        self.dtype = dtype
        self.varies = any(len(branch.conditions) > 1 for branch in branches)
        self._condition()

    def _condition(self) -> None:
        """Set the conditioning of the next evaluation: latents and tokens of all rows."""
        tokens, latents = zip(*(branch.condition() for branch in self.branches), strict=True)
        self.cond_latents = network_rows(torch.cat(latents), self.settings).to(self.dtype)
        self.context = network_rows(torch.cat(tokens), self.settings).to(self.dtype)

    def evaluate(self, unet: nn.Module, timestep: torch.Tensor, t: int) -> None:
        """Evaluate the network once and denoise each branch."""
        if self.varies:
            self._condition()
        latents = torch.cat([branch.latents for branch in self.branches])
        rows = torch.cat([latents] * self.halves).to(self.cond_latents.dtype)
        rows = torch.cat([rows, self.cond_latents], 1)
        prediction = unet(rows, timestep, self.context, return_dict=False)[0].to(latents.dtype)
        if self.halves > 1:
            uncond, cond = prediction.chunk(2)
            prediction = uncond + self.settings.guidance_scale * (cond - uncond)
        parts = prediction.split([len(branch.latents) for branch in self.branches])
        for branch, part in zip(self.branches, parts, strict=True):
            branch.step(part, t, self.settings.eta)


def network_rows(condition: torch.Tensor, settings: SamplerSettings) -> torch.Tensor:
    """Return the condition of each network row: ``[uncond, cond]`` with guidance.

    The unconditional half is all zero: zero token, zero conditioning latent.
    """
    if settings.guidance_scale > 1:
        return torch.cat([torch.zeros_like(condition), condition])
    return condition
