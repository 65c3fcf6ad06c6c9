"""Pictures of a training that is going on: its loss, and what the networks make by now."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from nvs_ros.training.files import replacing

PANEL_INCHES = 1.2


def plot_loss(losses: Path, file: Path) -> None:
    """Draw the rows ``step, loss`` of a CSV file."""
    with losses.open(newline='') as rows:
        steps, values = np.array([[float(cell) for cell in row] for row in csv.reader(rows)]).T
    figure = Figure(figsize=(6, 4), layout='constrained')
    axes = figure.add_subplot()
    axes.semilogy(steps, values, marker='.')
    axes.set(title=losses.stem.replace('_', ' '), xlabel='step', ylabel='mean since the row before')
    axes.grid(which='both', alpha=0.3)
    _save(figure, file)


def write_sheet(columns: Mapping[str, np.ndarray], file: Path) -> None:
    """Write pictures side by side.

    Parameters
    ----------
    columns : mapping of str to (n, S, S, 3) uint8
        Title -> pictures from top to bottom.
    file : Path
    """
    count, size = next(iter(columns.values())).shape[:2]
    sheet = np.concatenate([pictures.reshape(-1, size, 3) for pictures in columns.values()], 1)
    inches = (PANEL_INCHES * len(columns), PANEL_INCHES * count + 0.3)
    figure = Figure(figsize=inches, dpi=100, layout='constrained')
    axes = figure.add_subplot()
    axes.imshow(sheet, interpolation='nearest')
    axes.set_xticks(size * (np.arange(len(columns)) + 0.5), list(columns))
    axes.tick_params(bottom=False, top=False, labeltop=True, labelbottom=False)
    axes.set_yticks([])
    _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    with replacing(file) as partial:
        figure.savefig(partial, format='png')
