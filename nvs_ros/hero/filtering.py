"""Filtering and mutual self-attention on a UNet (Zero-to-Hero, sections 4.3 and 4.4)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from nvs_ros.hero.attention import (
    AttentionControl,
    LayerPredicate,
    Refine,
    controlled_attention,
    fine_decoder_layers,
    self_attention_layers,
)
from nvs_ros.hero.learned_filter import LearnedPolicy
from nvs_ros.hero.map_filter import (
    Evaluation,
    FilterPolicy,
    MapFilter,
    MapStorage,
    PaperPolicy,
    inside,
)
from nvs_ros.settings import SamplerSettings


class AttentionMapFilter(AttentionControl):
    """State of the method over one run: the current step and pass, and a filter for each layer.

    Step and pass follow from the timesteps the UNet is called with: an equal timestep is a further
    pass, a lower one the next step, a higher one the start of a new run, which clears the state.

    Parameters
    ----------
    settings : SamplerSettings
        The method; its resampling must be that of the scheduler.
    layers : callable
        Layers to filter, by name.
    msa_layers : callable
        Layers where target rows may take keys and values from the source row, by name.
    map_dtype : torch.dtype
        Precision of stored maps.
    policy : FilterPolicy, optional
        How maps are refined; the paper's way with the constants of the settings when omitted.
    storage : MapStorage, optional
        Where buffers keep their place, for a compiled UNet.
    """

    def __init__(
        self,
        settings: SamplerSettings,
        layers: LayerPredicate,
        msa_layers: LayerPredicate,
        map_dtype: torch.dtype = torch.float32,
        policy: FilterPolicy | None = None,
        storage: MapStorage | None = None,
    ) -> None:
        self.settings = settings
        self.storage = storage
        self.policy = policy or PaperPolicy(settings)
        self.map_dtype = map_dtype
        self._filtered = functools.cache(layers)
        self._injected = functools.cache(msa_layers)
        self.reset()

    def reset(self) -> None:
        """Clear the state; needed only to use the control again after a run was cut short."""
        self.evaluation: Evaluation | None = None
        self._filters: dict[tuple[str, str], MapFilter | None] = {}
        self._maps_wanted = self._mutual = False

    def begin(self, timestep: int) -> None:
        """Begin a network evaluation at a timestep.

        Raises
        ------
        RuntimeError
            A filtered timestep was evaluated more or less often than the settings say, or mutual
            self-attention has neither source rows in the batch nor a complete memory of them.
        """
        previous = self.evaluation
        if previous is None or timestep > previous.timestep:
            self.reset()
            number = 1
        elif timestep == previous.timestep:
            number = previous.number + 1
            self._check_passes(previous, number, number <= previous.passes)
        else:
            number = 1
            self._check_passes(previous, previous.number, previous.last)
        settings = self.settings
        passes = settings.resampling_passes if inside(timestep, settings.resampling_window) else 1
        self.evaluation = Evaluation(timestep, number, passes)
        self._enter(timestep)

    def _check_passes(self, evaluation: Evaluation, number: int, right: bool) -> None:
        if right or not self._maps_wanted:
            return
        self.reset()
        raise RuntimeError(
            f'expected {evaluation.passes} evaluations at t={evaluation.timestep}, got {number}: '
            'the scheduler must resample as the settings say, and after a run that was cut short '
            'reset() is needed'
        )

    def _enter(self, t: int) -> None:
        settings = self.settings
        self._maps_wanted = settings.filtering and self.policy.wants(t)
        if not self._maps_wanted:
            self._filters.clear()
        self._mutual = settings.mutual_self_attention and inside(t, settings.msa_window)
        remembered = self.source_memory is not None and self.source_memory.complete
        if self._mutual and self.source_groups == 0 and not remembered:
            raise RuntimeError(
                f'mutual self-attention at t={t} needs source rows in the batch (source_groups) '
                'or the memory of them (source_memory)'
            )

    def refiner(self, layer: str) -> Refine | None:
        return self._filter(layer, 'target') if self._maps_wanted else None

    def source_refiner(self, layer: str) -> Refine | None:
        wanted = self._maps_wanted and self.settings.filter_source and self.source_groups
        return self._filter(layer, 'source') if wanted else None

    def _filter(self, layer: str, branch: str) -> Refine | None:
        if self.evaluation is None or not self._filtered(layer):
            return None
        if (layer, branch) not in self._filters:
            made = self.policy.filter_of(layer, self.map_dtype)
            if made is not None and self.storage is not None:
                made.storage = self.storage.setdefault((layer, branch), {})
            self._filters[layer, branch] = made
        chosen = self._filters[layer, branch]
        return None if chosen is None else chosen.at(self.evaluation)

    def is_mutual(self, layer: str) -> bool:
        return self._mutual and self._injected(layer)


@contextmanager
def attention_map_filtering(
    unet: nn.Module,
    settings: SamplerSettings,
    *,
    layers: LayerPredicate | None = None,
    msa_layers: LayerPredicate | None = None,
    policy: FilterPolicy | None = None,
    storage: MapStorage | None = None,
) -> Iterator[AttentionMapFilter]:
    """Filter the self-attention maps of any diffusers UNet inside a ``with`` block.

    ::

        pipe.scheduler = HourglassDDIMScheduler.from_config(pipe.scheduler.config)
        with attention_map_filtering(pipe.unet, preset('amf')):
            image = pipe('a duck').images[0]

    Parameters
    ----------
    unet : torch.nn.Module
        A diffusers UNet, called once per evaluation, with both halves of guidance in one batch.
    settings : SamplerSettings
        The method; its resampling must be that of the scheduler.
    layers : callable, optional
        Layers to filter, by name; all self-attention layers when omitted.
    msa_layers : callable, optional
        Layers of mutual self-attention; :func:`fine_decoder_layers` when omitted.
    policy : FilterPolicy, optional
        How maps are refined, for example a
        :class:`~nvs_ros.hero.learned_filter.LearnedPolicy`; the paper's way when omitted.
    storage : MapStorage, optional
        From :func:`~nvs_ros.hero.capture.compiled_evaluations`.

    Yields
    ------
    AttentionMapFilter

    Raises
    ------
    ValueError
        No layer matches, the settings ask for a learned filter and `policy` is missing, or they
        ask for the Triton kernel with a policy of its own.
    RuntimeError
        The Triton kernel cannot run here; and as for
        :func:`~nvs_ros.hero.attention.controlled_attention`.
    """
    layers = layers or (lambda name: True)
    msa_layers = msa_layers or fine_decoder_layers(unet)
    if settings.learned and policy is None:
        raise ValueError(
            'filter_policy learned: expected the weights of a learned filter, got none'
        )
    names = list(self_attention_layers(unet))
    for wanted, predicate, argument in (
        (settings.filtering, layers, 'layers'),
        (settings.mutual_self_attention, msa_layers, 'msa_layers'),
    ):
        if wanted and not any(map(predicate, names)):
            raise ValueError(f'{argument}: expected to match one of {names}, matched none')
    device = next(unet.parameters()).device
    if settings.filtering and settings.filter_kernel == 'triton':
        _check_kernel(settings, device, policy)
    if isinstance(policy, LearnedPolicy):
        policy = policy.to(device)
    control = AttentionMapFilter(
        settings, layers, msa_layers, _map_dtype(unet, settings), policy, storage
    )
    with controlled_attention(unet, control, lambda name: layers(name) or msa_layers(name)):
        try:
            yield control
        finally:
            control.reset()


def _check_kernel(
    settings: SamplerSettings, device: torch.device, policy: FilterPolicy | None
) -> None:
    from nvs_ros.hero.triton_filter import check_kernel  # loads triton

    if policy is not None:
        raise ValueError(
            f"filter_kernel triton: expected filter_policy 'paper', got {settings.filter_policy!r}"
        )
    check_kernel(device)


def _map_dtype(unet: nn.Module, settings: SamplerSettings) -> torch.dtype:
    if settings.map_dtype != 'auto':
        return getattr(torch, settings.map_dtype)
    weight = next(unet.parameters())
    return torch.float16 if weight.is_cuda else torch.promote_types(weight.dtype, torch.float32)
