r"""Write results of evaluations as tables into a Markdown file, so that no figure is typed by hand.

::

    python -m nvs_ros.evaluation.markdown_tables docs/evaluation.md \
      household=FILE.json sweep=FILE.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nvs_ros.evaluation.report import FAR, TITLES, interval, number, steps

PAPER = {
    'zero123': {'psnr': 17.72, 'ssim': 0.854, 'iou': 0.764},
    'hourglass': {'psnr': 17.74, 'ssim': 0.855, 'iou': 0.766},
    'resample': {'psnr': 17.85, 'ssim': 0.857, 'iou': 0.771},
    'amf': {'psnr': 17.92, 'ssim': 0.859, 'iou': 0.778},
    'msa': {'psnr': 18.25, 'ssim': 0.862, 'iou': 0.776},
    'zero-to-hero': {'psnr': 18.35, 'ssim': 0.864, 'iou': 0.783},
    'oracle': {'psnr': 21.79, 'ssim': 0.890, 'iou': 0.886},
}
"""Results in the paper (Zero-to-Hero, tables 1 and 2): Zero123-XL on 50 scanned objects."""

PARTS = {
    'hourglass-zero123': 'The hourglass schedule',
    'resample-hourglass': 'Resampling',
    'amf-resample': 'Filtering, on top of resampling',
    'msa-hourglass': 'Mutual self-attention',
    'zero-to-hero-hourglass': 'Everything but the schedule',
    'zero-to-hero-uniform_equal': 'The whole method against plain sampling at the same cost',
    'zero-to-hero-mean_pooling': 'Pooling by the minimum against the mean',
}
"""Comparison of two methods -> the part of the method whose effect it shows."""


def replaced(text: str, section: str, content: str) -> str:
    """A Markdown text with the content between the marks of a section replaced.

    Raises
    ------
    ValueError
        The text has no such marks.
    """
    begin, end = f'<!-- {section}: begin -->', f'<!-- {section}: end -->'
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f'expected the marks {begin} and {end}, got neither or one')
    return f'{before}{begin}\n{content}\n{end}{after}'


def tables(summary: dict[str, Any]) -> str:
    """Markdown with settings, metrics of every method, paired differences and conclusions."""
    config = summary['config']
    seeds = f'{config["seeds"]} seed{"s" if config["seeds"] > 1 else ""}'
    lines = [
        f'Set `{config["set"]}`, {config["split"]} split: {summary["objects"]} objects, '
        f'{summary["pairs"]} pairs of each ({config["sources"]} of {config["views"]} views as '
        f'source), {seeds}. '
        f'Weights `{summary["hashes"]["weights"][:12]}`, pictures '
        f'`{summary["hashes"]["pictures"][:12]}`. LPIPS {config["lpips"]}.',
        '',
        *_means(summary),
        '',
        *_differences(summary),
        '',
        *_verdicts(summary),
    ]
    return '\n'.join(lines)


def _metrics(summary: dict[str, Any]) -> list[str]:
    return [metric for metric in TITLES if metric in summary['references']['white']]


def _means(summary: dict[str, Any]) -> list[str]:
    metrics = _metrics(summary)
    titles = [TITLES[metric] for metric in metrics]
    seeds = ('psnr', 'iou') if summary['config']['seeds'] > 1 else ()
    header = ['', 'NFE', *titles, *(f'{title}, over 45°' for title in titles)]
    header += [f'{TITLES[metric]}, s.d. over seeds' for metric in seeds]
    lines = [_row(header), _row(['---'] * len(header))]
    for name, figures in (summary['references'] | summary['presets']).items():
        cells = [number(figures[metric], metric) for metric in metrics]
        cells += [number(figures['splits'][FAR][metric], metric) for metric in metrics]
        deviation = figures.get('seed_sd') or {}
        cells += [number(deviation.get(metric), metric) for metric in seeds]
        lines.append(_row([f'`{name}`', str(figures['evaluations']), *cells]))
    return lines


def _differences(summary: dict[str, Any]) -> list[str]:
    metrics = _metrics(summary)
    header = ['minus', *(TITLES[metric] for metric in metrics), 'fg PSNR, over 45°', 'the paper']
    lines = [_row(header), _row(['---'] * len(header))]
    for name in steps(summary):
        cells = [interval(summary['paired'][name][metric], metric) for metric in metrics]
        far = interval(summary[f'paired_{FAR}'][name]['fg_psnr'], 'fg_psnr')
        lines.append(_row([f'`{name}`', *cells, far, _paper(name)]))
    return lines


def _verdicts(summary: dict[str, Any]) -> list[str]:
    """For each part of the method, the conclusions that the intervals allow."""
    lines = []
    for name, part in PARTS.items():
        words: dict[str, list[str]] = {'higher': [], 'lower': [], 'cannot be told apart': []}
        differences = summary['paired'].get(name, {})
        for metric, (_, low, high) in differences.items():
            if low is not None:
                word = 'higher' if low > 0 else 'lower' if high < 0 else 'cannot be told apart'
                words[word].append(TITLES[metric])
        said = '; '.join(f'{", ".join(titles)} {word}' for word, titles in words.items() if titles)
        if said:
            _, low, high = differences['psnr']
            lines.append(f'- {part}: {said}. PSNR is known to ±{(high - low) / 2:.2f} dB.')
    return lines


def _paper(name: str) -> str:
    """The same difference in the paper, as PSNR / SSIM / IoU; ``''`` if it is not there."""
    for first in PAPER:
        second = name.removeprefix(f'{first}-')
        if second != name and second in PAPER:
            return ' / '.join(
                number(PAPER[first][metric] - PAPER[second][metric], metric, sign=True)
                for metric in ('psnr', 'ssim', 'iou')
            )
    return ''


def cell(
    values: Sequence[float | None] | None, scale: float = 1, digits: int = 3, sign: str = ''
) -> str:
    """A mean and its interval from :func:`nvs_ros.evaluation.statistics.mean_and_interval`.

    Parameters
    ----------
    values : sequence of float or None, optional
        Mean, low and high end; a dash stands for a missing mean.
    scale : float
        Factor of all three.
    digits : int
        Behind the point.
    sign : str
        ``'+'`` for differences.
    """
    mean, low, high = values or (None, None, None)
    if mean is None:
        return '-'
    text = f'{mean * scale:{sign}.{digits}f}'
    if low is None or high is None:
        return text
    return f'{text} ({low * scale:{sign}.{digits}f} ... {high * scale:{sign}.{digits}f})'


def _row(cells: list[str]) -> str:
    return f'| {" | ".join(cells)} |'


def main(arguments: list[str]) -> None:
    """Fill the sections of a file: ``FILE.md SECTION=FILE.json ...``."""
    file, *sections = arguments
    text = Path(file).read_text()
    for section in sections:
        name, _, source = section.partition('=')
        text = replaced(text, name, tables(json.loads(Path(source).read_text())))
    Path(file).write_text(text)


if __name__ == '__main__':
    main(sys.argv[1:])
