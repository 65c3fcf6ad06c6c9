"""Means, intervals and paired differences.

Views of one object are not independent, so each object counts as one observation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

METRICS = ('psnr', 'ssim', 'fg_psnr', 'iou', 'lpips')
CONFIDENCE = 0.95
RESAMPLED = 4000
"""Times that the bootstrap draws the objects."""
SPLITS: dict[str, tuple[float, float]] = {
    'all': (0.0, 180.0),
    'over_45': (45.0, 180.0),
    '0_45': (0.0, 45.0),
    '45_90': (45.0, 90.0),
    '90_135': (90.0, 135.0),
    '135_180': (135.0, 180.0),
}
"""Name -> low < azimuth change <= high, degrees; 0 belongs to the ranges that begin at 0."""

Scores = dict[str, dict[str, np.ndarray]]
"""Method -> metric -> mean over pairs and seeds for each object; NaN if it has no such pair."""


def in_split(split: str) -> Callable[[float], bool]:
    """Function that says whether an azimuth change (degrees, either sign) belongs to a split."""
    low, high = SPLITS[split]
    return lambda degrees: low < abs(degrees) <= high or (low == 0 and degrees == 0)


def object_scores(results: Sequence[dict[str, Any]], split: str = 'all') -> Scores:
    """Mean metrics of each object over its pairs in a split.

    Parameters
    ----------
    results : sequence of dict
        From :func:`nvs_ros.evaluation.protocol.read_results`.
    split : str
        Key of :data:`SPLITS`.
    """
    chosen = in_split(split)
    scores: Scores = defaultdict(dict)
    metrics = [name for name in METRICS if name in results[0]['records'][0]]
    for number, result in enumerate(results):
        groups: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for record in result['records']:
            groups[record['method']] += [record] if chosen(record['delta_azimuth_deg']) else []
        for method, records in groups.items():
            for metric in metrics:
                means = scores[method].setdefault(metric, np.full(len(results), np.nan))
                if records:
                    means[number] = np.mean([record[metric] for record in records])
    return scores


def mean_and_interval(values: np.ndarray) -> list[float | None] | None:
    """Mean, low and high end of its 95 % interval (Student's t over objects).

    None if no value is finite; with a single one the ends of the interval are None.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    mean = float(values.mean())
    if len(values) == 1:
        return [mean, None, None]
    half = stats.sem(values) * stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return [mean, mean - float(half), mean + float(half)]


def paired(scores: Scores, first: str, second: str) -> dict[str, list[float | None] | None]:
    """Paired difference of two methods, first minus second: metric -> mean, low, high."""
    return {
        metric: mean_and_interval(values - scores[second][metric])
        for metric, values in scores[first].items()
    }


def seed_deviation(results: Sequence[dict[str, Any]], method: str) -> dict[str, float] | None:
    """Metric -> standard deviation over the seeds of a view, root mean square over all views; None
    with one seed."""
    views = defaultdict(list)
    for result in results:
        for record in result['records']:
            if record['method'] == method:
                views[result['object'], record['source'], record['target']].append(record)
    groups = list(views.values())
    if len(groups[0]) < 2:
        return None
    return {
        metric: float(
            np.sqrt(np.mean([np.var([r[metric] for r in group], ddof=1) for group in groups]))
        )
        for metric in METRICS
        if metric in groups[0][0]
    }


def bootstrap_interval(values: np.ndarray) -> list[float | None] | None:
    """Mean, low and high end of its 95 % interval, from means of objects drawn with replacement.

    Unlike :func:`mean_and_interval` it does not take the values for normally distributed, as losses
    under disturbance are not. None if no value is finite; with a single one the ends are None.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    mean = float(values.mean())
    if len(values) == 1:
        return [mean, None, None]
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLED, len(values)))
    low, high = np.quantile(values[drawn].mean(1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return [mean, float(low), float(high)]
