"""What a learned filter learns from: maps of a run beside those of the true picture.

The true picture's maps (section 4.1 of Zero-to-Hero) are recorded in one evaluation, then views are
sampled, and at each evaluation some random rows of every map are kept with what the filter may use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from nvs_ros.evaluation.methods import sampling_inputs, true_latents
from nvs_ros.evaluation.sets import Known, ObjectSet
from nvs_ros.geometry.target import target_from_pose
from nvs_ros.hero.attention import Part
from nvs_ros.hero.filtering import attention_map_filtering
from nvs_ros.hero.learned_filter import LearnedMapFilter, LearnedPhase, LearnedPolicy, stage_of
from nvs_ros.hero.map_filter import Evaluation
from nvs_ros.hero.oracle import record_attention_maps
from nvs_ros.hero.sampler import sample
from nvs_ros.replacing import replacing
from nvs_ros.settings import SamplerSettings
from nvs_ros.synthesizer import Synthesizer

QUERIES = 6
"""Rows of each map that are kept."""
KNOWN = ('nothing', 'mask', 'depth')
"""What is told of an object's shape, in turn."""

Recordings = Mapping[tuple[str, int], tuple[torch.Tensor, torch.Tensor]]
"""(layer, stage) -> features (heads, n, keys, 4) and true attention (heads, n, keys)."""


@dataclass
class _Rows:
    """Collects rows of maps in one run."""

    policy: LearnedPolicy
    truth: Mapping[str, torch.Tensor]
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self.kept: dict[tuple[str, int], list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def wants(self, timestep: int) -> bool:
        return True

    def filter_of(self, layer: str, dtype: torch.dtype) -> _RecordedFilter | None:
        if layer not in self.policy.weights:
            return None
        return _RecordedFilter(layer, self, dtype)

    def keep(self, layer: str, stage: int, features: list[torch.Tensor], part: Part) -> None:
        heads = self.policy.weights[layer].shape[1]
        some = torch.from_numpy(self.rng.integers(features[0].shape[1], size=QUERIES))
        chosen = torch.stack([feature[:, some] for feature in features], -1)
        truth = self.truth[layer][part.heads, part.queries][:, some].softmax(-1)
        by_head = (
            x.unflatten(0, (-1, heads)).transpose(0, 1).flatten(1, 2) for x in (chosen, truth)
        )
        pair = tuple(x.half() for x in by_head)
        self.kept.setdefault((layer, stage), []).append(pair)


class _RecordedFilter(LearnedMapFilter):
    """A learned filter that hands its features to :class:`_Rows` before it refines."""

    def __init__(self, layer: str, rows: _Rows, dtype: torch.dtype) -> None:
        super().__init__(rows.policy.weights[layer], rows.policy.stages, dtype)
        self.layer = layer
        self.rows = rows

    def phase(self, evaluation: Evaluation) -> LearnedPhase:
        self.stage = stage_of(evaluation.timestep, evaluation.number, self.stages)
        return super().phase(evaluation)

    def _refine(
        self, logits: torch.Tensor, key: tuple[int, int], part: Part, phase: LearnedPhase
    ) -> None:
        passes, history = self.pooled.get(key, logits), self.history.get(key, logits)
        features = [logits, passes, (logits - passes).abs(), history]
        self.rows.keep(self.layer, self.stage, features, part)
        super()._refine(logits, key, part, phase)


def record(
    synthesizer: Synthesizer,
    objects: ObjectSet,
    index: int,
    settings: SamplerSettings,
    policy: LearnedPolicy,
) -> Recordings:
    """Sample the views of an object with a policy, and keep rows of its maps.

    Parameters
    ----------
    synthesizer : Synthesizer
    objects : ObjectSet
    index : int
        Of the object, which also chooses its noise, the rows and one of :data:`KNOWN`.
    settings : SamplerSettings
        With a learned filter and without mutual self-attention.
    policy : LearnedPolicy
        Filters the maps; its layers are recorded.
    """
    components = synthesizer.components
    views, trained = objects.views(index), components.profile.trained
    view = views.canonical(0, trained)
    measurement = views.measurement(0, Known(KNOWN[index % len(KNOWN)]))
    observation = synthesizer.observe([view], measurement)
    targets = [
        target_from_pose(view, view.camera, views.canonical(i, trained).object_from_camera)
        for i in range(1, len(views.images))
    ]
    inputs = sampling_inputs(synthesizer, observation, targets, seed=index)
    oracle = record_attention_maps(
        components.unet,
        components.scheduler,
        latents=true_latents(synthesizer, views.images[1:]).float(),
        settings=settings,
        layers=policy.weights.__contains__,
        **inputs,
    )
    rows = _Rows(policy, oracle, np.random.default_rng([objects.settings.seed, index]))
    sample(
        components.unet,
        components.scheduler,
        settings=settings,
        generator=torch.Generator().manual_seed(index),
        attention=attention_map_filtering(components.unet, settings, policy=rows),
        **inputs,
    )
    return {
        place: (torch.cat([x for x, _ in pairs], 1), torch.cat([p for _, p in pairs], 1))
        for place, pairs in rows.kept.items()
    }


def write_recordings(recordings: Recordings, file: Path) -> None:
    """Write recordings of one object; the file is there only when it is complete."""
    tensors = {}
    for (layer, stage), (features, truth) in recordings.items():
        tensors[f'{layer}|{stage}|features'] = features.contiguous()
        tensors[f'{layer}|{stage}|truth'] = truth.contiguous()
    with replacing(file) as partial:
        save_file(tensors, partial)


def read_recordings(files: list[Path], layer: str) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Stage -> features and true attention of a layer, as in :data:`Recordings`, of all files."""
    found: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for file in files:
        tensors = load_file(file)
        for name, features in tensors.items():
            of, stage, kind = name.split('|')
            if of == layer and kind == 'features':
                truth = tensors[f'{layer}|{stage}|truth']
                found.setdefault(int(stage), []).append((features, truth))
    return {
        stage: (
            torch.cat([x for x, _ in pairs], 1).float(),
            torch.cat([p for _, p in pairs], 1).float(),
        )
        for stage, pairs in sorted(found.items())
    }
