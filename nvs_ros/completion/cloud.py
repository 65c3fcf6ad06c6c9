"""Measured and imagined points of an object in one cloud, marked as what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nvs_ros.completion.hull import transformed
from nvs_ros.completion.surface import MEASURED, Surface
from nvs_ros.geometry.canonical import SOLID, coverage
from nvs_ros.geometry.measured import of_a_surface
from nvs_ros.synthesizer import Frame


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points of an object's surface.

    Attributes
    ----------
    points : (N, 3) float64
        Metres.
    normals : (N, 3) float64
        Unit vectors that point outward.
    colors : (N, 3) uint8
        RGB.
    synthetic : (N,) bool
        False for points that a depth camera measured; they are not changed.
    confidence : (N,) float32
        0..1; 1 for measured points.
    views : (N,) int16
        As in :class:`nvs_ros.completion.surface.Surface`.
    """

    points: NDArray[np.float64]
    normals: NDArray[np.float64]
    colors: NDArray[np.uint8]
    synthetic: NDArray[np.bool_]
    confidence: NDArray[np.float32]
    views: NDArray[np.int16]

    def moved(self, target_from_source: NDArray[np.float64]) -> Cloud:
        """The cloud in another frame."""
        return Cloud(
            transformed(target_from_source, self.points),
            self.normals @ target_from_source[:3, :3].T,
            self.colors,
            self.synthetic,
            self.confidence,
            self.views,
        )


def measured_points(frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Points and colours that a frame's depth gives for the object.

    Pixels at its edges whose depth is that of no surface beside them are left out: a depth camera
    mixes there what is before and behind.

    Returns
    -------
    points : (N, 3) float64
        Object frame, metres; none without depth.
    colors : (N, 3) uint8
        RGB.
    """
    if frame.depth_m is None:
        return np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
    inside = coverage(np.asarray(frame.mask)) >= SOLID
    depth = np.where(inside, np.nan_to_num(frame.depth_m, posinf=0), 0).astype(np.float32)
    rows, columns = np.nonzero(of_a_surface(depth, float(frame.camera.matrix[0, 0])))
    pixels = np.column_stack([columns, rows])
    points = frame.camera.points(pixels, frame.depth_m[rows, columns])
    known = np.isfinite(points).all(1)  # some pixels have no ray in the distortion model
    points = transformed(frame.object_from_camera, points[known])
    return points, frame.image[rows[known], columns[known]]


def all_measured_points(
    frames: Sequence[Frame],
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """:func:`measured_points` of all frames, concatenated."""
    points, colors = zip(*map(measured_points, frames), strict=True)
    return np.concatenate(points), np.concatenate(colors)


def completed_cloud(
    points: NDArray[np.float64], colors: NDArray[np.uint8], surface: Surface
) -> Cloud:
    """The measured points, and the vertices of the surface that were not measured.

    Parameters
    ----------
    points : (n, 3) float64
        Measured points, the same that the surface was made with; metres.
    colors : (n, 3) uint8
        RGB of the points.
    surface : Surface
    """
    normals, rest = np.zeros((0, 3)), ~surface.measured
    if len(points):
        # The hull ends at the measured depth, so its normals are valid for measured points.
        normals = surface.normals[cKDTree(surface.vertices).query(points)[1]]
    count = len(points), int(rest.sum())
    return Cloud(
        np.concatenate([points, surface.vertices[rest]]),
        np.concatenate([normals, surface.normals[rest]]),
        np.concatenate([colors, surface.colors[rest]]),
        np.repeat([False, True], count),
        np.concatenate([np.ones(count[0], np.float32), surface.confidence[rest]]),
        np.concatenate([np.full(count[0], MEASURED, np.int16), surface.views[rest]]),
    )


def view_gains(surface: Surface) -> NDArray[np.float64]:
    """How much a real image from each view would add.

    That is the area of the surface that it would see, foreshortened and weighted by 1 - confidence;
    measured surface adds nothing.

    Returns
    -------
    (views,) float64
        m^2.
    """
    doubt = np.where(surface.measured, 0.0, 1.0 - surface.confidence)
    corners = surface.vertices[surface.faces]
    areas = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    area = np.bincount(surface.faces.ravel(), np.repeat(areas / 6, 3), len(surface.vertices))
    return surface.seen @ (doubt * area)
