"""The surface of a hull, coloured from the images that see it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from nvs_ros.completion.hull import SURFACE, Grid, look_up, transformed
from nvs_ros.completion.uncertainty import Estimate
from nvs_ros.geometry import CanonicalView, inverse

MEASURED = -1
"""In place of the index of a view: the colour is from a measured image."""
UNSEEN = -2
"""In place of the index of a view: neither an image nor a view sees the vertex."""
CELLS = 2**26
"""Most cells across in the visibility test; points further out share the last cell."""
GRAZING = 0.1
"""Cosine between normal and line of sight below which a camera does not see a surface."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A triangle mesh.

    Attributes
    ----------
    vertices : (N, 3) float64
        Object frame, metres.
    faces : (M, 3) int
        Vertex indices, counter-clockwise seen from outside.
    normals : (N, 3) float64
        Unit vectors that point outward.
    colors : (N, 3) uint8
        RGB.
    views : (N,) int16
        Index of the view that gave the colour, or :data:`MEASURED` or :data:`UNSEEN`.
    confidence : (N,) float32
        0..1; 0 where neither an image nor a view sees the vertex.
    seen : (views, N) float64
        Cosine between normal and line of sight of each synthesised view, 0 where it does not see
        the vertex.
    measured : (N,) bool
        Whether a depth camera measured a point within a cell of the vertex; the rest is imagined.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    normals: NDArray[np.float64]
    colors: NDArray[np.uint8]
    views: NDArray[np.int16]
    confidence: NDArray[np.float32]
    seen: NDArray[np.float64]
    measured: NDArray[np.bool_]

    def moved(self, target_from_source: NDArray[np.float64]) -> Surface:
        """The surface in another frame."""
        vertices = transformed(target_from_source, self.vertices)
        normals = self.normals @ target_from_source[:3, :3].T
        return dataclasses.replace(self, vertices=vertices, normals=normals)


def hull_surface(
    grid: Grid,
    occupancy: NDArray[np.float32],
    sources: Sequence[CanonicalView],
    estimates: Sequence[Estimate],
    confidences: Sequence[float],
    points: NDArray[np.float64] | None = None,
) -> Surface:
    """Triangulate where the occupancy falls below :data:`nvs_ros.completion.hull.SURFACE`.

    A vertex takes its colour from the measured image that sees it most frontally; if none does,
    from the view with the greatest product of confidence and cosine of the angle to its normal.

    A vertex coloured by a view gets the confidence of that view times the share of its seeds that
    show the object there. One coloured by a measured image gets the mean confidence of all views,
    because only they tell its distance from the camera.

    Parameters
    ----------
    grid : Grid
    occupancy : (X, Y, Z) float32
        0..1.
    sources : sequence of CanonicalView
        The measured images.
    estimates : sequence of Estimate
        The synthesised views.
    confidences : sequence of float
        Confidence of each view, 0..1.
    points : (n, 3) float64, optional
        Measured points, metres. Vertices within the side of a cell from one count as measured.

    Raises
    ------
    ValueError
        Nothing is left of the object.
    """
    vertices, faces, normals = triangulated(grid, occupancy)
    poses = [source.object_from_camera for source in sources]
    poses += [estimate.target.object_from_camera for estimate in estimates]
    seen = np.stack([visible(vertices, normals, pose, grid.cell_m) for pose in poses])
    measured, imagined = np.split(seen, [len(sources)])
    weights = np.array(confidences).reshape(-1, 1)
    score = np.vstack([np.where(measured > 0, 1 + measured, 0.0), imagined * weights])
    best = score.argmax(0)
    colors = np.zeros((len(vertices), 3), np.float32)
    confidence = np.zeros(len(vertices), np.float32)
    pictures = [(source.image, source.mask, source.camera) for source in sources]
    pictures += [(e.images[0], e.masks[0], e.target.camera) for e in estimates]
    for i, (picture, pose) in enumerate(zip(pictures, poses, strict=True)):
        own, view = best == i, i - len(sources)
        image, mask, camera = picture
        colors[own] = look_up(without_background(image, mask), camera, pose, vertices[own])
        if view >= 0:
            share = look_up(estimates[view].probability, camera, pose, vertices[own])
            confidence[own] = confidences[view] * share
        else:
            confidence[own] = np.mean(confidences)
    unseen = score.max(0) <= 0
    confidence[unseen] = 0
    if not unseen.all():
        nearest = cKDTree(vertices[~unseen]).query(vertices[unseen])[1]
        colors[unseen] = colors[~unseen][nearest]
    views = np.where(unseen, UNSEEN, np.maximum(best - len(sources), MEASURED)).astype(np.int16)
    colors = np.clip(colors + 0.5, 0, 255).astype(np.uint8)
    known = np.zeros(len(vertices), bool)
    if points is not None and len(points):
        known = cKDTree(points).query(vertices)[0] <= grid.cell_m
    return Surface(vertices, faces, normals, colors, views, confidence, imagined, known)


def triangulated(
    grid: Grid, occupancy: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Vertices, faces and normals of a :class:`Surface`.

    Raises
    ------
    ValueError
        No cell is occupied by more than :data:`nvs_ros.completion.hull.SURFACE`.
    """
    if not occupancy.max(initial=0) > SURFACE:
        raise ValueError('the views leave nothing of the object: their silhouettes do not fit')
    padded = np.pad(occupancy, 1)
    corners, faces, normals, _ = marching_cubes(padded, SURFACE, gradient_direction='ascent')
    vertices, normals = grid.corner + (corners - 1) * grid.cell_m, normals.astype(np.float64)
    for lost in np.flatnonzero(~normals.any(1)):
        normals[lost] = _of_largest(vertices[faces[(faces == lost).any(1)]])
    return vertices, faces, normals


def _of_largest(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normal of the largest of some triangles (n, 3, 3), for a vertex where theirs cancel out."""
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1)
    largest = area.argmax()
    return normals[largest] / area[largest] if area[largest] > 0 else np.array([0.0, 0.0, 1.0])


def visible(
    points: NDArray[np.float64],
    normals: NDArray[np.float64],
    object_from_camera: NDArray[np.float64],
    spacing_m: float,
) -> NDArray[np.float64]:
    """Which points of a surface a camera sees, regardless of the borders of its image.

    Parameters
    ----------
    points : (N, 3)
        Object frame, metres.
    normals : (N, 3)
        Unit vectors.
    object_from_camera : (4, 4)
        Pose of a camera that looks at the object, metres.
    spacing_m : float
        Distance between neighbouring points.

    Returns
    -------
    (N,) float64
        Cosine of the angle between normal and line of sight; 0 for points that face away (cosine
        under :data:`GRAZING`) or lie more than two spacings behind another point.
    """
    x, y, z = transformed(inverse(object_from_camera), points).T
    front = z > 0
    if not front.any():
        return np.zeros(len(points))
    # A cell is about two points wide, so that a surface has no holes.
    side = 2 * spacing_m / np.median(z[front])
    x, y, z = x[front], y[front], z[front]
    column, row = (np.minimum((v - v.min()) // side, CELLS) for v in (x / z, y / z))
    # For a camera close by, the points fill only few of very many cells.
    _, cell = np.unique(row.astype(np.int64) * (CELLS + 1) + column, return_inverse=True)
    nearest = np.full(len(z), np.inf)
    np.minimum.at(nearest, cell, z)
    unhidden = np.zeros(len(points), bool)
    unhidden[front] = z <= nearest[cell] + 2 * spacing_m
    to_camera = object_from_camera[:3, 3] - points
    to_camera /= np.linalg.norm(to_camera, axis=1, keepdims=True)
    cosine = (normals * to_camera).sum(1)
    return np.where((cosine > GRAZING) & unhidden, cosine, 0.0)


def without_background(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The image (H, W, 3) float32 with the object's colours continued outward over its edge.

    The edge pixels of an image on white are blended with the background.
    """
    solid = (mask > 127).astype(np.uint8)
    inside = cv2.erode(solid, np.ones((3, 3), np.uint8))
    if not inside.any():
        return image.astype(np.float32)
    _, labels = cv2.distanceTransformWithLabels(
        1 - inside, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    colors = np.zeros((labels.max() + 1, 3), np.float32)
    colors[labels[inside > 0]] = image[inside > 0]
    return colors[labels]
