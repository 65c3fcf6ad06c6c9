"""Ray tracing of solids with a closed form: pictures that are right by construction.

Nothing here uses the package's geometry: pixels are undistorted by OpenCV, rays are cut with the
solid in the object frame. Edges are sampled 6 x 6, so coverage is right to a few hundredths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

EDGE_SAMPLES = 6


class Lens(NamedTuple):
    """What a picture is taken with: plain numbers."""

    width: int
    height: int
    matrix: np.ndarray
    distortion: tuple[float, ...] = ()
    fisheye: bool = False


class Picture(NamedTuple):
    """RGB uint8 (H, W, 3), coverage uint8 (H, W), depth along the axis (H, W) with NaN outside."""

    image: np.ndarray
    mask: np.ndarray
    depth_m: np.ndarray


@dataclass(frozen=True)
class Solid:
    """A box or an ellipsoid about the origin with a smooth texture that differs everywhere."""

    half_m: tuple[float, float, float]
    kind: str = 'box'
    seed: int = 0

    @property
    def size_m(self) -> float:
        return 2 * max(self.half_m)

    @property
    def corners(self) -> np.ndarray:
        """(8, 3) of the box or of the ellipsoid's."""
        signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1], indexing='ij'), -1).reshape(8, 3)
        return signs * self.half_m

    def hit(self, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Distance along unit directions (N, 3) to the surface, NaN for a miss."""
        half = np.array(self.half_m)
        with np.errstate(all='ignore'):
            if self.kind == 'box':
                near, far = (-half - origin) / directions, (half - origin) / directions
                enter = np.minimum(near, far).max(axis=1)
                leave = np.maximum(near, far).min(axis=1)
                return np.where((enter <= leave) & (enter > 0), enter, np.nan)
            o, d = origin / half, directions / half
            a, b, c = (d * d).sum(1), d @ o, o @ o - 1
            distance = (-b - np.sqrt(b * b - a * c)) / a
            return np.where(distance > 0, distance, np.nan)

    def colour(self, points: np.ndarray) -> np.ndarray:
        """RGB 0 ... 255 of surface points (N, 3)."""
        random = np.random.default_rng(self.seed)
        waves = random.uniform(2, 6, (3, 3)) * random.choice([-1, 1], (3, 3))
        phases = points / self.size_m @ waves.T + random.uniform(0, 6, 3)
        return 127.5 + 90 * np.sin(phases)


def rays_of(lens: Lens, pixels: np.ndarray) -> np.ndarray:
    """Unit rays (N, 3) of pixels (N, 2)."""
    points = np.ascontiguousarray(pixels, np.float64)[:, None]
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-9)
    coefficients = np.array(lens.distortion or (0, 0, 0, 0), np.float64)
    if lens.fisheye:
        plane = cv2.fisheye.undistortPoints(points, lens.matrix, coefficients, criteria=criteria)
    else:
        plane = cv2.undistortPointsIter(points, lens.matrix, coefficients, None, None, criteria)
    rays = np.column_stack([plane[:, 0], np.ones(len(points))])
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def pixels_of(lens: Lens, object_from_camera: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Pixels (N, 2) of points (N, 3) in the object frame, by OpenCV with the full pose."""
    camera_from_object = np.linalg.inv(object_from_camera)
    rotation, translation = cv2.Rodrigues(camera_from_object[:3, :3])[0], camera_from_object[:3, 3]
    coefficients = np.array(lens.distortion or (0, 0, 0, 0), np.float64)
    project = cv2.fisheye.projectPoints if lens.fisheye else cv2.projectPoints
    shaped = np.ascontiguousarray(points, np.float64)[:, None]
    return project(shaped, rotation, translation.copy(), lens.matrix, coefficients)[0][:, 0]


def render(
    solid: Solid,
    lens: Lens,
    object_from_camera: np.ndarray,
    background: np.ndarray | None = None,
) -> Picture:
    """The picture of a solid on white, or on ``background`` (H, W, 3)."""
    shape = lens.height, lens.width
    window = _window(solid, lens, object_from_camera)
    y, x = np.mgrid[window]
    centres = np.column_stack([x.ravel(), y.ravel()])
    colour, hit, depth = _trace(solid, lens, object_from_camera, centres)
    hit_map = hit.reshape(x.shape).astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    edge = np.flatnonzero(cv2.dilate(hit_map, kernel) != cv2.erode(hit_map, kernel))
    offsets = (np.arange(EDGE_SAMPLES) + 0.5) / EDGE_SAMPLES - 0.5
    offsets = np.stack(np.meshgrid(offsets, offsets), -1).reshape(-1, 2)
    coverage, premultiplied = hit.astype(np.float64), np.where(hit[:, None], colour, 0.0)
    if edge.size:
        fine = (centres[edge][:, None] + offsets).reshape(-1, 2)
        fine_colour, fine_hit, _ = _trace(solid, lens, object_from_camera, fine)
        fine_colour = np.where(fine_hit[:, None], fine_colour, 0.0)
        premultiplied[edge] = fine_colour.reshape(edge.size, -1, 3).mean(axis=1)
        coverage[edge] = fine_hit.reshape(edge.size, -1).mean(axis=1)
    image = np.full((*shape, 3), 255.0) if background is None else background.astype(np.float64)
    mask, depth_m = np.zeros(shape), np.full(shape, np.nan)
    mask[window] = coverage.reshape(x.shape)
    depth_m[window] = depth.reshape(x.shape)
    image[window] = (
        premultiplied.reshape(*x.shape, 3) + (1 - mask[window][..., None]) * image[window]
    )
    return Picture(np.rint(image).astype(np.uint8), np.rint(255 * mask).astype(np.uint8), depth_m)


def _window(solid, lens, object_from_camera):
    """Where the solid can be: about its corners, with room for the bulge of a lens."""
    pixels = pixels_of(lens, object_from_camera, solid.corners)
    size = lens.width, lens.height
    margin = 3 + 0.1 * np.ptp(pixels, axis=0)
    x, y = np.clip(np.floor(pixels.min(axis=0) - margin), 0, np.array(size) - 1).astype(int)
    right, bottom = np.clip(np.ceil(pixels.max(axis=0) + margin), 1, size).astype(int)
    return np.s_[y : max(bottom, y + 1), x : max(right, x + 1)]


def _trace(solid, lens, object_from_camera, pixels):
    rays = rays_of(lens, pixels)
    directions = rays @ object_from_camera[:3, :3].T
    distance = solid.hit(object_from_camera[:3, 3], directions)
    points = object_from_camera[:3, 3] + directions * distance[:, None]
    return solid.colour(points), np.isfinite(distance), distance * rays[:, 2]
