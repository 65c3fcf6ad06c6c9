"""Plots of a run: the ablation ladder, metrics over the azimuth change, and a sheet of views."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from nvs_ros.contact_sheet import contact_sheet
from nvs_ros.evaluation.methods import DETERMINISTIC
from nvs_ros.evaluation.report import TITLES
from nvs_ros.evaluation.statistics import SPLITS
from nvs_ros.image_files import CONTENT, save_view

PLAIN = 'zero123'
"""Name of the preset for plain sampling."""
UNITS = {'psnr': ' (dB)', 'fg_psnr': ' (dB)'}
BINS = ('0_45', '45_90', '90_135', '135_180')
SHEET_OBJECTS = 12
CELL_PX = 96


def write_plots(
    summary: dict[str, Any], results: Sequence[dict[str, Any]], folder: Path, output: Path
) -> None:
    """Write ``ladder.png``, ``angle.png`` and ``sheet.png``.

    Parameters
    ----------
    summary : dict
        From :func:`nvs_ros.evaluation.report.summarise`.
    results : sequence of dict
        From :func:`nvs_ros.evaluation.protocol.read_results`.
    folder : Path
        Folder with the strips of views that the run wrote.
    output : Path
        Folder for the plots; created if it does not exist.
    """
    output.mkdir(parents=True, exist_ok=True)
    ladder_figure(summary).savefig(output / 'ladder.png', dpi=110)
    angle_figure(summary).savefig(output / 'angle.png', dpi=110)
    names = [*summary['references'], *summary['presets']]
    picture = sheet(results[:SHEET_OBJECTS], folder, names)
    save_view(picture, output / 'sheet.png', {'content': CONTENT})


def _panels(summary: dict[str, Any], height: float) -> tuple[Figure, list[tuple[str, Axes]]]:
    """A figure with one panel for each metric."""
    metrics = [metric for metric in TITLES if metric in summary['references']['white']]
    figure = Figure(figsize=(3.1 * len(metrics) + 1.2, height), layout='constrained')
    return figure, list(zip(metrics, figure.subplots(1, len(metrics)), strict=True))


def ladder_figure(summary: dict[str, Any]) -> Figure:
    """Difference of each method that uses the network to plain sampling (or the first preset if
    that was not run): mean and 95 % interval."""
    presets = summary['presets']
    base = PLAIN if PLAIN in presets else next(iter(presets))
    others = [
        *(name for name in summary['references'] if name not in DETERMINISTIC),
        *(name for name in presets if name != base),
    ]
    figure, panels = _panels(summary, 1.2 + 0.32 * len(others))
    for number, (metric, axes) in enumerate(panels):
        for row, name in enumerate(others):
            mean, low, high = _difference(summary, name, base)[metric] or (None, None, None)
            if mean is None or low is None or high is None:
                continue
            color = 'C0' if name in presets else '0.45'
            axes.errorbar(mean, row, xerr=[[mean - low], [high - mean]], fmt='o', ms=4, color=color)
        axes.axvline(0, color='0.7', lw=1, zorder=0)
        axes.set_yticks(range(len(others)), others if number == 0 else [''] * len(others))
        axes.set_ylim(len(others) - 0.5, -0.5)
        axes.set_title(TITLES[metric] + UNITS.get(metric, ''))
    figure.suptitle(
        f'minus {base}, paired over {summary["objects"]} objects, 95 % intervals; grey: references',
        fontsize=10,
    )
    return figure


def _difference(
    summary: dict[str, Any], name: str, base: str
) -> dict[str, list[float | None] | None]:
    """``name`` minus ``base``; the summary contains this difference or its negative."""
    if f'{name}-{base}' in summary['paired']:
        return summary['paired'][f'{name}-{base}']
    turned = summary['paired'][f'{base}-{name}']
    return {
        metric: found and [None if v is None else -v for v in (found[0], found[2], found[1])]
        for metric, found in turned.items()
    }


def angle_figure(summary: dict[str, Any]) -> Figure:
    """Metrics of each method over the azimuth change."""
    figure, panels = _panels(summary, 4.2)
    middles = [np.mean(SPLITS[split]) for split in BINS]
    for metric, axes in panels:
        for number, method in enumerate(summary['presets'].values()):
            axes.plot(middles, _over_angle(method, metric), 'o-', ms=3, color=f'C{number}')
        for number, method in enumerate(summary['references'].values(), len(summary['presets'])):
            axes.plot(middles, _over_angle(method, metric), 'x--', ms=3, lw=1, color=f'C{number}')
        axes.set_xticks(middles, [split.replace('_', '-') for split in BINS])
        axes.set_xlabel('azimuth change (deg)')
        axes.set_title(TITLES[metric] + UNITS.get(metric, ''))
    labels = [*summary['presets'], *summary['references']]
    figure.legend(panels[0][1].get_lines(), labels, loc='outside right center', fontsize=8)
    return figure


def _over_angle(method: dict[str, Any], metric: str) -> list[float]:
    values = (method['splits'][split][metric] for split in BINS)
    return [np.nan if value is None else value for value in values]


def sheet(results: Sequence[dict[str, Any]], folder: Path, names: Sequence[str]) -> np.ndarray:
    """Contact sheet of the first objects: source, true view of the largest azimuth change, and the
    views of all methods."""
    rows, captions = [], []
    for result in results:
        with Image.open(folder / f'object_{result["object"]:05d}.png') as picture:
            strip = np.asarray(picture)
        turns = [r['delta_azimuth_deg'] for r in result['records'] if r['source'] == 0]
        rows.append(np.split(strip, strip.shape[1] // strip.shape[0], 1))
        captions.append(
            [result['name'].partition('/')[0][:14], f'true {max(turns, key=abs):+.0f} deg', *names]
        )
    return contact_sheet(rows, captions, CELL_PX)
