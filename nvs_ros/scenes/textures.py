"""Project procedural textures or images onto meshes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.patterns import make_pattern
from nvs_ros.scenes.simplify import without_unused_textures

MOST_PARTS = 4
"""Most parts of a mesh that get a texture; the largest ones do."""
PICTURE_SHARE = 0.5
"""Share of textures that are images, if images are given."""
TINTED_SHARE = 0.4
"""Share of textures that are multiplied with a colour."""
FITTED_SHARE = 0.4
"""Share of textures that cover a part once instead of repeating on it."""
LEVEL_COS = 0.7
"""Cosine between normal and vertical above which a face counts as top or bottom."""


def textured(mesh: Mesh, rng: np.random.Generator, pictures: Sequence[np.ndarray] = ()) -> Mesh:
    """Put new textures on parts of a mesh.

    A part is all faces of one colour or texture. The largest part always gets a new texture, the
    next largest ones each by chance; the others stay as they are.

    Parameters
    ----------
    mesh : Mesh
        Normalised.
    rng : numpy.random.Generator
        The only source of randomness.
    pictures : sequence of (h, w, 3) uint8
        Textures to choose from, in addition to procedural ones.
    """
    textures = list(mesh.textures)
    count = len(mesh.faces)
    colors = mesh.colors.copy()
    uv = np.zeros((count, 3, 2), np.float32) if mesh.uv is None else mesh.uv.copy()
    none = np.full(count, -1, np.int32)
    index = none if mesh.texture_index is None else mesh.texture_index.copy()
    across = _across(mesh)
    area = np.linalg.norm(across, axis=-1)
    across /= area[:, None] + 1e-30
    share = rng.uniform(0.2, 1.0)
    for number, faces in enumerate(_parts(mesh, area)):
        if number and rng.random() > share:
            continue
        uv[faces] = _projected(mesh.vertices[mesh.faces[faces]], across[faces], rng)
        index[faces] = len(textures)
        colors[faces] = _tint(rng) if rng.random() < TINTED_SHARE else 1
        if len(pictures) and rng.random() < PICTURE_SHARE:
            textures.append(pictures[int(rng.integers(len(pictures)))])
        else:
            textures.append(make_pattern(rng))
    return without_unused_textures(
        replace(mesh, colors=colors, uv=uv, texture_index=index, textures=tuple(textures))
    )


def _parts(mesh: Mesh, area: np.ndarray) -> list[np.ndarray]:
    """Face indices of each of the largest parts, largest first."""
    red, green, blue = (mesh.colors * 255 + 0.5).astype(np.int64).T
    look = (red << 16) + (green << 8) + blue
    if mesh.texture_index is not None:
        look += (mesh.texture_index.astype(np.int64) + 1) << 24
    _, part = np.unique(look, return_inverse=True)
    largest = np.argsort(-np.bincount(part, area))[:MOST_PARTS]
    return [np.flatnonzero(part == i) for i in largest]


def _tint(rng: np.random.Generator) -> np.ndarray:
    """A light RGB colour (3,), so that a texture multiplied with it does not become dark."""
    color = rng.uniform(0.4, 1, 3)
    return color / color.max()


def _across(mesh: Mesh) -> np.ndarray:
    """Normals (m, 3) of the faces, each with the length of twice the face's area."""
    corners = mesh.vertices[mesh.faces]
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _projected(points: np.ndarray, across: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Texture coordinates by a random one of the projections; see :func:`box_uv`."""
    project = PROJECTIONS[rng.choice(len(PROJECTIONS), p=WEIGHTS)]
    uv = project(points, across)
    if rng.random() < FITTED_SHARE:
        low, high = uv.min((0, 1)), uv.max((0, 1))
        return (uv - low) / np.maximum(high - low, 1e-6)
    # Round a cylinder, whole numbers of repeats, so that the ends of the texture meet.
    repeats = rng.integers(1, 4) if project is round_uv else rng.uniform(0.7, 3.0)
    if project is not round_uv and rng.random() < 0.3:
        uv = uv[..., ::-1] * [1, -1]  # rotate by 90 degrees; not mirrored, print stays readable
    return uv * repeats + rng.random(2)


def box_uv(points: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Project from six sides, each face from the side that it faces; z is up on upright faces.

    Parameters
    ----------
    points : (k, 3, 3)
        Corners of the faces.
    across : (k, 3)
        Unit normals.

    Returns
    -------
    uv : (k, 3, 2)
    """
    axis = np.abs(across).argmax(1)
    sign = np.sign(np.take_along_axis(across, axis[:, None], 1))
    x, y, z = np.moveaxis(points, -1, 0)
    u = np.choose(axis[:, None], [sign * y, -sign * x, x])
    v = np.choose(axis[:, None], [z, z, sign * y])
    return np.stack([u, v], -1)


def round_uv(points: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Wrap once round the vertical axis, tops and bottoms from above; see :func:`box_uv`."""
    u = np.arctan2(points[..., 1], points[..., 0]) / (2 * np.pi)
    # Coordinates of a face across the seam continue beyond 1.
    u = np.where(u.max(1, keepdims=True) - u > 0.5, u + 1, u)
    level = np.abs(across[:, 2]) > LEVEL_COS
    flat = points[..., :2]
    return np.where(level[:, None, None], flat, np.stack([u, points[..., 2]], -1))


def planar_uv(points: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Project from the front through the whole object; see :func:`box_uv`."""
    return np.stack([points[..., 0] + 0.5 * points[..., 1], points[..., 2]], -1)


PROJECTIONS = (box_uv, round_uv, planar_uv)
WEIGHTS = (0.5, 0.35, 0.15)
