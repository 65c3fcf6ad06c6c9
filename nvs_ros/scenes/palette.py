"""Colours of generated objects."""

from __future__ import annotations

import colorsys

import numpy as np

WHITE = np.array([0.92, 0.92, 0.9])
STEEL = np.array([0.7, 0.71, 0.74])
DARK = np.array([0.13, 0.13, 0.15])


def any_color(rng: np.random.Generator) -> np.ndarray:
    """A random RGB colour (3,), 0..1; one in six is grey, none as bright as the background."""
    if rng.random() < 1 / 6:
        return np.full(3, rng.uniform(0.15, 0.85))
    return np.array(
        colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.45, 1), rng.uniform(0.45, 0.95))
    )


def two_colors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two random RGB colours (3,), 0..1, that can be told apart."""
    first = any_color(rng)
    while True:
        second = WHITE if rng.random() < 0.25 else any_color(rng)
        if np.abs(first - second).sum() > 0.6:
            return first, second
