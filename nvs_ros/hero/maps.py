"""Attention map filtering of one layer: the recurrences (Zero-to-Hero, section 4.3)."""

from __future__ import annotations

import dataclasses

import torch

from nvs_ros.settings import SamplerSettings


def inside(timestep: int, window: tuple[int, int]) -> bool:
    """Whether low <= t < high."""
    return window[0] <= timestep < window[1]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Where one network evaluation stands in a run.

    Parameters
    ----------
    timestep : int
        t, 0 to 999.
    number, passes : int
        This is evaluation r = `number` of R = `passes` at this timestep, counted from 1.
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

        P        = f(M_r, refined_1, ..., refined_{r-1})            in-step
        refined_r = alpha_c P + (1 - alpha_c) H                      cross-step, once H exists
        H        <- alpha_h refined_R + (1 - alpha_h) H              on the last pass of a timestep

    Two buffers are kept: the pooled maps of this timestep, freed after its last pass, and the
    history.

    Parameters
    ----------
    settings : SamplerSettings
        Pooling, weights and windows.
    dtype : torch.dtype
        Precision of the two buffers.
    """

    def __init__(self, settings: SamplerSettings, dtype: torch.dtype) -> None:
        self.settings = settings
        self.dtype = dtype
        self.pooled: torch.Tensor | None = None
        self.history: torch.Tensor | None = None

    def __call__(self, logits: torch.Tensor, evaluation: Evaluation) -> torch.Tensor:
        """Refine the map of one evaluation.

        Parameters
        ----------
        logits : torch.Tensor
            (rows, heads, queries, keys), Q K^T / sqrt(d). Overwritten.
        evaluation : Evaluation
            The current step and pass.

        Returns
        -------
        torch.Tensor
            The refined map, in `logits`.
        """
        self._check_rows(logits)
        in_step = inside(evaluation.timestep, self.settings.in_step_window)
        cross_step = inside(evaluation.timestep, self.settings.cross_step_window)
        if in_step:
            self._pool(logits, evaluation.number)
        if cross_step and self.history is not None:
            logits.lerp_(self.history.to(logits.dtype), 1 - self.settings.alpha_c)
        if evaluation.last:
            self.pooled = None
            if cross_step:
                self._remember(logits)
        elif in_step:
            self._collect(logits, evaluation.number)
        return logits

    def _check_rows(self, logits: torch.Tensor) -> None:
        kept = self.history if self.pooled is None else self.pooled
        if kept is not None and kept.shape != logits.shape:
            raise RuntimeError(
                f'expected maps of shape {tuple(kept.shape)} as before in this run, '
                f'got {tuple(logits.shape)}'
            )

    def _pool(self, logits: torch.Tensor, number: int) -> None:
        """P = f(M_r, refined maps of this timestep so far); P = M on the first pass."""
        if self.pooled is None:
            return
        pooled = self.pooled.to(logits.dtype)
        if self.settings.pooling == 'min':
            torch.minimum(logits, pooled, out=logits)
        elif self.settings.pooling == 'mean':
            logits.lerp_(pooled, (number - 1) / number)
        else:
            logits.lerp_(pooled, 1 - self.settings.alpha_i)

    def _collect(self, refined: torch.Tensor, number: int) -> None:
        """Keep what the next pass needs: minimum, mean or latest of the refined maps."""
        refined = refined.to(self.dtype)
        if self.pooled is None or self.settings.pooling == 'ema':
            self.pooled = refined
        elif self.settings.pooling == 'min':
            torch.minimum(self.pooled, refined, out=self.pooled)
        else:
            self.pooled.lerp_(refined, 1 / number)

    def _remember(self, refined: torch.Tensor) -> None:
        """H <- alpha_h refined + (1 - alpha_h) H; the first refined map starts it."""
        refined = refined.to(self.dtype)
        if self.history is None:
            self.history = refined
        else:
            self.history.lerp_(refined, self.settings.alpha_h)
