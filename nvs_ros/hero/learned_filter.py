"""A filter of attention maps whose weights were learned instead of set by hand.

The paper's filter pools the maps of one timestep and averages them over timesteps with the same few
constants everywhere. Here every head of every layer has weights of its own for each stage of the
run, and they act at every timestep for which they were learned. They belong to one network: those
of another one have other layers and other heads.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from nvs_ros.hero.attention import LayerPredicate, Part, self_attention_layers
from nvs_ros.hero.map_filter import Evaluation, MapFilter

STAGES = (0, 200, 400, 600, 800, 900)
"""Least timestep of each stage."""
FEATURES = ('present', 'passes', 'spread', 'history')
"""What the weights belong to, see :class:`LearnedPolicy`."""
HISTORY_WEIGHT = 0.5
"""Weight of the newest timestep in the history; the paper's alpha_h."""


def stage_of(timestep: int, number: int, stages: tuple[int, ...] = STAGES) -> int:
    """Row of the weights for an evaluation: two for each stage, for the first pass at a timestep
    and for further ones."""
    return 2 * sum(timestep >= low for low in stages[1:]) + (number > 1)


@dataclasses.dataclass(frozen=True)
class LearnedPolicy:
    """Weights of a refined map in four maps, by layer, stage of the run and head.

    With M the present map before softmax, B the mean of M over the earlier passes at this timestep
    and H the history, which is H <- (mean of M over all passes + H) / 2 after each timestep::

        refined = w_present M + w_passes B + w_spread |M - B| + w_history H

    The minimum of two maps is half their sum minus half their distance: weights 1/2, 1/2, -1/2 pool
    by the minimum, 1/2, 1/2, 0 by the mean. The sum of the first, second and fourth weight is an
    inverse temperature: below 1 the attention is flatter. Where there is no earlier pass, B is M;
    before the second timestep H is M.

    Attributes
    ----------
    weights : mapping of str to torch.Tensor
        Layer -> (2 * stages, heads, 4) float32, see :func:`stage_of` and :data:`FEATURES`.
    stages : tuple of int
        Least timestep of each stage, increasing, the first one 0.
    trained_on : str
        SHA-256 of the weights of the UNet that it was learned for; empty: unknown.

    Raises
    ------
    ValueError
        Shapes that do not fit.
    """

    weights: Mapping[str, torch.Tensor]
    stages: tuple[int, ...] = STAGES
    trained_on: str = ''

    def __post_init__(self) -> None:
        if self.stages[:1] != (0,) or list(self.stages) != sorted(set(self.stages)):
            raise ValueError(f'stages: expected increasing timesteps from 0, got {self.stages}')
        for layer, weights in self.weights.items():
            if weights.ndim != 3 or weights.shape[::2] != (2 * len(self.stages), len(FEATURES)):
                raise ValueError(
                    f'{layer}: expected weights ({2 * len(self.stages)}, heads, {len(FEATURES)}), '
                    f'got {tuple(weights.shape)}'
                )
            if not weights.isfinite().all():
                raise ValueError(f'{layer}: expected finite weights')

    @classmethod
    def neutral(cls, unet: nn.Module, layers: LayerPredicate | None = None) -> LearnedPolicy:
        """Weights for the layers of a UNet that leave every map as it is."""
        row = torch.zeros(len(FEATURES))
        row[0] = 1
        chosen = {
            name: attn
            for name, attn in self_attention_layers(unet).items()
            if layers is None or layers(name)
        }
        return cls(
            {name: row.repeat(2 * len(STAGES), attn.heads, 1) for name, attn in chosen.items()}
        )

    @classmethod
    def load(cls, file: Path) -> LearnedPolicy:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ValueError
            The file is not a learned filter; the message names it.
        """
        try:
            with safe_open(file, 'pt') as opened:
                described = json.loads((opened.metadata() or {})['filter'])
                weights = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
            return cls(weights, tuple(described['stages']), described['trained_on'])
        except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
            raise ValueError(f'{file}: expected a learned filter: {error}') from error

    def save(self, file: Path) -> None:
        """Write a safetensors file."""
        described = {'stages': list(self.stages), 'trained_on': self.trained_on}
        tensors = {name: weights.contiguous() for name, weights in self.weights.items()}
        save_file(tensors, file, metadata={'format': 'pt', 'filter': json.dumps(described)})

    def to(self, device: torch.device) -> LearnedPolicy:
        """The same weights on a device, so that no evaluation has to copy them there."""
        moved = {layer: weights.to(device) for layer, weights in self.weights.items()}
        return dataclasses.replace(self, weights=moved)

    def check(self, unet: nn.Module) -> None:
        """Raise ValueError if a layer of the weights is not in a UNet, or has another number of
        heads."""
        layers = self_attention_layers(unet)
        for name, weights in self.weights.items():
            if name not in layers:
                raise ValueError(f'learned filter: expected layers of {list(layers)}, got {name}')
            if weights.shape[1] != layers[name].heads:
                raise ValueError(
                    f'learned filter: expected weights of {layers[name].heads} heads for {name}, '
                    f'got {weights.shape[1]}'
                )

    def wants(self, timestep: int) -> bool:
        return True

    def filter_of(self, layer: str, dtype: torch.dtype) -> LearnedMapFilter | None:
        weights = self.weights.get(layer)
        return None if weights is None else LearnedMapFilter(weights, self.stages, dtype)


class LearnedPhase(NamedTuple):
    """What the filter has to know of an evaluation: the pass, and weights (heads, 4)."""

    weights: torch.Tensor
    last: bool
    number: int


class LearnedMapFilter(MapFilter):
    """The filter of one layer with learned weights, see :class:`LearnedPolicy`.

    The two buffers hold maps before refinement: the mean over the passes at the current timestep,
    and the history.

    Parameters
    ----------
    weights : torch.Tensor
        (2 * stages, heads, 4).
    stages : tuple of int
    dtype : torch.dtype
        Precision of the buffers.
    """

    def __init__(self, weights: torch.Tensor, stages: tuple[int, ...], dtype: torch.dtype) -> None:
        self.weights = weights
        self.stages = stages
        self.dtype = dtype
        self.shape = None
        self.pooled = {}
        self.history = {}

    def phase(self, evaluation: Evaluation) -> LearnedPhase:
        stage = stage_of(evaluation.timestep, evaluation.number, self.stages)
        return LearnedPhase(self.weights[stage], evaluation.last, evaluation.number)

    def _refine(
        self, logits: torch.Tensor, key: tuple[int, int], part: Part, phase: LearnedPhase
    ) -> None:
        passes, history = self.pooled.get(key), self.history.get(key)
        present, passes_weight, spread, history_weight = _of_heads(phase.weights, part, logits)
        mean = logits.to(self.dtype, copy=True)
        if passes is None:
            present = present + passes_weight
        else:
            mean = passes.lerp(mean, 1 / phase.number)
        if history is None:
            present = present + history_weight
        if passes is None:
            logits.mul_(present)
        else:
            earlier = passes.to(logits.dtype)
            distance = (logits - earlier).abs_()
            logits.mul_(present).addcmul_(earlier, passes_weight).addcmul_(distance, spread)
        if history is not None:
            logits.addcmul_(history.to(logits.dtype), history_weight)
        if phase.last:
            self.pooled.pop(key, None)
            mean = mean if history is None else history.lerp(mean, HISTORY_WEIGHT)
            self.history[key] = self._kept('history', key, mean)
        else:
            self.pooled[key] = self._kept('pooled', key, mean)


def _of_heads(weights: torch.Tensor, part: Part, logits: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The weight of each feature for the maps of a part, (maps, 1, 1), from (heads, 4)."""
    first = part.heads.start
    heads = torch.arange(first, first + len(logits), device=weights.device) % len(weights)
    return weights[heads].to(logits).T[:, :, None, None].unbind(0)
