"""How close a completed shape is to the true one."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from nvs_ros.completion.cloud import measured_points
from nvs_ros.completion.hull import SURFACE, Grid, measured_occupancy
from nvs_ros.geometry import Camera, look_at
from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.render import render
from nvs_ros.synthesizer import Frame

SCANS = 60
"""Number of depth images from all sides that a true shape is made from."""
SCAN_SIZE = 128
"""Side of these images, pixels."""
SCAN_DISTANCE = 2.0
"""Distance of their cameras, in longest sides of the object."""


def scan(mesh: Mesh, position: np.ndarray, size: int = SCAN_SIZE) -> Frame:
    """Frame with depth of a mesh of longest side 1, from a camera that looks at its centre."""
    camera, pose = Camera.canonical(size), look_at(position)
    rendering = render(mesh, pose, camera.matrix, size, size, supersample=1)
    return Frame(rendering.image, rendering.mask, camera, pose, 1.0, rendering.depth_m)


def true_shape(mesh: Mesh, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The true shape of a mesh as seen from outside: its volume and surface.

    It is made from depth images, so that open and self-intersecting meshes have a volume too:
    everything that no line of sight reaches is inside.

    Parameters
    ----------
    mesh : Mesh
        Longest side 1, centred.
    grid : Grid

    Returns
    -------
    solid : (X, Y, Z) bool
        Cells of the grid that are inside.
    surface : (N, 3) float64
        Points of the surface, in the mesh's frame.
    """
    centres, points = grid.centres, []
    left = np.arange(len(centres))
    for direction in directions(SCANS):
        frame = scan(mesh, SCAN_DISTANCE * direction)
        left = left[measured_occupancy(centres[left], grid.cell_m, frame) >= SURFACE]
        points.append(measured_points(frame)[0])
    solid = np.zeros(len(centres), bool)
    solid[left] = True
    return solid.reshape(grid.shape), np.concatenate(points)


def directions(count: int) -> np.ndarray:
    """Unit vectors (count, 3) evenly over the sphere, none of them vertical."""
    height = 1 - (2 * np.arange(count) + 1) / count
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    ring = np.sqrt(1 - height**2)
    return np.column_stack([ring * np.cos(angle), ring * np.sin(angle), height])


def volumetric_iou(solid: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two bool arrays, not both empty."""
    return float((solid & truth).sum() / (solid | truth).sum())


def chamfer(points: np.ndarray, truth: np.ndarray) -> float:
    """Chamfer distance of two point sets (N, 3), (M, 3): mean distance to the nearest point of the
    other set, averaged over both directions."""
    there = cKDTree(truth).query(points)[0].mean()
    return float((there + cKDTree(points).query(truth)[0].mean()) / 2)
