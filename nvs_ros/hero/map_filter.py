"""Attention map filtering of one layer: the recurrences (Zero-to-Hero, section 4.3)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple, Protocol

import torch

from nvs_ros.hero.attention import Part, Refine
from nvs_ros.settings import SamplerSettings

MapStorage = dict[tuple[str, str], dict[tuple, torch.Tensor]]
"""(layer, branch) -> buffers of a filter that keep their place from run to run."""


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


class Phase(NamedTuple):
    """What :class:`MapFilter` has to know of an evaluation; equal for many of them.

    Parameters
    ----------
    in_step, cross_step : bool
        Whether the timestep is inside the windows.
    last : bool
        Whether it is the last pass.
    number : int
        The pass, counted from 1, where pooling depends on it; else 0.
    """

    in_step: bool
    cross_step: bool
    last: bool
    number: int


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

    Attributes
    ----------
    storage : dict or None
        None: buffers are tensors that were computed anyway, without a copy. Else the buffers stay
        in this dict, where CUDA graphs find them, and maps are copied into them.
    """

    storage: dict[tuple, torch.Tensor] | None = None

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
        return self.at(evaluation)(logits, part)

    def at(self, evaluation: Evaluation) -> Refine:
        """The filter for one evaluation; all that depends on the timestep is decided here."""
        return functools.partial(self._checked, phase=self.phase(evaluation))

    def _checked(self, logits: torch.Tensor, part: Part, phase: Any) -> torch.Tensor:
        self._check_shape(part)
        key = part.heads.start, part.queries.start
        if self.storage is not None:
            self._reserve(key, logits)
        self._refine(logits, key, part, phase)
        return logits

    def _reserve(self, key: tuple[int, int], maps: torch.Tensor) -> None:
        for name in ('pooled', 'history'):
            place = (name, *key, *maps.shape)
            if self.storage is not None and place not in self.storage:
                self.storage[place] = torch.empty_like(maps, dtype=self.dtype)
                if not torch.compiler.is_compiling():
                    torch._dynamo.mark_static_address(self.storage[place])

    def _kept(self, name: str, key: tuple[int, int], maps: torch.Tensor) -> torch.Tensor:
        """Maps as a buffer: themselves, or copied into the storage."""
        if self.storage is None:
            return maps
        place = (name, *key, *maps.shape)
        return self.storage[place].copy_(maps)

    def _check_shape(self, part: Part) -> None:
        if self.shape not in (None, part.shape):
            raise RuntimeError(
                f'expected maps (rows * heads, queries, keys) of shape {self.shape} as before in '
                f'this run, got {part.shape}'
            )
        self.shape = part.shape

    def phase(self, evaluation: Evaluation) -> Any:
        """What `_refine` has to know of an evaluation."""
        settings = self.settings
        return Phase(
            inside(evaluation.timestep, settings.in_step_window),
            inside(evaluation.timestep, settings.cross_step_window),
            evaluation.last,
            evaluation.number if settings.pooling == 'mean' else 0,
        )

    def _refine(self, logits: torch.Tensor, key: tuple[int, int], part: Part, phase: Any) -> None:
        """Refine in place, and update the buffers of this part."""
        in_step, cross_step, last, number = phase
        if in_step and key in self.pooled:
            self._pool(logits, self.pooled[key], number)
        if not cross_step:
            self.history.pop(key, None)
        elif key in self.history:
            logits.lerp_(self.history[key].to(logits.dtype), 1 - self.settings.alpha_c)
        if last:
            self.pooled.pop(key, None)
            if cross_step:
                self._remember(key, logits.to(self.dtype))
        elif in_step:
            self._collect(key, logits.to(self.dtype), number)

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
            self.pooled[key] = self._kept('pooled', key, refined)
        elif self.settings.pooling == 'min':
            torch.minimum(pooled, refined, out=pooled)
        else:
            pooled.lerp_(refined, 1 / number)

    def _remember(self, key: tuple[int, int], refined: torch.Tensor) -> None:
        """H <- alpha_h refined + (1 - alpha_h) H; the first refined map becomes H."""
        history = self.history.get(key)
        if history is None:
            self.history[key] = self._kept('history', key, refined)
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
        if self.settings.filter_kernel == 'torch':
            return MapFilter(self.settings, dtype)
        from nvs_ros.hero.triton_filter import FusedMapFilter  # loads triton

        return FusedMapFilter(self.settings, dtype)
