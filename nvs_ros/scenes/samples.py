"""A sheet of objects as training sees them, for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.spherical import Spherical, look_at, position_from_spherical
from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.objects import CATEGORIES, make_object
from nvs_ros.scenes.render import AMBIENT, LIGHT_IN_CAMERA, render
from nvs_ros.scenes.sheet import write_sheet
from nvs_ros.scenes.textures import textured

ROWS = 8


def random_lighting(rng: np.random.Generator) -> dict[str, object]:
    """Keywords of :func:`render`: a light from above the camera's shoulder, some gloss."""
    turn = rng.normal(0, 0.5, 3)
    light = LIGHT_IN_CAMERA + turn
    return {
        'light': light / np.linalg.norm(light),
        'ambient': float(np.clip(rng.normal(AMBIENT, 0.08), 0.25, 0.7)),
        'gloss': float(max(0.0, rng.uniform(-0.4, 0.6))),
        'exponent': float(np.exp(rng.uniform(np.log(5), np.log(200)))),
    }


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
    matrix = Camera.canonical(size).matrix
    return render(mesh, pose, matrix, size, size, **random_lighting(rng)).image
