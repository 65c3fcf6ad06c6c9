"""Textures for meshes that have none: procedural ones and pictures, projected onto them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.patterns import make_pattern
from nvs_ros.scenes.simplify import without_unused_textures

MOST_PARTS = 4
"""Parts of a mesh that get a texture, the largest ones."""
PICTURE_SHARE = 0.5
"""Of textures that are pictures, where there are any."""
TINTED_SHARE = 0.4
"""Of textures that are multiplied with a colour."""
FITTED_SHARE = 0.4
"""Of textures that cover a part once instead of repeating on it."""
LEVEL_COS = 0.7
"""Faces whose normals are nearer to the vertical are tops and bottoms."""


def textured(mesh: Mesh, rng: np.random.Generator, pictures: Sequence[np.ndarray] = ()) -> Mesh:
    """Put textures on a mesh.

    Its parts are the faces of one colour or texture. The largest gets a new texture in any case,
    the next ones each by chance; the others stay as they are.

    Parameters
    ----------
    mesh : Mesh
        Normalised.
    rng : numpy.random.Generator
        The only source of randomness.
    pictures : sequence of (h, w, 3) uint8
        To choose from, beside procedural textures.
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
            textures.append(pictures[rng.integers(len(pictures))])
        else:
            textures.append(make_pattern(rng))
    return without_unused_textures(
        replace(mesh, colors=colors, uv=uv, texture_index=index, textures=tuple(textures))
    )


def _parts(mesh: Mesh, area: np.ndarray) -> list[np.ndarray]:
    """Numbers of the faces of the largest parts, the largest first."""
    red, green, blue = (mesh.colors * 255 + 0.5).astype(np.int64).T
    look = (red << 16) + (green << 8) + blue
    if mesh.texture_index is not None:
        look += (mesh.texture_index.astype(np.int64) + 1) << 24
    _, part = np.unique(look, return_inverse=True)
    largest = np.argsort(-np.bincount(part, area))[:MOST_PARTS]
    return [np.flatnonzero(part == i) for i in largest]


def _tint(rng: np.random.Generator) -> np.ndarray:
    """A light colour, so that what it is multiplied with does not become dark."""
    color = rng.uniform(0.4, 1, 3)
    return color / color.max()


def _across(mesh: Mesh) -> np.ndarray:
    """Vectors across the faces (m, 3), as long as twice their area."""
    corners = mesh.vertices[mesh.faces]
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _projected(points: np.ndarray, across: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Texture coordinates by one of the projections. See :func:`box_uv`."""
    project = PROJECTIONS[rng.choice(len(PROJECTIONS), p=WEIGHTS)]
    uv = project(points, across)
    if rng.random() < FITTED_SHARE:
        low, high = uv.min((0, 1)), uv.max((0, 1))
        return (uv - low) / np.maximum(high - low, 1e-6)
    # Whole numbers round a cylinder, whose ends meet there.
    repeats = rng.integers(1, 4) if project is round_uv else rng.uniform(0.7, 3.0)
    if project is not round_uv and rng.random() < 0.3:
        uv = uv[..., ::-1] * [1, -1]  # a quarter turn; print stays readable
    return uv * repeats + rng.random(2)


def box_uv(points: np.ndarray, across: np.ndarray) -> np.ndarray:
    """From six sides: each face from the one that it looks at; z is up on the upright ones.

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
    """Wrapped round the vertical axis once; tops and bottoms from above. See :func:`box_uv`."""
    u = np.arctan2(points[..., 1], points[..., 0]) / (2 * np.pi)
    # A face over the seam continues on its far side.
    u = np.where(u.max(1, keepdims=True) - u > 0.5, u + 1, u)
    level = np.abs(across[:, 2]) > LEVEL_COS
    flat = points[..., :2]
    return np.where(level[:, None, None], flat, np.stack([u, points[..., 2]], -1))


def planar_uv(points: np.ndarray, across: np.ndarray) -> np.ndarray:
    """From the front, straight through. See :func:`box_uv`."""
    return np.stack([points[..., 0] + 0.5 * points[..., 1], points[..., 2]], -1)


PROJECTIONS = (box_uv, round_uv, planar_uv)
WEIGHTS = (0.5, 0.35, 0.15)
