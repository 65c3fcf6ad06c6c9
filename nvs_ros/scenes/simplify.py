"""Meshes with fewer faces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nvs_ros.scenes.mesh import Mesh

GRIDS = (256, 192, 128)
"""Cells along the longest side whose vertices become one, the finest first."""


def select_faces(mesh: Mesh, keep: np.ndarray) -> Mesh:
    """The faces of a mesh for which ``keep`` (m,) bool says so, and what they need alone."""
    used, faces = np.unique(mesh.faces[keep], return_inverse=True)
    selected = replace(
        mesh,
        vertices=mesh.vertices[used],
        faces=faces.reshape(-1, 3).astype(np.int64),
        colors=mesh.colors[keep],
        normals=mesh.normals[keep],
        uv=None if mesh.uv is None else mesh.uv[keep],
        texture_index=None if mesh.texture_index is None else mesh.texture_index[keep],
    )
    return without_unused_textures(selected)


def without_unused_textures(mesh: Mesh) -> Mesh:
    """A mesh without those of its textures that no face shows."""
    if mesh.texture_index is None:
        return mesh
    used = np.unique(mesh.texture_index[mesh.texture_index >= 0])
    if not len(used):
        return replace(mesh, uv=None, texture_index=None, textures=())
    number = np.full(len(mesh.textures) + 1, -1, np.int32)  # the last one answers to -1
    number[used] = np.arange(len(used))
    textures = tuple(mesh.textures[i] for i in used)
    return replace(mesh, texture_index=number[mesh.texture_index], textures=textures)


def thinned(mesh: Mesh, most_faces: int) -> Mesh | None:
    """A mesh of at most so many faces; None where that would be seen.

    Vertices in the same cell of a grid become one, in their mean; normals and texture coordinates
    stay with the corners of the faces that are left.
    """
    if len(mesh.faces) <= most_faces:
        return mesh
    low = mesh.vertices.min(0)
    extent = np.ptp(mesh.vertices, axis=0).max()
    for grid in GRIDS:
        cells = np.floor((mesh.vertices - low) / extent * grid).astype(np.int64)
        _, cell = np.unique(cells, axis=0, return_inverse=True)
        cell = cell.reshape(-1)
        count = np.bincount(cell)
        means = [np.bincount(cell, mesh.vertices[:, axis]) / count for axis in range(3)]
        faces = cell[mesh.faces]
        solid = (faces != np.roll(faces, 1, 1)).all(1)
        if solid.sum() <= most_faces:
            merged = replace(mesh, vertices=np.stack(means, -1), faces=faces)
            return select_faces(merged, solid)
    return None
