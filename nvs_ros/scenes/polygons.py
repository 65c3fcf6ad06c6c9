"""Triangulate polygons, and compute missing normals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

CREASE_COS = 0.5
"""A corner takes the mean normal of the faces round its vertex, unless that differs by more than 60
degrees from the normal of its own face."""


def triangulate(
    positions: np.ndarray,
    polygons: Mapping[int, Sequence],
    marks: Mapping[int, Sequence],
) -> tuple[np.ndarray, np.ndarray]:
    """Cut polygons into triangles.

    Parameters
    ----------
    positions : (n, 3) float
    polygons : mapping of int to (k, corners, ...) int
        Number of corners -> polygons; the first number of a corner is the index of its position.
    marks : mapping of int to (k, ...)
        Number of corners -> any values that belong to each polygon.

    Returns
    -------
    corners : (m, 3, ...) int
        Triangles.
    marks : (m, ...)
        Values of the polygon of each triangle.
    """
    triangles, belonging = [], []
    for count, group in sorted(polygons.items()):
        corners, mark = np.asarray(group, np.int64), np.asarray(marks[count])
        points = positions[corners[..., 0]]
        concave = _is_concave(points) if count > 3 else np.zeros(len(points), bool)
        fan = np.stack([np.zeros(count - 2, int), *np.arange(1, count - 1) + [[0], [1]]], 1)
        triangles.append(corners[~concave][:, fan].reshape(-1, 3, *corners.shape[2:]))
        belonging.append(np.repeat(mark[~concave], count - 2, 0))
        for polygon, outline, one in zip(
            corners[concave], points[concave], mark[concave], strict=True
        ):
            ears = clip_ears(outline)
            triangles.append(polygon[ears])
            belonging.append(np.repeat(one[None], len(ears), 0))
    return np.concatenate(triangles), np.concatenate(belonging)


def _area_vectors(points: np.ndarray) -> np.ndarray:
    """Twice the area times the normal of polygons (k, corners, 3)."""
    centred = points - points[:, :1]
    return np.cross(centred, np.roll(centred, -1, 1)).sum(1)


def _is_concave(points: np.ndarray) -> np.ndarray:
    normal = _area_vectors(points)
    edge = points[:, 1:] - points[:, :1]
    turns = np.einsum('kcd,kd->kc', np.cross(edge[:, :-1], edge[:, 1:]), normal)
    return (turns < -1e-6 * (normal**2).sum(-1, keepdims=True)).any(1)


def clip_ears(outline: np.ndarray) -> np.ndarray:
    """Triangulate a simple polygon (corners, 3) by ear clipping: indices (corners - 2, 3)."""
    normal = _area_vectors(outline[None])[0]
    drop = np.abs(normal).argmax()
    plane = np.delete(outline, drop, 1) * [1, np.sign(normal[drop]) * (-1 if drop == 1 else 1)]
    left, triangles = list(range(len(outline))), []
    while len(left) > 3:
        ear = next((i for i in range(len(left)) if _is_ear(plane, left, i)), 0)
        triangles.append([left[ear - 1], left[ear], left[(ear + 1) % len(left)]])
        del left[ear]
    return np.array([*triangles, left])


def _is_ear(plane: np.ndarray, left: list[int], i: int) -> bool:
    before, here, after = left[i - 1], left[i], left[(i + 1) % len(left)]
    a, b, c = plane[[before, here, after]]
    if _cross(b - a, c - a) <= 0:
        return False
    others = plane[[k for k in left if k not in (before, here, after)]]
    sides = [_cross(q - p, others - p) for p, q in ((a, b), (b, c), (c, a))]
    return not (np.min(sides, 0) >= 0).any()


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def smooth_normals(positions: np.ndarray, faces: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Unit normals (m, 3, 3) float32 of corners: the mean over the faces round a vertex.

    Parameters
    ----------
    positions : (n, 3)
    faces : (m, 3) int
        Vertex indices.
    group : (m,) int
        Smoothing group of each face; only faces of the same group are averaged, those of group 0
        stay flat.
    """
    points = positions[faces]
    own = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    _, key = np.unique(
        np.stack([faces, np.broadcast_to(group[:, None], faces.shape)], -1).reshape(-1, 2),
        axis=0,
        return_inverse=True,
    )
    total = np.stack([np.bincount(key, np.repeat(own[:, d], 3)) for d in range(3)], -1)
    normals = _unit(total[key].reshape(-1, 3, 3))
    flat = np.broadcast_to(_unit(own)[:, None], normals.shape)
    alone = ((normals * flat).sum(-1) < CREASE_COS) | (group == 0)[:, None]
    return np.where(alone[..., None], flat, normals).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-30)
