"""The plane that an object stands on, in the depth about its mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRIED = 400
"""Planes through three points each."""
ENOUGH = 3000
"""Points about the object that are looked at; of more, some are left out."""
LEAST_POINTS = 60
"""A plane has as many of them."""
LEAST_SHARE = 0.08
"""And as much of them."""
NOISE = 0.005
"""Of a depth camera at one metre, in metres; it grows with the square of the distance."""
FLAT = 0.015
"""A plane is as flat as this part of the object, if the camera is better."""
UP_ERROR = 0.035
"""Slope of a table against an up direction that somebody else gives: two degrees."""
NEAR = 0.6
"""A plane counts half that is so many sizes of the object below it."""
FARTHEST = 2.0
"""And one that is so many below what is seen of it not at all. From above, the foot is hidden."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane; heights above it count towards the camera that sees it.

    Attributes
    ----------
    normal : (3,) float64
        Unit vector, camera optical frame; up.
    offset_m : float
        ``normal @ point`` of its points.
    """

    normal: NDArray[np.float64]
    offset_m: float

    def heights(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of points (n, 3), metres."""
        return points @ self.normal - self.offset_m


def support_plane(
    around: NDArray[np.float64],
    points: NDArray[np.float64],
    size_m: float,
    up: NDArray[np.float64] | None = None,
) -> Plane | None:
    """Find the plane that an object stands on (RANSAC, then least squares over the inliers).

    Of all planes about it that one is taken that many points lie on, that no part of the object is
    under, and that the object comes near: so a wall behind it is none.

    Parameters
    ----------
    around : (n, 3) float64
        Measured points about the object, camera optical frame, metres.
    points : (m, 3) float64
        Measured points of the object.
    size_m : float
        Roughly how large the object is.
    up : (3,) float64, optional
        Up direction, unit vector; the height alone is then looked for.

    Returns
    -------
    Plane or None
        None where there is no such plane.
    """
    if len(around) < LEAST_POINTS:
        return None
    around = around[:: -(-len(around) // ENOUGH)]
    points = points[:: -(-len(points) // (ENOUGH // 4))]
    flat_m = max(FLAT * size_m, NOISE * float(np.median(points[:, 2])) ** 2)
    if up is None:
        normals, offsets = _through_three(around)
    else:
        flat_m += UP_ERROR * size_m
        offsets = around[:: -(-len(around) // TRIED)] @ up
        normals = np.broadcast_to(up, (len(offsets), 3))
    if not len(normals):
        return None
    above = points @ normals.T - offsets
    # Of the points of the object those near the lowest: single ones are noise.
    lowest = np.percentile(above, 2, axis=0)
    rests = 1 / (1 + (np.maximum(lowest, 0) / (NEAR * size_m)) ** 2)
    rests[(lowest < -3 * flat_m) | (lowest > FARTHEST * size_m)] = 0
    inliers = np.abs(around @ normals.T - offsets) < flat_m
    best = int((inliers.sum(0) * rests).argmax())
    if rests[best] == 0 or not _is_wide(around[inliers[:, best]], len(around), size_m):
        return None
    normal, offset = normals[best], offsets[best]
    for _ in range(3):
        near = around[np.abs(around @ normal - offset) < flat_m]
        middle = near.mean(0)
        if up is None:
            normal = _normal(near - middle)
            normal *= -np.sign(normal @ middle)
            offset = normal @ middle
        else:
            offset = np.median(near @ normal)
    return Plane(np.array(normal, np.float64), float(offset))


def _through_three(
    around: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Normals (k, 3) towards the camera and offsets (k,) of planes through random points.

    The same ones for the same points, so that the same frame gives the same views.
    """
    chosen = np.random.default_rng(0).integers(len(around), size=(TRIED, 3))
    first, second, third = around[chosen].transpose(1, 0, 2)
    normals = np.cross(second - first, third - first)
    lengths = np.linalg.norm(normals, axis=1)
    fine = lengths > 1e-9 * np.linalg.norm(around.max(0) - around.min(0)) ** 2
    normals, first = normals[fine] / lengths[fine, None], first[fine]
    offsets = (normals * first).sum(1)
    away = np.where(offsets > 0, -1.0, 1.0)  # the camera, at the origin, is above
    return normals * away[:, None], offsets * away


def _normal(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normal (3,) of the plane through centred points."""
    _, _, axes = np.linalg.svd(centred.T @ centred)
    return axes[2]


def _is_wide(inliers: NDArray[np.float64], count: int, size_m: float) -> bool:
    """Whether points are enough to be a plane, and no line."""
    if len(inliers) < max(LEAST_POINTS, LEAST_SHARE * count):
        return False
    spread = np.sqrt(np.linalg.eigvalsh(np.cov(inliers.T))[1])
    return bool(spread > 0.05 * size_m)
