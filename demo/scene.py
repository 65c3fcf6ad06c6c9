"""What the bundled bag shows: a mug on a table, seen by a hand-held camera.

Everything follows from the constants here. The mug comes from the generator of the training objects
with a seed that training never draws.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import cv2
import numpy as np

from nvs_ros.geometry import Spherical, pose_from_spherical, rigid
from nvs_ros.scenes.categories import CATEGORIES
from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.render import LIGHT_IN_CAMERA, Rendering, render

OBJECT_SEED = (20251122, 0)
"""Training draws from (seed of the dataset, index of the object)."""
OBJECT_SIZE_M = 0.1
"""Longest side of the mug's bounding box."""

WIDTH, HEIGHT = 320, 240
MATRIX = np.array([[298.4, 0, 157.3], [0, 297.9, 122.1], [0, 0, 1]])
DISTORTION = (-0.28, 0.09, 0.0007, -0.0004, 0.0)
"""plumb_bob, a cheap lens of this angle: 4 pixels inwards at the corners."""
NOISE_READ, NOISE_SHOT = 1.0, 0.018
"""Variance of a pixel in grey levels: read noise, and that of each level of brightness."""
DEPTH_BASELINE_M, DISPARITY_NOISE_PX, DISPARITY_BLUR_PX = 0.05, 0.05, 1.5
"""A depth camera of two eyes, the second to the right; matching smooths what it measures."""
DEPTH_RANGE_M = 0.6
"""Drivers can cut off what is farther away; it costs space in a bag and is of no use here."""
HOLES, HOLE_PX = 0.012, 2.0
"""Share of the pixels without a match, and how large their patches are."""

REST = Spherical(math.radians(-65), math.radians(28), 0.35)
"""Where the camera rests, metres. The handle is at azimuth 0, to the right in its picture."""
REST_ROLL_RAD, REST_PAN_RAD, REST_TILT_RAD = (
    math.radians(2.5),
    math.radians(2.0),
    math.radians(-1.5),
)
"""A hand-held camera is neither level nor aimed at the centre."""

TABLE = np.array([0.60, 0.47, 0.34])
WALL = np.array([0.74, 0.75, 0.72])
WALL_DISTANCE_M = 0.5
SHADOW_STRENGTH, SHADOW_BLUR_M = 0.55, 0.006
OVERSAMPLING, ZOOM = 2, 4
"""Samples per pixel and axis; pixels of the sharp picture in one of the camera's."""


@functools.cache
def mug() -> Mesh:
    """The mug in metres, in its own frame: centre of the bounding box, z up, handle along x."""
    mesh = CATEGORIES['mug'](np.random.default_rng(OBJECT_SEED)).normalised()
    return dataclasses.replace(mesh, vertices=mesh.vertices * OBJECT_SIZE_M)


def object_from_camera(sway: float) -> np.ndarray:
    """Pose of the camera, (4, 4).

    Parameters
    ----------
    sway : float
        0 at rest, 1 at the far end of the hand's movement.
    """
    where = Spherical(
        REST.azimuth_rad + math.radians(5) * sway,
        REST.elevation_rad + math.radians(2) * sway,
        REST.radius * (1 - 0.03 * sway),
    )
    turns = (REST_TILT_RAD + 0.01 * sway, REST_PAN_RAD - 0.015 * sway, REST_ROLL_RAD * (1 - sway))
    aim = functools.reduce(np.matmul, (cv2.Rodrigues(np.array(t))[0] for t in np.diag(turns)))
    return pose_from_spherical(where) @ rigid(aim, np.zeros(3))


def picture(pose: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What the camera takes at ``object_from_camera`` = ``pose``.

    Returns
    -------
    image : (HEIGHT, WIDTH, 3) uint8
        RGB with noise.
    mask : (HEIGHT, WIDTH) uint8
        255 where the mug covers more than half of the pixel, 0 elsewhere.
    """
    side = np.arange(OVERSAMPLING) / OVERSAMPLING + (0.5 / OVERSAMPLING - 0.5)
    slopes = _slopes(*((np.arange(n)[:, None] + side).ravel() for n in (WIDTH, HEIGHT)))
    color, coverage = _through_lens(pose, slopes)
    scene = color + (1 - coverage)[..., None] * _room(pose, slopes)
    scene, coverage = (
        cv2.resize(layer, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        for layer in (scene, coverage)
    )
    scene = cv2.GaussianBlur(scene, (0, 0), 0.5)
    scene += rng.normal(size=scene.shape) * np.sqrt(NOISE_READ + NOISE_SHOT * scene)
    image = np.clip(np.rint(scene), 0, 255).astype(np.uint8)
    return image, np.where(coverage > 0.5, 255, 0).astype(np.uint8)


def depth(pose: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a depth camera of two eyes measures, aligned with :func:`picture`.

    Parameters
    ----------
    pose : (4, 4) float
        ``object_from_camera``.
    rng : numpy.random.Generator

    Returns
    -------
    (HEIGHT, WIDTH) uint16
        Millimetres along the optical axis; 0 where the second eye sees something nearer, where no
        match was found, and beyond the range.
    """
    slopes = _slopes(np.arange(WIDTH), np.arange(HEIGHT))
    sharp, matrix = _sharp(pose)
    at = _pixels(slopes, matrix)
    true = cv2.remap(np.nan_to_num(sharp.depth_m), at, None, cv2.INTER_NEAREST).astype(np.float64)
    true = np.where(true > 0, true, _room_depth(pose, slopes)[0])
    disparity = MATRIX[0, 0] * DEPTH_BASELINE_M / true
    # The second eye sees a point so far to the left; of two on one ray, the right one is nearer.
    second = np.arange(WIDTH) - disparity
    nearest = np.minimum.accumulate(second[:, ::-1], axis=1)[:, ::-1]
    noise, patches = (_correlated(rng, width) for width in (DISPARITY_BLUR_PX, HOLE_PX))
    measured = np.rint(1000 * true * (1 + DISPARITY_NOISE_PX * noise / disparity))
    unmatched = (second > nearest + 0.5) | (patches > np.quantile(patches, 1 - HOLES))
    return np.where(unmatched | (true > DEPTH_RANGE_M), 0, measured).astype(np.uint16)


def _correlated(rng: np.random.Generator, blur_px: float) -> np.ndarray:
    """Noise of variance 1 with neighbours alike, (HEIGHT, WIDTH)."""
    noise = cv2.GaussianBlur(rng.normal(size=(HEIGHT, WIDTH)), (0, 0), blur_px)
    return noise / noise.std()


def truth(pose: np.ndarray, matrix: np.ndarray, size: int) -> Rendering:
    """The mug on white as an undistorted camera truly sees it."""
    return render(mug(), pose, matrix, size, size, supersample=4)


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rays (slopes, 1) of the pixels in these columns and rows of a distorted picture."""
    pixels = np.stack(np.meshgrid(x, y), -1).astype(np.float64)
    return cv2.undistortPointsIter(
        pixels.reshape(-1, 1, 2),
        MATRIX,
        np.array(DISTORTION),
        None,
        None,
        (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-9),
    ).reshape(pixels.shape)


def _sharp(pose: np.ndarray) -> tuple[Rendering, np.ndarray]:
    """The mug on black as a camera without distortion sees it, ZOOM times as large, and K."""
    matrix = np.array(
        [[ZOOM * 300, 0, ZOOM * 200 - 0.5], [0, ZOOM * 300, ZOOM * 150 - 0.5], [0, 0, 1]]
    )
    return render(mug(), pose, matrix, ZOOM * 400, ZOOM * 300, background=(0, 0, 0)), matrix


def _pixels(slopes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Where a camera without distortion sees rays (slopes, 1)."""
    return (slopes * matrix[[0, 1], [0, 1]] + matrix[:2, 2]).astype(np.float32)


def _through_lens(pose: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mug on black and its coverage 0..1, at the rays (slopes, 1) of a distorted picture."""
    sharp, matrix = _sharp(pose)
    layers = np.dstack([sharp.image, sharp.mask]).astype(np.float32)
    layers = cv2.GaussianBlur(layers, (0, 0), ZOOM / OVERSAMPLING / 2)
    seen = cv2.remap(layers, _pixels(slopes, matrix), None, cv2.INTER_LINEAR)
    return seen[..., :3].astype(np.float64), seen[..., 3] / 255.0


def _room(pose: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Table and wall, 0..255, at the rays (slopes, 1)."""
    depth_m, on_table = _room_depth(pose, slopes)
    points = pose[:3, 3] + depth_m[..., None] * (_rays(slopes) @ pose[:3, :3].T)
    table_z = mug().vertices[:, 2].min()
    wall = 255 * WALL * (1 - 0.25 * points[..., 2:])
    table = 255 * TABLE * _grain(points)[..., None] * _shadow(points, table_z)[..., None]
    return np.where(on_table[..., None], table, wall)


def _room_depth(pose: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth of table or wall at the rays (slopes, 1), metres, and where it is the table."""
    rays = _rays(slopes) @ pose[:3, :3].T
    eye, table_z = pose[:3, 3], mug().vertices[:, 2].min()
    away = -np.array([math.cos(REST.azimuth_rad), math.sin(REST.azimuth_rad), 0])
    with np.errstate(divide='ignore'):
        to_table = (table_z - eye[2]) / rays[..., 2]
        to_wall = (WALL_DISTANCE_M - eye @ away) / (rays @ away)
    on_table = (to_table > 0) & ((to_table < to_wall) | (to_wall < 0))
    return np.where(on_table, to_table, to_wall), on_table


def _rays(slopes: np.ndarray) -> np.ndarray:
    return np.dstack([slopes, np.ones(slopes.shape[:2])])


def _grain(points: np.ndarray) -> np.ndarray:
    """Brightness of wooden boards 9 cm wide, about 1."""
    x, y = points[..., 0] + 0.03, points[..., 1]
    board = np.floor(x / 0.09)
    rings = np.sin(900 * (x + 0.01 * np.sin(9 * y + 3 * board) + 0.002 * np.sin(70 * y)))
    gap = np.abs(x / 0.09 - board - 0.5) > 0.49
    return (1 + 0.05 * np.sin(5 * board) + 0.05 * rings) * np.where(gap, 0.6, 1)


def _shadow(points: np.ndarray, table_z: float) -> np.ndarray:
    """Light that reaches points of the table, 0..1."""
    soft, scale = _shadow_map(table_z)
    at = (points[..., :2] * scale + (len(soft) - 1) / 2).astype(np.float32)
    return 1 - SHADOW_STRENGTH * cv2.remap(soft, at, None, cv2.INTER_LINEAR)


@functools.cache
def _shadow_map(table_z: float) -> tuple[np.ndarray, float]:
    """Shadow on the table around the mug, 0..1, and its pixels per metre."""
    size, scale = 801, 2000.0
    light = object_from_camera(0)[:3, :3] @ LIGHT_IN_CAMERA
    vertices = mug().vertices
    cast = vertices[:, :2] - (vertices[:, 2:] - table_z) * light[:2] / light[2]
    hard = np.zeros((size, size), np.float32)
    for triangle in np.rint(cast * scale + (size - 1) / 2).astype(np.int32)[mug().faces]:
        cv2.fillConvexPoly(hard, triangle, 1.0)
    return cv2.GaussianBlur(hard, (0, 0), SHADOW_BLUR_M * scale), scale
