r"""Plots of disturbances: what each does to IoU and confidence, and how the frames look.

::

    python -m nvs_ros.evaluation.weather.plots docs/images/robustness.png \
      household=FILE.json ycb=FILE.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from nvs_ros.evaluation.weather.kinds import KINDS, LEVELS, Case, disturb
from nvs_ros.evaluation.weather.sight import Sight

COLUMNS = 5
SHOWN = (1, 3, 5)
"""Levels in the sheet of inputs."""
NEAR_M, FAR_M = 0.2, 0.7
"""Depth that is drawn black and white."""


def curves_figure(summaries: dict[str, dict[str, Any]]) -> Figure:
    """A panel for each kind: IoU and confidence over the level.

    Parameters
    ----------
    summaries : dict
        Name of a set -> from :func:`nvs_ros.evaluation.weather.report.summarise`.
    """
    kinds = [kind for kind in KINDS if any(kind in s['kinds'] for s in summaries.values())]
    rows = -(-len(kinds) // COLUMNS)
    figure = Figure(figsize=(2.5 * COLUMNS, 2.1 * rows + 0.5), layout='constrained')
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, kind in zip(panels, kinds, strict=False):
        for number, summary in enumerate(summaries.values()):
            _curves(axes, summary, kind, f'C{number}')
        axes.set_title(KINDS[kind].what, fontsize=9)
        axes.set_xticks(range(LEVELS + 1))
        amounts = KINDS[kind].amounts
        axes.set_xlabel(f'5: {amounts[-1]:g} {KINDS[kind].unit}', fontsize=7)
    for axes in panels[len(kinds) :]:
        axes.axis('off')
    labels = [f'{name}, {what}' for name in summaries for what in ('IoU', 'confidence', 'copied')]
    figure.legend(panels[0].get_lines(), labels, loc='outside upper center', ncols=6, fontsize=8)
    return figure


def _curves(axes: Axes, summary: dict[str, Any], kind: str, color: str) -> None:
    found = summary['kinds'].get(kind, {})
    places = [0, *map(int, found)]
    for name, style in (('iou', 'o-'), ('confidence', 'x--'), ('copy_iou', ':')):
        means = [summary['undisturbed'][name], *(found[level]['mean'][name] for level in found)]
        values = np.array([mean or (np.nan,) * 3 for mean in means], float)
        axes.plot(places, values[:, 0], style, ms=3, lw=1, color=color)
        if name == 'iou':
            axes.fill_between(places, values[:, 1], values[:, 2], color=color, alpha=0.15, lw=0)


def inputs_sheet(sight: Sight, seed: Sequence[int]) -> np.ndarray:
    """Picture with the mask's outline, and depth, of a sight under each kind at three levels."""
    rows = []
    for kind in KINDS:
        cells = [_drawn(disturb(sight, Case(kind, level), seed)) for level in SHOWN]
        row = np.concatenate(cells, 1)
        cv2.putText(row, kind, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 0), 1)
        rows.append(row)
    half = -(-len(rows) // 2)
    rows += [np.full_like(rows[0], 255)] * (2 * half - len(rows))
    return np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], 1)


def _drawn(sight: Sight) -> np.ndarray:
    """A frame at half its size: picture with the outline of the mask in red, and depth."""
    image = sight.frame.image.copy()
    outlines, _ = cv2.findContours(
        sight.solid.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(image, outlines, -1, (255, 0, 0), 1)
    depth = np.nan_to_num((sight.depth_m - NEAR_M) / (FAR_M - NEAR_M))
    grey = (np.clip(depth, 0, 1) * 255).astype(np.uint8)
    both = np.concatenate([image, np.repeat(grey[..., None], 3, 2)], 1)
    return np.ascontiguousarray(
        cv2.resize(both, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    )


def write_plots(summaries: dict[str, dict[str, Any]], file: Path) -> None:
    """Write :func:`curves_figure`."""
    curves_figure(summaries).savefig(file, dpi=110)


def write_inputs(sight: Sight, seed: Sequence[int], file: Path) -> None:
    """Write :func:`inputs_sheet`."""
    Image.fromarray(inputs_sheet(sight, seed)).save(file)


def main(arguments: list[str]) -> None:
    """Write the curves of several sets: ``FILE.png NAME=FILE.json ...``."""
    file, *sets = arguments
    pairs = (text.partition('=')[::2] for text in sets)
    write_plots({name: json.loads(Path(source).read_text()) for name, source in pairs}, Path(file))


if __name__ == '__main__':
    main(sys.argv[1:])
