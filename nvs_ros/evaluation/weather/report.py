"""What disturbances do to views, shapes and the confidence: figures and tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from nvs_ros.completion.confidence import reliability
from nvs_ros.evaluation.markdown_tables import cell
from nvs_ros.evaluation.statistics import bootstrap_interval
from nvs_ros.evaluation.weather.kinds import KINDS, UNDISTURBED, Case

OF_VIEWS = ('iou', 'fg_psnr', 'confidence', 'copy_iou', 'copy_fg_psnr')
"""Figures of each view in a record."""
BENEFITS = ('iou', 'fg_psnr')
"""Figures in which views are compared with a copy of the source."""

Scores = dict[Case, dict[str, np.ndarray]]
"""Case -> figure -> mean over the views of each object; NaN where it is missing or refused."""


def scores_of(results: Sequence[dict[str, Any]]) -> Scores:
    """The figures of each case, object by object.

    Parameters
    ----------
    results : sequence of dict
        From :func:`nvs_ros.evaluation.weather.protocol.read_object`.
    """
    scores: Scores = defaultdict(
        lambda: {name: np.full(len(results), np.nan) for name in (*OF_VIEWS, 'shape_iou')}
    )
    for number, result in enumerate(results):
        for record in result['records']:
            figures = scores[Case(record['kind'], record['level'])]
            for name in OF_VIEWS if 'views' in record else ():
                figures[name][number] = np.mean([view[name] for view in record['views']])
            figures['shape_iou'][number] = record.get('shape_iou', np.nan)
    return dict(scores)


def summarise(
    results: Sequence[dict[str, Any]],
    config: dict[str, Any],
    others: Sequence[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Summarise the results of a set.

    Parameters
    ----------
    results : sequence of dict
        From :func:`nvs_ros.evaluation.weather.protocol.read_object`.
    config : dict
        What was measured.
    others : sequence of dict, optional
        The same objects and cases, measured otherwise.

    Returns
    -------
    dict
        ``config``; ``objects``; ``undisturbed``: figure -> mean, low and high end of its 95 %
        interval (bootstrap over objects); ``kinds``: kind -> level -> ``amount`` and ``unit``,
        ``objects``, ``refused``, ``mean`` (as undisturbed), ``change``: the same of the paired
        difference to undisturbed, ``benefit``: of that to a copy of the source under the same
        disturbance, ``gain``: of that to ``others``, if they have the case; ``gone``: kind ->
        figure -> the first measured level at which the interval of the benefit reaches 0, or None;
        ``confidence``: see :func:`confidence_figures`.
    """
    scores = scores_of(results)
    plain = scores[UNDISTURBED]
    before = {} if others is None else scores_of(others)
    kinds = {
        kind: {
            str(case.level): _case_figures(results, scores, case) | _gain(scores, before, case)
            for case in sorted(scores)
            if case.kind == kind
        }
        for kind in KINDS
        if any(case.kind == kind for case in scores)
    }
    return {
        'config': config,
        'objects': len(results),
        'undisturbed': {name: bootstrap_interval(values) for name, values in plain.items()}
        | {'benefit': _benefit(plain)},
        'kinds': kinds,
        'gone': {
            kind: {name: _gone(levels, name) for name in BENEFITS} for kind, levels in kinds.items()
        },
        'confidence': {
            name: confidence_figures(_views(results, chosen))
            for name, chosen in {
                'undisturbed': ('',),
                'disturbed': tuple(kinds),
                **{kind: (kind,) for kind in kinds},
            }.items()
        },
    }


def _case_figures(results: Sequence[dict[str, Any]], scores: Scores, case: Case) -> dict[str, Any]:
    figures, plain, kind = scores[case], scores[UNDISTURBED], KINDS[case.kind]
    records = [r for one in results for r in one['records'] if (r['kind'], r['level']) == case]
    return {
        'amount': kind.amounts[case.level - 1],
        'unit': kind.unit,
        'objects': len(records),
        'refused': sum('refused' in record for record in records),
        'mean': {name: bootstrap_interval(values) for name, values in figures.items()},
        'change': {
            name: bootstrap_interval(values - plain[name]) for name, values in figures.items()
        },
        'benefit': _benefit(figures),
    }


def _gain(scores: Scores, before: Scores, case: Case) -> dict[str, Any]:
    if case not in before:
        return {}
    gains = {name: scores[case][name] - before[case][name] for name in BENEFITS}
    return {'gain': {name: bootstrap_interval(values) for name, values in gains.items()}}


def _benefit(figures: dict[str, np.ndarray]) -> dict[str, list[float | None] | None]:
    return {name: bootstrap_interval(figures[name] - figures[f'copy_{name}']) for name in BENEFITS}


def _gone(levels: dict[str, dict[str, Any]], name: str) -> int | None:
    for level, figures in levels.items():
        _, low, _ = figures['benefit'][name] or (None, None, None)
        if low is not None and low <= 0:
            return int(level)
    return None


def _views(results: Sequence[dict[str, Any]], kinds: Iterable[str]) -> list[dict[str, Any]]:
    """All views under the chosen kinds."""
    return [
        view
        for result in results
        for record in result['records']
        if record['kind'] in kinds
        for view in record.get('views', ())
    ]


def confidence_figures(views: Sequence[dict[str, Any]]) -> dict[str, float] | None:
    """How well the confidence tells the IoU of some views.

    Returns
    -------
    dict or None
        ``views``, mean ``iou`` and ``confidence``, ``ece`` (expected calibration error in ten
        bins), ``spearman``; None without views.
    """
    if not views:
        return None
    confidence = np.array([view['confidence'] for view in views])
    iou = np.array([view['iou'] for view in views])
    return {
        'views': len(views),
        'iou': float(iou.mean()),
        'confidence': float(confidence.mean()),
        'ece': reliability(confidence, iou)[1],
        'spearman': float(spearmanr(confidence, iou).statistic) if len(views) > 2 else np.nan,
    }


def tables(summary: dict[str, Any]) -> str:
    """The summary as Markdown tables."""
    config, plain = summary['config'], summary['undisturbed']
    return '\n'.join(
        [
            f'Set `{config["set"]}`, {config["split"]} split: {summary["objects"]} objects, '
            f'{config["views"]} view{"s" if config["views"] > 1 else ""} of each frame. '
            f'Weights `{config["weights_sha256"][:12]}`. Undisturbed: IoU {cell(plain["iou"])}, '
            f'foreground PSNR {cell(plain["fg_psnr"], digits=2)} dB, confidence '
            f'{cell(plain["confidence"])}; more than a copy of the source by '
            f'{cell(plain["benefit"]["iou"], sign="+")} and '
            f'{cell(plain["benefit"]["fg_psnr"], digits=2, sign="+")} dB.',
            '',
            *_changes(summary),
            '',
            *_gone_table(summary),
            '',
            *_confidence_table(summary),
        ]
    )


def _changes(summary: dict[str, Any]) -> list[str]:
    with_shapes = summary['undisturbed']['shape_iou'] is not None
    shape = ['shape IoU'] if with_shapes else []
    cases = [figures for levels in summary['kinds'].values() for figures in levels.values()]
    with_gains = any('gain' in figures for figures in cases)
    gained = ['IoU gained', 'fg PSNR gained'] if with_gains else []
    titles = ['', 'level', 'amount', 'IoU', 'fg PSNR, dB', 'confidence', *shape, 'refused', *gained]
    lines = _head(titles)
    for kind, levels in summary['kinds'].items():
        for level, figures in levels.items():
            change = figures['change']
            cells = [KINDS[kind].what, level, f'{figures["amount"]:g} {figures["unit"]}']
            cells += [
                cell(change['iou'], sign='+'),
                cell(change['fg_psnr'], digits=2, sign='+'),
                cell(change['confidence'], sign='+'),
            ]
            cells += [cell(change['shape_iou'], sign='+')] if with_shapes else []
            cells.append(str(figures['refused'] or ''))
            if with_gains:
                gain = figures.get('gain', {})
                cells += [cell(gain.get('iou'), sign='+')]
                cells += [cell(gain.get('fg_psnr'), digits=2, sign='+')]
            lines.append(_row(cells))
    return lines


def _gone_table(summary: dict[str, Any]) -> list[str]:
    lines = _head(['benefit over copying is gone at', 'IoU', 'fg PSNR'])
    for kind, gone in summary['gone'].items():
        levels = summary['kinds'][kind]
        cells = [
            '-'
            if level is None
            else f'{level}: {levels[str(level)]["amount"]:g} {levels[str(level)]["unit"]}'
            for level in gone.values()
        ]
        lines.append(_row([KINDS[kind].what, *cells]))
    return lines


def _confidence_table(summary: dict[str, Any]) -> list[str]:
    head = ['', 'views', 'mean IoU', 'mean confidence', 'ECE', 'rank correlation']
    lines = _head(head)
    for name, figures in summary['confidence'].items():
        if figures is not None:
            what = KINDS[name].what if name in KINDS else f'**{name}**'
            values = [figures[key] for key in ('iou', 'confidence', 'ece')]
            numbers = [*(f'{value:.3f}' for value in values), f'{figures["spearman"]:.2f}']
            lines.append(_row([what, str(figures['views']), *numbers]))
    return lines


def _head(titles: list[str]) -> list[str]:
    return [_row(titles), _row(['---'] * len(titles))]


def _row(cells: list[str]) -> str:
    return f'| {" | ".join(cells)} |'
