"""Meshes in files that are read in a few milliseconds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from nvs_ros.scenes.mesh import Mesh


def save_mesh(mesh: Mesh, file: Path) -> None:
    """Write a mesh, in half of the space: colours in 8 bits, normals in 16."""
    length = np.linalg.norm(mesh.normals, axis=-1, keepdims=True) + 1e-30
    arrays = {
        'vertices': mesh.vertices.astype(np.float32),
        'faces': mesh.faces.astype(np.int32),
        'colors': (mesh.colors * 255 + 0.5).astype(np.uint8),
        'normals': (mesh.normals / length).astype(np.float16),
    }
    if mesh.texture_index is not None:
        arrays['uv'] = mesh.uv.astype(np.float32)
        arrays['texture_index'] = mesh.texture_index.astype(np.int16)
        arrays |= {f'texture_{i}': texture for i, texture in enumerate(mesh.textures)}
    # Several processes may write the same mesh at once.
    mine = file.with_name(f'{file.stem}.{os.getpid()}{file.suffix}')
    with mine.open('wb') as stream:
        np.savez(stream, **arrays)
    os.replace(mine, file)


def open_mesh(file: Path) -> Mesh:
    """Read a mesh that :func:`save_mesh` wrote."""
    with np.load(file) as arrays:
        mesh = Mesh(
            arrays['vertices'].astype(np.float64),
            arrays['faces'].astype(np.int64),
            arrays['colors'].astype(np.float32) / 255,
            arrays['normals'].astype(np.float32),
        )
        if 'texture_index' not in arrays:
            return mesh
        count = sum(name.startswith('texture_') for name in arrays.files) - 1
        return Mesh(
            mesh.vertices,
            mesh.faces,
            mesh.colors,
            mesh.normals,
            arrays['uv'],
            arrays['texture_index'].astype(np.int32),
            tuple(arrays[f'texture_{i}'] for i in range(count)),
        )
