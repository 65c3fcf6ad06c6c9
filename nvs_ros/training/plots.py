"""Plots of the loss of a training that is going on."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from nvs_ros.scenes.image_sheet import save_figure


def plot_loss(losses: Path, file: Path) -> None:
    """Draw the rows ``step, loss`` of a CSV file."""
    with losses.open(newline='') as rows:
        steps, values = np.array([[float(cell) for cell in row] for row in csv.reader(rows)]).T
    figure = Figure(figsize=(6, 4), layout='constrained')
    axes = figure.add_subplot()
    axes.semilogy(steps, values, marker='.')
    axes.set(title=losses.stem.replace('_', ' '), xlabel='step', ylabel='mean since the row before')
    axes.grid(which='both', alpha=0.3)
    save_figure(figure, file)
