"""Places for a parallel gripper: pairs of points that face away from each other, and the ways the
hand can come to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nvs_ros.evaluation.grasps.gripper import Gripper
from nvs_ros.evaluation.grasps.points import Points

PAIR_SPACING_M = 0.005
"""Between points that pairs are made of ..."""
MOST_POINTS = 1500
"""... of which at most so many are taken."""
PAIRS = 300
"""Pairs that are looked at."""
APPROACHES = 12
"""Ways the hand comes to a pair, evenly about the line between its points."""
THINNEST_M = 0.001
"""Least distance of the points of a pair."""


def antipodal_pairs(
    points: Points, gripper: Gripper, rng: np.random.Generator, count: int = PAIRS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pairs of points that two fingers with friction could hold.

    The line between the points lies in the friction cones of both. Of all such pairs ``count`` are
    drawn, those more often whose line is nearer to the normals.

    Parameters
    ----------
    points : Points
    gripper : Gripper
    rng : numpy.random.Generator
    count : int

    Returns
    -------
    middles : (n, 3) float64
        Between the points, metres; ``n`` is ``count`` at most.
    lines : (n, 3) float64
        From the first to the second, metres.
    """
    points = points.thinned(PAIR_SPACING_M)
    if len(points) > MOST_POINTS:
        points = points[rng.choice(len(points), MOST_POINTS, replace=False)]
    places = points.places
    first, second = np.triu_indices(len(places), 1)
    apart = places[second] - places[first]
    width = np.linalg.norm(apart, axis=1)
    fits = (width > THINNEST_M) & (width < gripper.widest_m)
    first, second, apart, width = (a[fits] for a in (first, second, apart, width))
    axis = apart / width[:, None]
    there = (points.normals[second] * axis).sum(1)
    here = -(points.normals[first] * axis).sum(1)
    least = np.minimum(here, there)
    cone = 1 / np.hypot(1, gripper.friction)
    left = np.flatnonzero(least > cone)
    if len(left) > count:
        weight = least[left] - cone + 1e-6
        left = rng.choice(left, count, replace=False, p=weight / weight.sum())
    middles = (places[first[left]] + places[second[left]]) / 2
    return middles, apart[left]


def approaches(axis: NDArray[np.float64], count: int = APPROACHES) -> NDArray[np.float64]:
    """Rotations of the grasp frame with x along an axis, evenly about it.

    Returns
    -------
    (count, 3, 3) float64
        Object from grasp. The first comes as straight from above as it can.
    """
    axis = axis / np.linalg.norm(axis)
    down = np.array([0.0, 0, -1]) - axis * -axis[2]
    if np.linalg.norm(down) < 1e-6:  # the axis is vertical: any level way
        down = np.array([1.0, 0, 0])
    down /= np.linalg.norm(down)
    across = np.cross(axis, down)
    turn = 2 * np.pi * np.arange(count) / count
    z = np.cos(turn)[:, None] * down + np.sin(turn)[:, None] * across
    x = np.broadcast_to(axis, z.shape)
    return np.stack([x, np.cross(z, x), z], axis=2)
