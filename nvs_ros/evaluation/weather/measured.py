"""Faults of pose, size and depth.

Each function takes a sight and an amount above 0 in its own unit, and gives the sight as the robot
then has it; the truth in it stays.
"""

from __future__ import annotations

import cv2
import numpy as np

from nvs_ros.evaluation.weather.masks import blobs
from nvs_ros.evaluation.weather.sight import Sight
from nvs_ros.geometry import rigid


def off_centre(sight: Sight, mm: float, rng: np.random.Generator) -> Sight:
    """The object's centre is that far from where the pose says, in a random direction."""
    moved = rigid(np.eye(3), mm / 1000 * _direction(rng, 3))
    return sight.but(object_from_camera=moved @ sight.frame.object_from_camera)


def off_size(sight: Sight, per_cent: float, rng: np.random.Generator) -> Sight:
    """The object is thought to be so much too large, or too small by the same factor."""
    factor = (1 + per_cent / 100) ** rng.choice([-1, 1])
    return sight.but(object_size_m=sight.size_m * factor)


def off_up(sight: Sight, degrees: float, rng: np.random.Generator) -> Sight:
    """The up axis leans by that angle to a random side."""
    axis = np.array([*_direction(rng, 2), 0.0])
    turn, _ = cv2.Rodrigues(np.radians(degrees) * axis)
    return sight.but(object_from_camera=rigid(turn, np.zeros(3)) @ sight.frame.object_from_camera)


def noisy_depth(sight: Sight, mm: float, rng: np.random.Generator) -> Sight:
    """Noise of that standard deviation at the object's distance, growing with the square of the
    depth, alike in neighbouring pixels."""
    noise = cv2.GaussianBlur(rng.standard_normal(sight.solid.shape, np.float32), (0, 0), 1.0)
    noise = noise / noise.std()
    depth = sight.depth_m
    grown = (depth / np.float32(_distance(sight))) ** 2
    return sight.but(depth_m=depth + np.float32(mm / 1000) * grown * noise)


def holed_depth(sight: Sight, per_cent: float, rng: np.random.Generator) -> Sight:
    """Blobs with that share of the object's pixels, and of the others, have no depth."""
    everywhere = np.ones_like(sight.solid)
    seed = int(rng.integers(2**32))
    missing = [
        blobs(part, per_cent / 100, np.random.default_rng(seed))
        for part in (sight.solid, everywhere & ~sight.solid)
    ]
    depth = np.where(missing[0] | missing[1], np.float32(np.nan), sight.depth_m)
    return sight.but(depth_m=depth)


def biased_depth(sight: Sight, mm: float, rng: np.random.Generator) -> Sight:
    """All depth is that much too near or too far."""
    return sight.but(depth_m=sight.depth_m + np.float32(rng.choice([-1, 1]) * mm / 1000))


def late_depth(sight: Sight, mm: float, rng: np.random.Generator) -> Sight:
    """Depth of another moment: the object had been pushed along the table by that much."""
    along = np.array([*_direction(rng, 2), 0.0])
    pushed = sight.mesh.transformed(np.eye(3), mm / 1000 * along)
    return sight.but(depth_m=sight.drawn(pushed)[2])


def _distance(sight: Sight) -> float:
    """Distance of camera and object, metres."""
    return float(np.linalg.norm(sight.object_from_camera[:3, 3]))


def _direction(rng: np.random.Generator, dimensions: int) -> np.ndarray:
    """A random unit vector."""
    vector = rng.standard_normal(dimensions)
    return vector / np.linalg.norm(vector)
