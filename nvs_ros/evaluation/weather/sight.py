"""What a robot's camera sees of an object on a table, drawn anew when something in it changes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from nvs_ros.evaluation.tabletop import SIZE_M, room_depth
from nvs_ros.geometry import Camera, Spherical, pose_from_spherical, rigid
from nvs_ros.geometry.canonical import SOLID
from nvs_ros.observation import Frame
from nvs_ros.scenes.lighting import Lighting
from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.render import Rendering, render

LENS = Camera(320, 240, np.array([[300, 0, 159.5], [0, 300, 119.5], [0, 0, 1]]))
"""The camera. An object of 0.2 m fills about 160 of its 320 columns from 0.36 m."""
BLACK = (0, 0, 0)
GRAIN = 5.0
"""Standard deviation of the table's pattern, in 8-bit levels."""


@dataclass(frozen=True, eq=False)
class Sight:
    """An object on a table before a depth camera, and the frame that the robot has of it.

    Attributes
    ----------
    mesh : Mesh
        The object in its frame: origin in the centre of its bounding box, z up, metres.
    object_from_camera : (4, 4) float64
        True pose of the camera.
    room : Rendering
        Table and wall alone; its mask is empty.
    frame : Frame
        Image, mask, pose, size and depth as the robot has them; level 0: all true.
    lighting : Lighting
        Of the object.
    things : tuple of Mesh
        Other things in the scene, in the object's frame.
    """

    mesh: Mesh
    object_from_camera: np.ndarray
    room: Rendering
    frame: Frame
    lighting: Lighting = field(default_factory=Lighting)
    things: tuple[Mesh, ...] = ()

    @property
    def size_m(self) -> float:
        """True longest side of the object's bounding box."""
        return float(np.ptp(self.mesh.vertices, axis=0).max())

    @property
    def solid(self) -> np.ndarray:
        """The mask that the robot has, (H, W) bool."""
        return self.frame.mask >= SOLID

    @property
    def depth_m(self) -> np.ndarray:
        """The robot's depth (H, W) float32.

        Raises
        ------
        ValueError
            The frame has none.
        """
        if self.frame.depth_m is None:
            raise ValueError('depth_m: expected a frame with depth, got none')
        return self.frame.depth_m

    def but(self, **changes: Any) -> Sight:
        """The same sight with some fields of the robot's frame replaced."""
        return dataclasses.replace(self, frame=dataclasses.replace(self.frame, **changes))

    def drawn_again(self, **changes: Any) -> Sight:
        """The same sight with other ``lighting`` or ``things``: image, mask and depth follow."""
        changed = dataclasses.replace(self, **changes)
        image, mask, depth = changed.drawn(changed.mesh)
        return changed.but(image=image, mask=mask, depth_m=depth)

    def drawn(self, mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw the scene with a mesh in the object's place.

        Returns
        -------
        image : (H, W, 3) uint8
        mask : (H, W) uint8
            255 where the object shows, else 0.
        depth_m : (H, W) float32
            NaN where nothing is measured.
        """
        image = self.room.image.astype(np.float32)
        depth = np.where(np.isfinite(self.room.depth_m), self.room.depth_m, np.inf)
        shown = np.zeros(depth.shape, np.float32)
        for number, one in enumerate((mesh, *self.things)):
            made = self.alone(one)
            nearer = np.nan_to_num(made.depth_m, nan=np.inf) < depth
            cover = np.where(nearer, made.mask / np.float32(255), np.float32(0))
            image = np.where(nearer[..., None], made.image + (1 - cover[..., None]) * image, image)
            shown = cover if number == 0 else shown * (1 - cover)
            depth = np.where(nearer & (cover >= 0.5), made.depth_m, depth)
        depth = np.where(np.isfinite(depth), depth, np.nan).astype(np.float32)
        mask = (shown >= 0.5).astype(np.uint8) * 255
        return np.clip(image + 0.5, 0, 255).astype(np.uint8), mask, depth

    def alone(self, mesh: Mesh) -> Rendering:
        """One thing of the scene by itself, on black."""
        light = self.lighting.seen_from(self.object_from_camera)
        camera = self.frame.camera
        where = self.object_from_camera, camera.matrix, *camera.size
        return render(mesh, *where, background=BLACK, **light)


def take_sight(mesh: Mesh, spherical: Spherical, rng: np.random.Generator) -> Sight:
    """Put a normalised mesh on a table and take a frame of it, with everything known exactly.

    Parameters
    ----------
    mesh : Mesh
        Longest side 1, centred.
    spherical : Spherical
        Position of the camera, radius in longest sides. Its aim and roll are a little random.
    rng : numpy.random.Generator
    """
    mesh = mesh.transformed(SIZE_M * np.eye(3))
    pose = pose_from_spherical(
        Spherical(spherical.azimuth_rad, spherical.elevation_rad, spherical.radius * SIZE_M)
    )
    turn, _ = cv2.Rodrigues(np.array([*rng.uniform(-0.04, 0.04, 2), rng.uniform(-0.1, 0.1)]))
    pose = pose @ rigid(turn, np.zeros(3))
    room = _room(pose, float(mesh.vertices[:, 2].min()), rng)
    frame = Frame(room.image, room.mask, LENS, pose, SIZE_M, room.depth_m)
    return Sight(mesh, pose, room, frame).drawn_again()


def _room(pose: np.ndarray, table_m: float, rng: np.random.Generator) -> Rendering:
    """A table with a faint pattern of its own, and a wall of another colour."""
    depth = room_depth(LENS, pose, table_m)
    rows, columns = np.indices(depth.shape)
    rays = LENS.unproject(np.column_stack([columns.ravel(), rows.ravel()]))
    points = (rays / rays[:, 2:]) * depth.reshape(-1, 1) @ pose[:3, :3].T + pose[:3, 3]
    on_table = np.abs(points[:, 2] - table_m) < 1e-6
    table, wall = rng.uniform(70, 200, (2, 1)) + rng.normal(0, 12, (2, 3))
    stripes = np.sin(points[:, :2] @ rng.normal(0, 120, 2)) + np.sin(points[:, 0] * 31)
    with np.errstate(invalid='ignore'):
        pattern = np.nan_to_num(GRAIN * stripes * on_table)
    colors = np.where(on_table[:, None], table, wall) + pattern[:, None]
    image = np.clip(colors, 0, 255).astype(np.uint8).reshape(*depth.shape, 3)
    return Rendering(image, np.zeros(depth.shape, np.uint8), depth.astype(np.float32))
