"""Pictures side by side, for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from nvs_ros.replacing import replacing

PANEL_INCHES = 1.2


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
    save_figure(figure, file)


def save_figure(figure: Figure, file: Path) -> None:
    """Write a figure as PNG; an error leaves no partial file."""
    with replacing(file) as partial:
        figure.savefig(partial, format='png', metadata={'nvs_ros:synthetic': 'true'})
