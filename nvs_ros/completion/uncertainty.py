"""Views of one viewpoint with several seeds, and how far they agree."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nvs_ros.geometry import TargetCamera
from nvs_ros.settings import SEEDS, SamplerSettings
from nvs_ros.silhouette import mask_iou
from nvs_ros.synthesizer import Observation, Synthesizer


@dataclass(frozen=True, eq=False)
class Estimate:
    """Views of one viewpoint, synthesised with K seeds.

    Attributes
    ----------
    target : TargetCamera
        With the network's own camera, so that no view is resampled.
    images : (K, S, S, 3) uint8
        RGB on white, one for each seed.
    masks : (K, S, S) uint8
        Coverage by the object, 0..255.
    seeds : tuple of int
    model_id : str
    """

    target: TargetCamera
    images: np.ndarray
    masks: np.ndarray
    seeds: tuple[int, ...]
    model_id: str

    @cached_property
    def probability(self) -> np.ndarray:
        """Share of the seeds that show the object in a pixel, (S, S) float32, 0..1."""
        return self.masks.mean(0, dtype=np.float32) / 255

    @cached_property
    def std(self) -> np.ndarray:
        """Standard deviation of the colours over the seeds, (S, S) float32, 0..1; root mean square
        of the three channels."""
        variance = self.images.astype(np.float32).var(0, ddof=1).mean(-1)
        return np.sqrt(variance) / 255

    @property
    def agreement(self) -> float:
        """Mean IoU of the silhouettes of two seeds, 0..1."""
        pairs = itertools.combinations(self.masks, 2)
        return float(np.mean([mask_iou(a, b) for a, b in pairs]))

    @property
    def spread(self) -> float:
        """Mean of :attr:`std` over the pixels where any seed shows the object, 0..1; 0 if none."""
        covered = self.probability > 0
        return float(self.std[covered].mean()) if covered.any() else 0.0


def estimate_views(
    synthesizer: Synthesizer,
    observation: Observation,
    targets: Sequence[TargetCamera],
    settings: SamplerSettings,
    *,
    seeds: int,
    seed: int = 0,
    callback: Callable[[dict], None] | None = None,
) -> list[Estimate]:
    """Synthesise each viewpoint with several seeds.

    Parameters
    ----------
    synthesizer : Synthesizer
    observation : Observation
    targets : sequence of TargetCamera
        Replaced by canonical cameras at the same places: level and looking at the object.
    settings : SamplerSettings
    seeds : int
        Number of seeds, 2 or more.
    seed : int
        The first seed; the others are the next numbers.
    callback : callable, optional
        As for :meth:`nvs_ros.synthesizer.Synthesizer.synthesize`.

    Raises
    ------
    ValueError
        ``seeds`` is below 2.
    """
    if seeds < 2:
        raise ValueError(f'seeds: expected 2 or more to compare, got {seeds}')
    chosen = tuple((seed + i) % SEEDS for i in range(seeds))
    plain = [
        dataclasses.replace(
            target,
            camera=target.canonical_camera,
            object_from_camera=target.object_from_canonical,
        )
        for target in targets
    ]
    views = synthesizer.synthesize(
        observation,
        [target for target in plain for _ in chosen],
        settings,
        seed=chosen * len(plain),
        callback=callback,
    )
    groups = [views[i : i + seeds] for i in range(0, len(views), seeds)]
    return [
        Estimate(
            target,
            np.stack([view.image for view in group]),
            np.stack([view.mask for view in group]),
            chosen,
            group[0].model_id,
        )
        for target, group in zip(plain, groups, strict=True)
    ]
