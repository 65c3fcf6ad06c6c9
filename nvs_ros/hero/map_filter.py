"""Attention map filtering of one layer: the recurrences (Zero-to-Hero, section 4.3)."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch

from nvs_ros.hero.attention import Part
from nvs_ros.settings import SamplerSettings


def inside(timestep: int, window: tuple[int, int]) -> bool:
    """Whether low <= t < high."""
    return window[0] <= timestep < window[1]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Position of a network evaluation in a run.

    Parameters
    ----------
    timestep : int
        t, 0 to 999.
    number, passes : int
        This is pass r = `number` of R = `passes` at this timestep, counted from 1.
    """

    timestep: int
    number: int
    passes: int

    @property
    def last(self) -> bool:
        return self.number == self.passes


class MapFilter:
    """The filter of one self-attention layer: pools within a timestep, averages across timesteps.

    With M the map before softmax, f the pooling and H the history::

        P         = f(M_r, refined_1, ..., refined_{r-1})            in-step
        refined_r = alpha_c P + (1 - alpha_c) H                       cross-step, once H exists
        H        <- alpha_h refined_R + (1 - alpha_h) H               on the last pass of a timestep

    Two buffers are kept for each part of the maps: the pooled maps of the current timestep, freed
    after its last pass, and the history.

    :class:`nvs_ros.hero.learned_filter.LearnedMapFilter` fills the same buffers in another way.

    Parameters
    ----------
    settings : SamplerSettings
        Pooling, weights and windows.
    dtype : torch.dtype
        Precision of the buffers.
    """

    def __init__(self, settings: SamplerSettings, dtype: torch.dtype) -> None:
        self.settings = settings
        self.dtype = dtype
        self.shape: tuple[int, int, int] | None = None
        self.pooled: dict[tuple[int, int], torch.Tensor] = {}
        self.history: dict[tuple[int, int], torch.Tensor] = {}

    def __call__(self, logits: torch.Tensor, part: Part, evaluation: Evaluation) -> torch.Tensor:
        """Refine part of the maps of one evaluation.

        Parameters
        ----------
        logits : torch.Tensor
            (heads, queries, keys), Q K^T / sqrt(d). Overwritten, and may be kept as a buffer.
        part : Part
            Which part of the maps this is.
        evaluation : Evaluation
            The current timestep and pass.

        Returns
        -------
        torch.Tensor
            `logits`, now the refined maps; the caller must not change it.

        Raises
        ------
        RuntimeError
            The shape of the maps changed during a run.
        """
        if self.shape not in (None, part.shape):
            raise RuntimeError(
                f'expected maps (rows * heads, queries, keys) of shape {self.shape} as before in '
                f'this run, got {part.shape}'
            )
        self.shape = part.shape
        self._refine(logits, (part.heads.start, part.queries.start), part, evaluation)
        return logits

    def _refine(
        self, logits: torch.Tensor, key: tuple[int, int], part: Part, evaluation: Evaluation
    ) -> None:
        """Refine in place, and update the buffers of this part."""
        in_step = inside(evaluation.timestep, self.settings.in_step_window)
        cross_step = inside(evaluation.timestep, self.settings.cross_step_window)
        if in_step and key in self.pooled:
            self._pool(logits, self.pooled[key], evaluation.number)
        if not cross_step:
            self.history.pop(key, None)
        elif key in self.history:
            logits.lerp_(self.history[key].to(logits.dtype), 1 - self.settings.alpha_c)
        if evaluation.last:
            self.pooled.pop(key, None)
            if cross_step:
                self._remember(key, logits.to(self.dtype))
        elif in_step:
            self._collect(key, logits.to(self.dtype), evaluation.number)

    def _pool(self, logits: torch.Tensor, pooled: torch.Tensor, number: int) -> None:
        """Pool in place: P = f(M_r, refined maps of the earlier passes at this timestep)."""
        pooled = pooled.to(logits.dtype)
        if self.settings.pooling == 'min':
            torch.minimum(logits, pooled, out=logits)
        elif self.settings.pooling == 'mean':
            logits.lerp_(pooled, (number - 1) / number)
        else:
            logits.lerp_(pooled, 1 - self.settings.alpha_i)

    def _collect(self, key: tuple[int, int], refined: torch.Tensor, number: int) -> None:
        """Keep what the next pass pools with: minimum, mean or latest of the refined maps."""
        pooled = self.pooled.get(key)
        if pooled is None or self.settings.pooling == 'ema':
            self.pooled[key] = refined
        elif self.settings.pooling == 'min':
            torch.minimum(pooled, refined, out=pooled)
        else:
            pooled.lerp_(refined, 1 / number)

    def _remember(self, key: tuple[int, int], refined: torch.Tensor) -> None:
        """H <- alpha_h refined + (1 - alpha_h) H; the first refined map becomes H."""
        history = self.history.get(key)
        if history is None:
            self.history[key] = refined
        else:
            history.lerp_(refined, self.settings.alpha_h)


class FilterPolicy(Protocol):
    """Which maps of a run are refined, and how."""

    def wants(self, timestep: int) -> bool:
        """Whether maps are refined or kept at a timestep, 0 to 999."""

    def filter_of(self, layer: str, dtype: torch.dtype) -> MapFilter | None:
        """A new filter for a layer, with buffers of a precision; None: it is not filtered."""


@dataclasses.dataclass(frozen=True)
class PaperPolicy:
    """The recurrences of :class:`MapFilter` with the constants of the settings, in every layer."""

    settings: SamplerSettings

    def wants(self, timestep: int) -> bool:
        windows = self.settings.in_step_window, self.settings.cross_step_window
        return any(inside(timestep, window) for window in windows)

    def filter_of(self, layer: str, dtype: torch.dtype) -> MapFilter:
        return MapFilter(self.settings, dtype)
