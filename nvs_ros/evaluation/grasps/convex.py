"""Convex parts of meshes, for physics; made once and kept."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nvs_ros.computer.cache import cache_folder
from nvs_ros.errors import UserError
from nvs_ros.replacing import replacing
from nvs_ros.scenes.mesh import Mesh

SETTINGS = {
    'threshold': 0.05,
    'max_convex_hull': 24,
    'preprocess_resolution': 30,
    'resolution': 500,
    'mcts_nodes': 5,
    'mcts_iterations': 5,
    'mcts_max_depth': 1,
    'decimate': True,
    'max_ch_vertex': 64,
    'seed': 0,
}
"""Of coacd. A shallow search: a mug takes 9 s instead of 115, and has as many parts."""


def convex_parts(mesh: Mesh, folder: Path | None = None) -> list[NDArray[np.float64]]:
    """Convex parts that together are about the mesh, by coacd.

    Parameters
    ----------
    mesh : Mesh
        Of any size; open and self-intersecting ones too.
    folder : Path, optional
        Where parts are kept; ``convex`` in the cache of this machine when omitted.

    Returns
    -------
    list of (n, 3) float64
        Vertices of each part, in the mesh's frame.

    Raises
    ------
    UserError
        The parts are not kept there, and coacd is not installed.
    """
    vertices = np.asarray(mesh.vertices, np.float64)
    low, high = vertices.min(0), vertices.max(0)
    middle, size = (low + high) / 2, (high - low).max()
    # The same for a mesh in any size and place.
    unit = np.ascontiguousarray(np.round((vertices - middle) / size, 6))
    faces = np.ascontiguousarray(mesh.faces, np.int32)
    file = (folder or cache_folder() / 'convex') / f'{_key(unit, faces)}.npz'
    if not file.exists():
        parts = _decomposed(unit, faces)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial, partial.open('wb') as stream:
            np.savez_compressed(stream, *parts)
    with np.load(file) as kept:
        return [kept[name] * size + middle for name in kept.files]


def _key(vertices: NDArray[np.float64], faces: NDArray[np.int32]) -> str:
    digest = hashlib.sha256(json.dumps(SETTINGS, sort_keys=True).encode())
    digest.update((vertices + 0.0).astype('<f4').tobytes())  # no negative zeros
    digest.update(faces.astype('<i4').tobytes())
    return digest.hexdigest()


def _decomposed(
    vertices: NDArray[np.float64], faces: NDArray[np.int32]
) -> list[NDArray[np.float64]]:
    try:
        import coacd
    except ImportError:
        raise UserError(
            "convex parts need coacd, which is not installed; pip install 'nvs_ros[grasp]'"
        ) from None
    coacd.set_log_level('error')
    parts = coacd.run_coacd(coacd.Mesh(vertices, faces), **SETTINGS)
    return [np.asarray(part) for part, _ in parts]
