"""What the trials say: success with intervals over objects, differences, trust; as numbers and as
tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from nvs_ros.evaluation.grasps.clouds import CLOUDS
from nvs_ros.evaluation.grasps.physics import OUTCOMES
from nvs_ros.evaluation.grasps.trials import GRASPS
from nvs_ros.evaluation.markdown_tables import cell
from nvs_ros.evaluation.statistics import mean_and_interval

BASELINES = ('single', 'extruded', 'mirrored')
"""One view without a network."""
METRICS = {
    'first': 'best grasp held',
    'five': 'first five held',
    'found': 'any grasp found',
    'collided': 'hit something on the way',
}
"""Name -> what it is, all shares. A grasp that was not found is one that did not hold."""
BINS = 5
"""Of equal numbers of grasps, by confidence."""
WHAT = CLOUDS | {
    'ours_no_trust': 'completed, with depth; the ranking does not know the confidence',
    'ours_more_trust': 'completed, with depth; the ranking weighs the confidence more',
}


def summarise(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Numbers of an evaluation.

    Parameters
    ----------
    results : sequence of dict
        From :func:`nvs_ros.evaluation.grasps.trials.try_all`.

    Returns
    -------
    dict
        ``objects``; ``sights``: views and seeds of each; ``methods``: method -> metric of
        :data:`METRICS` -> mean and ends of the 95 % interval over objects, and ``outcomes``: what
        became of first grasps, counted; ``paired``: ``a-b`` -> metric -> the same for the
        difference; ``baseline``: the best of :data:`BASELINES`; ``confidence``: how success goes
        with confidence, see :func:`success_by_confidence`.
    """
    methods = list(dict.fromkeys(r['method'] for r in results[0]['records']))
    scores = {method: _scores(results, method) for method in methods}
    baselines = [name for name in BASELINES if name in scores]
    best = max(baselines, key=lambda name: np.mean(scores[name]['first']), default=None)
    return {
        'objects': len(results),
        'sights': len(results[0]['records']) // len(methods),
        'baseline': best,
        'methods': {
            method: {metric: mean_and_interval(values) for metric, values in own.items()}
            | {'outcomes': _outcomes(results, method)}
            for method, own in scores.items()
        },
        'paired': {
            f'{first}-{second}': {
                metric: mean_and_interval(scores[first][metric] - scores[second][metric])
                for metric in METRICS
            }
            for first, second in _pairs(methods, best)
        },
        'confidence': success_by_confidence(results, 'ours_no_trust')
        if 'ours_no_trust' in scores
        else None,
    }


def _pairs(methods: Sequence[str], best: str | None) -> list[tuple[str, str]]:
    wanted = [('ours', name) for name in BASELINES]
    wanted += [('ours_no_depth', best)] if best is not None else []
    wanted += [('ours', 'ours_no_depth'), ('ours_trusted', 'ours')]
    wanted += [('ours_2_frames', 'ours'), ('true', 'ours')]
    wanted += [(name, 'ours_no_trust') for name in ('ours', 'ours_more_trust')]
    return [pair for pair in wanted if set(pair) <= set(methods)]


def _records(results: Sequence[dict[str, Any]], method: str) -> list[list[dict[str, Any]]]:
    return [[r for r in result['records'] if r['method'] == method] for result in results]


def _scores(results: Sequence[dict[str, Any]], method: str) -> dict[str, np.ndarray]:
    """Metric -> mean of each object; NaN where there is nothing to take a mean of."""
    rows = []
    for records in _records(results, method):
        held = [[g['what'] == 'held' for g in record['grasps']] for record in records]
        collided = [g['collided'] for record in records for g in record['grasps']]
        rows.append(
            (
                np.mean([row[0] if row else False for row in held]),
                np.mean([sum(row) / GRASPS for row in held]),
                np.mean([bool(row) for row in held]),
                np.mean(collided) if collided else np.nan,
            )
        )
    return dict(zip(METRICS, np.array(rows, float).T, strict=True))


def _outcomes(results: Sequence[dict[str, Any]], method: str) -> dict[str, int]:
    """What became of first grasps; ``none`` where none was found."""
    counts = dict.fromkeys((*OUTCOMES, 'none'), 0)
    for records in _records(results, method):
        for record in records:
            counts[record['grasps'][0]['what'] if record['grasps'] else 'none'] += 1
    return counts


def success_by_confidence(results: Sequence[dict[str, Any]], method: str) -> dict[str, Any]:
    """How success goes with the confidence of what the fingers touch.

    Parameters
    ----------
    results : sequence of dict
    method : str
        One whose ranking does not know the confidence.

    Returns
    -------
    dict
        ``grasps``; ``spearman``: rank correlation of confidence and success, None when either does
        not vary; ``bins``: of equal numbers of grasps, their mean ``confidence``, ``success`` and
        share of ``synthetic`` points.
    """
    grasps = [
        g for records in _records(results, method) for record in records for g in record['grasps']
    ]
    confidence = np.array([g['confidence'] for g in grasps])
    held = np.array([g['what'] == 'held' for g in grasps], float)
    synthetic = np.array([g['synthetic'] for g in grasps])
    varied = len(grasps) > 1 and np.ptp(confidence) > 0 and np.ptp(held) > 0
    order = np.argsort(confidence, kind='stable')
    return {
        'grasps': len(grasps),
        'spearman': float(spearmanr(confidence, held).statistic) if varied else None,
        'bins': [
            {
                'grasps': len(part),
                'confidence': float(confidence[part].mean()),
                'success': float(held[part].mean()),
                'synthetic': float(synthetic[part].mean()),
            }
            for part in np.array_split(order, BINS)
            if len(part)
        ],
    }


def table(summary: dict[str, Any]) -> str:
    """The numbers for people, Markdown."""
    objects, sights = summary['objects'], summary['sights']
    lines = [
        f'{objects} objects, {sights} view{"s and seeds" if sights > 1 else ""} of each; per cent, '
        'with 95 % intervals over objects.',
        '',
        f'| grasps found on | {" | ".join(METRICS.values())} |',
        f'|---|{"---|" * len(METRICS)}',
    ]
    for method, row in summary['methods'].items():
        cells = ' | '.join(share(row[metric]) for metric in METRICS)
        lines.append(f'| `{method}`: {WHAT[method]} | {cells} |')
    lines += ['', f'| difference | {" | ".join(METRICS.values())} |']
    lines += [f'|---|{"---|" * len(METRICS)}']
    for pair, row in summary['paired'].items():
        cells = ' | '.join(cell(row[metric], 100, 0, '+') for metric in METRICS)
        lines.append(f'| {" - ".join(f"`{name}`" for name in pair.split("-"))} | {cells} |')
    return '\n'.join(lines + _confidence_lines(summary['confidence']))


def _confidence_lines(by_confidence: dict[str, Any] | None) -> list[str]:
    if not by_confidence or not by_confidence['grasps']:
        return []
    rank = '-' if by_confidence['spearman'] is None else f'{by_confidence["spearman"]:.2f}'
    return [
        '',
        f'Success against confidence, {by_confidence["grasps"]} grasps of `ours_no_trust` '
        f'(Spearman correlation {rank}):',
        '',
        '| confidence of the touched points | of them synthetic | held |',
        '|---|---|---|',
        *(
            f'| {row["confidence"]:.2f} | {100 * row["synthetic"]:.0f} % | '
            f'{100 * row["success"]:.0f} % of {row["grasps"]} |'
            for row in by_confidence['bins']
        ),
    ]


def share(values: Sequence[float | None] | None) -> str:
    """A share in per cent; its interval does not go beyond 0 and 100."""
    inside = [value if value is None else min(max(value, 0.0), 1.0) for value in values or ()]
    return cell(inside, 100, 0)
