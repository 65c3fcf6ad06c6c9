"""Scenes of an object on a table in front of a depth camera, with and without sensor faults, to
test poses and sizes that are estimated from mask and depth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.rigid import rigid
from nvs_ros.geometry.spherical import Spherical, pose_from_spherical
from nvs_ros.observation import Frame
from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.render import render

SIZE_M = 0.2
"""Longest side of the objects, metres."""
CAMERA = Camera(640, 480, np.array([[600, 0, 319.5], [0, 600, 239.5], [0, 0, 1]]))
TABLE_COLOR = 150
WALL_M = 0.6
"""Distance of the wall behind the object, metres."""
EDGE_M = 0.5
"""Distance of the table's edges from the object's centre, metres."""


@dataclass(frozen=True, eq=False)
class TableScene:
    """An object that stands on a table, as a camera sees it.

    Attributes
    ----------
    frame : Frame
        With the true pose (origin in the centre of the bounding box, z up) and size.
    up : (3,) float64
        The true up direction, camera optical frame.
    """

    frame: Frame
    up: np.ndarray


def table_scene(
    mesh: Mesh,
    spherical: Spherical,
    rng: np.random.Generator,
    *,
    camera: Camera = CAMERA,
    faults: bool = False,
    size_m: float = SIZE_M,
) -> TableScene:
    """Put a normalised mesh on a table with a wall behind it, and take a frame of it.

    Parameters
    ----------
    mesh : Mesh
        Longest side 1, centred.
    spherical : Spherical
        Position of the camera, radius in longest sides. Its aim and roll are a little random.
    rng : numpy.random.Generator
    camera : Camera
        Without distortion.
    faults : bool
        Depth with noise that grows with the squared distance, holes and mixed values at edges; a
        mask up to a pixel too small or too large.
    size_m : float
        Longest side of the object.
    """
    mesh = mesh.transformed(size_m * np.eye(3))
    radius_m = spherical.radius * size_m
    pose = pose_from_spherical(Spherical(spherical.azimuth_rad, spherical.elevation_rad, radius_m))
    turn, _ = cv2.Rodrigues(np.array([*rng.uniform(-0.06, 0.06, 2), rng.uniform(-0.2, 0.2)]))
    pose = pose @ rigid(turn, np.zeros(3))
    made = render(mesh, pose, camera.matrix, *camera.size, background=(TABLE_COLOR,) * 3)
    mask = made.mask >= 128
    depth = np.where(mask, made.depth_m, room_depth(camera, pose, mesh.vertices[:, 2].min()))
    if faults:
        mask, depth = _with_faults(mask, depth, rng)
    frame = Frame(
        made.image, mask.astype(np.uint8) * 255, camera, pose, size_m, depth.astype(np.float32)
    )
    return TableScene(frame, pose[:3, :3].T @ [0.0, 0.0, 1.0])


def room_depth(camera: Camera, pose: np.ndarray, table_m: float) -> np.ndarray:
    """Depth (H, W), metres, of a table at height ``table_m`` and of the wall; NaN elsewhere.

    ``pose`` (4, 4) is ``object_from_camera``.
    """
    rows, columns = np.indices((camera.height, camera.width))
    pixels = np.column_stack([columns.ravel(), rows.ravel()])
    rays = camera.unproject(pixels)
    along = (rays / rays[:, 2:]) @ pose[:3, :3].T
    away = -pose[:3, 3] * [1, 1, 0]
    away /= np.linalg.norm(away)
    with np.errstate(divide='ignore', invalid='ignore'):
        table = (table_m - pose[2, 3]) / along[:, 2]
        wall = (WALL_M - pose[:3, 3] @ away) / (along @ away)
    at = pose[:3, 3] + table[:, None] * along
    table[(table <= 0) | (np.abs(at[:, :2]).max(1) > EDGE_M)] = np.inf
    wall[wall <= 0] = np.inf
    depth = np.minimum(table, wall)
    return np.where(np.isfinite(depth), depth, np.nan).reshape(camera.height, camera.width)


def _with_faults(
    mask: np.ndarray, depth: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mask and depth with the faults of a segmentation network and a consumer depth camera."""
    kernel = np.ones((3, 3), np.uint8)
    change = (lambda m, k: m, cv2.erode, cv2.dilate)[rng.integers(3)]
    wrong = change(mask.astype(np.uint8), kernel) > 0
    bled = cv2.blur(np.nan_to_num(depth, nan=3.0), (3, 3))
    noise = cv2.GaussianBlur(rng.standard_normal(depth.shape, np.float32), (0, 0), 1.0) * 3.5
    # 1.5 mm at half a metre, as with active stereo.
    measured = bled + 0.006 * bled**2 * noise
    measured = np.rint(measured * 1000) / 1000
    holes = cv2.GaussianBlur(rng.standard_normal(depth.shape, np.float32), (0, 0), 4.0)
    measured[holes > np.quantile(holes, 0.95)] = np.nan
    return wrong, np.where(np.isfinite(depth), measured, np.nan)
