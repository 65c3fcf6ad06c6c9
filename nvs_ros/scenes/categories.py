"""Procedural table-top objects: random proportions and colours, with something that tells the
front.

Every object lies or stands as on a table (z up), is centred on its bounding box and has a longest
side of 1. What tells its sides apart (handle, spout, label, panel) is turned to a random azimuth.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nvs_ros.scenes.composition import composition
from nvs_ros.scenes.containers import bottle, bowl, can, carton, mug, teapot
from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.tools_and_toys import banana, car, duck, hammer, lamp, screwdriver


def make_object(category: str, rng: np.random.Generator) -> Mesh:
    """One random object of a category.

    Parameters
    ----------
    category : str
        A key of :data:`CATEGORIES`.
    rng : numpy.random.Generator
        The only source of randomness.
    """
    if category not in CATEGORIES:
        raise ValueError(f'category: expected one of {sorted(CATEGORIES)}, got {category!r}')
    mesh = CATEGORIES[category](rng)
    return mesh.turned(rng.uniform(-np.pi, np.pi)).normalised()


CATEGORIES: dict[str, Callable[[np.random.Generator], Mesh]] = {
    'mug': mug,
    'teapot': teapot,
    'bottle': bottle,
    'can': can,
    'bowl': bowl,
    'carton': carton,
    'hammer': hammer,
    'screwdriver': screwdriver,
    'car': car,
    'lamp': lamp,
    'banana': banana,
    'duck': duck,
    'composition': composition,
}
"""Name -> generator of one object."""

HOUSEHOLD = tuple(name for name in CATEGORIES if name != 'composition')
"""The categories that have a name in a household."""
