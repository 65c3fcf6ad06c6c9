"""Attention map filtering, softmax and values in one Triton kernel: a map is read once.

The same recurrences as :class:`~nvs_ros.hero.map_filter.MapFilter`, in another order of summation.
Off by default (``sampler.filter_kernel``). Needs the package triton and CUDA; with
``TRITON_INTERPRET=1`` it runs on a CPU, slowly, to be tested.
"""

from __future__ import annotations

import os
from typing import Any

import torch

from nvs_ros.hero.attention import Part
from nvs_ros.hero.map_filter import Evaluation, MapFilter, Phase

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

NOTHING, REPLACE, MINIMUM, MIX = range(4)
"""How two maps become one; MIX is a weighted mean."""
QUERIES, KEYS = 16, 64
"""Size of the block of a map that a program holds; not tuned on any GPU."""


def check_kernel(device: torch.device) -> None:
    """Raise RuntimeError, with what is missing, if the kernel cannot run on a device."""
    if triton is None:
        raise RuntimeError('filter_kernel triton: expected the package triton, which is missing')
    interpreted = os.environ.get('TRITON_INTERPRET') == '1'
    if device.type != 'cuda' and not interpreted:
        raise RuntimeError(f'filter_kernel triton: expected a CUDA device, got {device}')


if triton is not None:

    @triton.jit
    def _mixed(one, other, weight):
        return one + weight * (other - one)

    @triton.jit
    def _filtered_attention(
        logits_at, pooled_at, history_at, values_at, hidden_at,
        queries, keys, width, pool_weight, blend_weight, keep_weight,
        POOL: tl.constexpr, BLEND: tl.constexpr, KEEP: tl.constexpr, TO_HISTORY: tl.constexpr,
        QUERIES: tl.constexpr, KEYS: tl.constexpr, WIDTH: tl.constexpr,
    ):  # fmt: skip
        """Some queries of one map: refine, keep, and sum the values with a running softmax."""
        # int64: all maps together may have more than 2**31 elements.
        index = tl.program_id(1).to(tl.int64)
        rows = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
        channels = tl.arange(0, WIDTH)
        highest = tl.full((QUERIES,), float('-inf'), tl.float32)
        total = tl.zeros((QUERIES,), tl.float32)
        hidden = tl.zeros((QUERIES, WIDTH), tl.float32)
        for first in range(0, keys, KEYS):
            columns = first + tl.arange(0, KEYS)
            place = index * queries * keys + rows[:, None] * keys + columns[None, :]
            valid = (rows[:, None] < queries) & (columns[None, :] < keys)
            logits = tl.load(logits_at + place, mask=valid, other=0).to(tl.float32)
            old = logits
            if POOL != 0:
                old = tl.load(pooled_at + place, mask=valid, other=0).to(tl.float32)
                if POOL == 2:  # noqa: SIM108
                    logits = tl.minimum(logits, old)
                else:
                    logits = _mixed(logits, old, pool_weight)
            if BLEND:
                history = tl.load(history_at + place, mask=valid, other=0).to(tl.float32)
                logits = _mixed(logits, history, blend_weight)
                if TO_HISTORY:
                    old = history
            if KEEP != 0:
                kept = logits
                if KEEP == 2:
                    kept = tl.minimum(old, logits)
                elif KEEP == 3:
                    kept = _mixed(old, logits, keep_weight)
                kept_at = history_at if TO_HISTORY else pooled_at
                tl.store(kept_at + place, kept.to(kept_at.dtype.element_ty), mask=valid)
            logits = tl.where(columns[None, :] < keys, logits, float('-inf'))
            higher = tl.maximum(highest, tl.max(logits, 1))
            shrink = tl.exp(highest - higher)
            weights = tl.exp(logits - higher[:, None])
            value_place = index * keys * width + columns[:, None] * width + channels[None, :]
            value_valid = (columns[:, None] < keys) & (channels[None, :] < width)
            values = tl.load(values_at + value_place, mask=value_valid, other=0)
            total = total * shrink + tl.sum(weights, 1)
            hidden = hidden * shrink[:, None]
            hidden += tl.dot(weights.to(values.dtype), values, input_precision='ieee')
            highest = higher
        hidden = hidden / total[:, None]
        place = index * queries * width + rows[:, None] * width + channels[None, :]
        valid = (rows[:, None] < queries) & (channels[None, :] < width)
        tl.store(hidden_at + place, hidden.to(hidden_at.dtype.element_ty), mask=valid)


class FusedMapFilter(MapFilter):
    """The filter of one layer with the paper's recurrences, through the kernel."""

    def at(self, evaluation: Evaluation) -> FusedRefine:
        return FusedRefine(self, self.phase(evaluation))

    def attend(
        self, logits: torch.Tensor, part: Part, values: torch.Tensor, phase: Phase
    ) -> torch.Tensor:
        """Refine part of the maps, update the buffers, and apply softmax and values.

        Parameters
        ----------
        logits : torch.Tensor
            (maps, queries, keys), Q K^T / sqrt(d), contiguous; not changed.
        values : torch.Tensor
            (maps, keys, width).

        Returns
        -------
        torch.Tensor
            (maps, queries, width), with the dtype of `values`.
        """
        self._check_shape(part)
        key = part.heads.start, part.queries.start
        settings = self.settings
        pooled = self.pooled.get(key) if phase.in_step else None
        if not phase.cross_step:
            self.history.pop(key, None)
        history = self.history.get(key)
        pooling = MINIMUM if settings.pooling == 'min' else MIX
        first, keep, keep_weight, buffers = True, NOTHING, 0.0, self.pooled
        if phase.last and phase.cross_step:
            first, buffers, keep_weight = history is None, self.history, settings.alpha_h
            keep = REPLACE if first else MIX
        elif phase.in_step and not phase.last:
            first, keep_weight = pooled is None, 1 / max(phase.number, 1)
            keep = REPLACE if first or settings.pooling == 'ema' else pooling
        if keep and first:
            buffers[key] = self._room(
                'history' if buffers is self.history else 'pooled', key, logits
            )
        hidden = _attention(
            logits,
            self.pooled.get(key),
            self.history.get(key),
            values,
            pool=NOTHING if pooled is None else pooling,
            blend=history is not None,
            keep=keep,
            to_history=buffers is self.history,
            weights=(self._pool_weight(phase.number), 1 - settings.alpha_c, keep_weight),
        )
        if phase.last:
            self.pooled.pop(key, None)
        return hidden

    def _room(self, name: str, key: tuple[int, int], logits: torch.Tensor) -> torch.Tensor:
        if self.storage is None:
            return torch.empty_like(logits, dtype=self.dtype)
        self._reserve(key, logits)
        place = (name, *key, *logits.shape)
        return self.storage[place]

    def _pool_weight(self, number: int) -> float:
        mean = self.settings.pooling == 'mean'
        return (number - 1) / number if mean else 1 - self.settings.alpha_i


class FusedRefine:
    """A :class:`FusedMapFilter` in one evaluation.

    Parameters
    ----------
    map_filter : FusedMapFilter
    phase : Phase
    """

    def __init__(self, map_filter: FusedMapFilter, phase: Phase) -> None:
        self.map_filter = map_filter
        self.phase = phase

    def __call__(self, logits: torch.Tensor, part: Part) -> torch.Tensor:
        """Refine without the kernel, as :class:`MapFilter` does."""
        return self.map_filter._checked(logits, part, self.phase)

    def attend(self, logits: torch.Tensor, part: Part, values: torch.Tensor) -> torch.Tensor:
        """As :meth:`FusedMapFilter.attend`."""
        return self.map_filter.attend(logits, part, values, self.phase)


def _attention(
    logits: torch.Tensor,
    pooled: torch.Tensor | None,
    history: torch.Tensor | None,
    values: torch.Tensor,
    *,
    pool: int,
    blend: bool,
    keep: int,
    to_history: bool,
    weights: tuple[float, float, float],
) -> torch.Tensor:
    check_kernel(logits.device)
    logits, values = logits.contiguous(), values.contiguous()
    maps, queries, keys = logits.shape
    width = values.shape[2]
    hidden = values.new_empty(maps, queries, width)
    grid: Any = (triton.cdiv(queries, QUERIES), maps)
    _filtered_attention[grid](
        logits,
        logits if pooled is None else pooled,
        logits if history is None else history,
        values,
        hidden,
        queries,
        keys,
        width,
        *weights,
        POOL=pool,
        BLEND=blend,
        KEEP=keep,
        TO_HISTORY=to_history,
        QUERIES=QUERIES,
        KEYS=KEYS,
        WIDTH=max(16, triton.next_power_of_2(width)),
    )
    return hidden
