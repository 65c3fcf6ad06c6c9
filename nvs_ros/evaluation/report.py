"""The results of a run as one JSON object, and as tables for a terminal."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from typing import Any

from nvs_ros.evaluation.methods import DETERMINISTIC, Method
from nvs_ros.evaluation.protocol import method_names
from nvs_ros.evaluation.statistics import (
    SPLITS,
    Scores,
    mean_and_interval,
    object_scores,
    paired,
    seed_deviation,
)

FAR = 'over_45'
DIGITS = {'psnr': 2, 'ssim': 3, 'fg_psnr': 2, 'iou': 3, 'lpips': 3}
TITLES = {'psnr': 'PSNR', 'ssim': 'SSIM', 'fg_psnr': 'fg PSNR', 'iou': 'IoU', 'lpips': 'LPIPS'}


def summarise(
    results: Sequence[dict[str, Any]],
    presets: Sequence[Method],
    references: Sequence[Method],
    evaluations: dict[str, int],
    config: dict[str, Any],
) -> dict[str, Any]:
    """Summarise the results of a run.

    Parameters
    ----------
    results : sequence of dict
        From :func:`nvs_ros.evaluation.protocol.read_results`.
    presets, references : sequence of Method
    evaluations : dict
        Name of a method -> its network evaluations for a view.
    config : dict
        Settings of the run; they are part of the result, with their hash.

    Returns
    -------
    dict
        ``presets`` and ``references``: name -> mean over objects of each metric, ``evaluations``,
        ``interval`` (95 %, low and high), ``seed_sd`` and ``splits`` by azimuth change;
        ``paired`` and ``paired_over_45``: ``a-b`` -> metric -> [mean, low, high] of a minus b, for
        each preset a and each method b listed before it; ``config``, ``hashes``, ``objects``,
        ``pairs``.
    """
    scores = {split: object_scores(results, split) for split in SPLITS}
    names = method_names([*references, *presets])
    return {
        'objects': len(results),
        'pairs': len({(r['source'], r['target']) for r in results[0]['records']}),
        'presets': {
            method.name: _figures(results, scores, method.name, evaluations) for method in presets
        },
        'references': {
            name: _figures(results, scores, name, evaluations)
            for name in (*DETERMINISTIC, *(method.name for method in references))
        },
        'paired': _all_pairs(scores['all'], names, presets),
        f'paired_{FAR}': _all_pairs(scores[FAR], names, presets),
        'config': config,
        'hashes': {
            'config': _sha256(json.dumps(config, sort_keys=True)),
            'weights': config['weights_sha256'],
            'pictures': _sha256(''.join(result['sha256'] for result in results)),
        },
    }


def _figures(
    results: Sequence[dict[str, Any]],
    scores: dict[str, Scores],
    name: str,
    evaluations: dict[str, int],
) -> dict[str, Any]:
    means = {
        split: {metric: mean_and_interval(v) for metric, v in by_method[name].items()}
        for split, by_method in scores.items()
    }
    return {
        **{metric: value and value[0] for metric, value in means['all'].items()},
        'evaluations': evaluations.get(name, 0),
        'interval': {metric: value and value[1:] for metric, value in means['all'].items()},
        'seed_sd': seed_deviation(results, name),
        'splits': {
            split: {metric: value and value[0] for metric, value in by_metric.items()}
            for split, by_metric in means.items()
            if split != 'all'
        },
    }


def _all_pairs(
    scores: Scores, names: Sequence[str], presets: Sequence[Method]
) -> dict[str, dict[str, Any]]:
    return {
        f'{preset.name}-{other}': paired(scores, preset.name, other)
        for preset in presets
        for other in names[: names.index(preset.name)]
    }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def number(value: float | None, metric: str, sign: bool = False) -> str:
    """A value with the digits of its metric; a dash for None."""
    return '-' if value is None else f'{value:{"+" if sign else ""}.{DIGITS[metric]}f}'


def interval(value: Sequence[float | None] | None, metric: str) -> str:
    """A paired difference with its interval; a star if the interval excludes 0."""
    mean, low, high = value or (None, None, None)
    text = number(mean, metric, sign=True)
    if low is None or high is None:
        return text
    ends = f'{number(low, metric, sign=True)}, {number(high, metric, sign=True)}'
    return f'{text} [{ends}]{"*" if low > 0 or high < 0 else ""}'


def steps(summary: dict[str, Any]) -> list[str]:
    """The most important comparisons in the summary.

    Each step of the ladder against the one below; the last preset without overrides against
    references; presets with overrides against the same without; methods with a known shape against
    the one listed before and against the first one.
    """
    presets = list(summary['presets'])
    last = ([name for name in presets if ':' not in name] or presets)[-1]
    wanted = [
        'hourglass-zero123',
        'resample-hourglass',
        'amf-resample',
        'msa-hourglass',
        'zero-to-hero-hourglass',
        'zero-to-hero-zero123',
        *(f'{last}-{name}' for name in ('mean_pooling', 'uniform_equal', 'one_step')),
        f'{last}-copy_source',
        'hourglass-oracle',
        *(f'{name}-{name.partition(":")[0]}' for name in summary['presets'] if ':' in name),
    ]
    told = [name for name in presets if '@' in name]
    for before, name in itertools.pairwise(told):
        wanted += [f'{name}-{before}', f'{name}-{told[0]}']
    wanted = list(dict.fromkeys(wanted))
    return [name for name in wanted if name in summary['paired']]


def terminal_text(summary: dict[str, Any]) -> str:
    """The summary as tables for a terminal."""
    methods = summary['references'] | summary['presets']
    metrics = [metric for metric in TITLES if metric in methods['white']]
    width = max(map(len, methods)) + 2
    head = ''.join(f'{TITLES[metric]:>9}' for metric in metrics)
    lines = [
        f'{summary["objects"]} objects, {summary["pairs"]} pairs each',
        f'{"":{width}}{"NFE":>4}{head}  {"over 45 deg:":14}{head}',
    ]
    for name, figures in methods.items():
        near = ''.join(f'{number(figures[metric], metric):>9}' for metric in metrics)
        splits = figures['splits'][FAR]
        far = ''.join(f'{number(splits[metric], metric):>9}' for metric in metrics)
        lines.append(f'{name:{width}}{figures["evaluations"]:4}{near}  {"":14}{far}')
    lines += ['', 'paired differences, 95 % intervals over objects; * excludes 0']
    for name in steps(summary):
        cells = ''.join(
            f'{TITLES[metric]:>9} {interval(summary["paired"][name][metric], metric):28}'
            for metric in metrics
        )
        lines.append(f'{name:30}{cells}')
    lines.append(f'LPIPS {summary["config"]["lpips"]}')
    return '\n'.join(lines)
