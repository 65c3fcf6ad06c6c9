"""Compositions of a few plain solids that touch."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np

from nvs_ros.scenes.mesh import Mesh, ball, block, lathe
from nvs_ros.scenes.palette import any_color


def composition(rng: np.random.Generator) -> Mesh:
    """Two to five blocks, cylinders, cones and ellipsoids, each on or beside an earlier one."""
    parts: list[Mesh] = []
    size, foot = np.zeros(3), np.zeros(3)
    for _ in range(rng.integers(2, 6)):
        sides = rng.uniform(0.2, 0.6, 3)
        if parts:  # on top of the last one, or beside it
            on_top = rng.random() < 0.5
            angle = rng.uniform(-np.pi, np.pi)
            reach = 0.25 * size[:2] if on_top else 0.45 * (size + sides)[:2]
            foot = foot + [*reach * [np.cos(angle), np.sin(angle)], 0.9 * size[2] * on_top]
        part = _solid(sides, rng).turned(rng.uniform(-np.pi, np.pi))
        parts.append(part.transformed(np.eye(3), foot))
        size = sides
    return reduce(add, parts)


def _solid(sides: np.ndarray, rng: np.random.Generator) -> Mesh:
    """A random solid on the plane z = 0, with sides (3,) along x, y and z."""
    color = any_color(rng)
    kind = rng.integers(4)
    if kind == 0:
        shades = np.tile(color, (6, 1))
        shades[rng.integers(6)] = any_color(rng)
        return block(sides, shades, tuple(rng.uniform(0.5, 1, 2)))
    if kind == 1:
        return ball(sides / 2, color).transformed(np.eye(3), (0, 0, sides[2] / 2))
    top = 1.0 if kind == 2 else rng.uniform(0, 0.7)
    profile = np.array([[0, 0], [0.5, 0], [0.5 * top, 1], [0, 1]])
    rings = np.stack([color, color, any_color(rng)])
    return lathe(profile, rings).transformed(np.diag(sides))
