"""A sheet of objects as training sees them, for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.spherical import Spherical, look_at, position_from_spherical
from nvs_ros.scenes.categories import CATEGORIES, make_object
from nvs_ros.scenes.image_sheet import write_sheet
from nvs_ros.scenes.lighting import Lighting
from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.render import render
from nvs_ros.scenes.textures import textured

ROWS = 8


def write_samples(
    file: Path,
    meshes: Sequence[Mesh],
    pictures: Sequence[np.ndarray] = (),
    *,
    size: int = 96,
    seed: int = 0,
) -> None:
    """Write a sheet of 64 objects: generated plain and textured, loaded as they are and with new
    textures, two columns of each.

    Parameters
    ----------
    file : Path
        PNG.
    meshes : sequence of Mesh
        Loaded ones to choose from.
    pictures : sequence of (h, w, 3) uint8
        Textures to choose from, beside procedural ones.
    size : int
        Side of the pictures, pixels.
    seed : int
    """
    rng = np.random.default_rng(seed)
    kinds = {
        'generated': lambda: _generated(rng),
        'textured': lambda: textured(_generated(rng), rng, pictures),
        'loaded': lambda: meshes[rng.integers(len(meshes))],
        'retextured': lambda: textured(meshes[rng.integers(len(meshes))], rng, pictures),
    }
    columns = {
        f'{name} {half}': np.stack([_picture(make(), rng, size) for _ in range(ROWS)])
        for name, make in kinds.items()
        for half in (1, 2)
    }
    write_sheet(columns, file)


def _generated(rng: np.random.Generator) -> Mesh:
    return make_object(list(CATEGORIES)[rng.integers(len(CATEGORIES))], rng)


def _picture(mesh: Mesh, rng: np.random.Generator, size: int) -> np.ndarray:
    view = Spherical(rng.uniform(-np.pi, np.pi), rng.uniform(0, 0.9), rng.uniform(1.6, 2.0))
    pose = look_at(position_from_spherical(view))
    matrix, light = Camera.canonical(size).matrix, Lighting.random(rng).seen_from(pose)
    return render(mesh, pose, matrix, size, size, **light).image
