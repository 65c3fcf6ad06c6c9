"""The clouds that grasps are looked for on: what one camera measured, what a robot could make of it
without a network, what the network makes of it, and the truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from nvs_ros.completion.hull import Grid, measured_occupancy, transformed
from nvs_ros.completion.pipeline import Completion, complete_shape
from nvs_ros.completion.surface import triangulated
from nvs_ros.evaluation.grasps.points import Points
from nvs_ros.evaluation.shape_metrics import SCAN_DISTANCE, directions, scan
from nvs_ros.evaluation.shape_protocol import look_round
from nvs_ros.evaluation.tabletop import table_scene
from nvs_ros.geometry.canonical import SOLID, coverage
from nvs_ros.geometry.from_mask import Place, place_from_mask
from nvs_ros.geometry.measured import measured_surface
from nvs_ros.geometry.rigid import inverse
from nvs_ros.geometry.spherical import Spherical, spherical_from_position
from nvs_ros.scenes.mesh import Mesh
from nvs_ros.settings import CompletionSettings
from nvs_ros.synthesizer import Frame, Synthesizer

GUESSED = 0.5
"""Confidence of points that a rule without a network puts there."""
SCANS, SCAN_PIXELS = 32, 160
"""Depth pictures from all round that the true surface is taken from, and their side."""
BELOW_M = 0.002
"""Points so far below the table are left out of every cloud."""
DENSE_M = 0.002
"""Distance of points in a cloud: a picture of 640x480 has many more."""
CLOUDS = {
    'single': 'measured points of one view',
    'extruded': 'the same, with all that they and the silhouette leave unknown above the table',
    'mirrored': 'the same, with their image after half a turn about the vertical axis',
    'ours_no_depth': 'completed, without depth',
    'ours': 'completed, with depth',
    'ours_trusted': 'completed, with depth; only points above a confidence',
    'ours_2_frames': 'completed, with a second frame from the next best view',
    'true': 'the true surface',
}
"""Name -> what it is."""


@dataclass(frozen=True)
class Sight:
    """An object on a table before a camera, and what is made of it when asked for.

    Attributes
    ----------
    synthesizer : Synthesizer
    mesh : Mesh
        As it lies on the table; longest side 1, centred.
    size_m : float
    camera : Spherical
        Radius in longest sides.
    settings : CompletionSettings
    seed : int
        Of the noise of the views, of the camera's aim and of the sensor's faults.
    faults : bool
        See :func:`nvs_ros.evaluation.tabletop.table_scene`.
    found : bool
        Whether place and size are found from mask and depth, as of an object that nobody knows;
        else the true ones are given.
    least_confidence : float
        Of the points of ``ours_trusted``.
    """

    synthesizer: Synthesizer
    mesh: Mesh
    size_m: float
    camera: Spherical
    settings: CompletionSettings
    seed: int = 0
    faults: bool = False
    found: bool = False
    least_confidence: float = 0.6

    @property
    def table_m(self) -> float:
        """Height of the table, object frame."""
        return float(self.mesh.vertices[:, 2].min() * self.size_m)

    def cloud(self, name: str) -> Points:
        """One of :data:`CLOUDS`, in the object frame; no points where nothing is left of it."""
        makers: dict[str, Callable[[], Points]] = {
            'single': lambda: surface_points(self.frame),
            'extruded': lambda: extruded(self.frame, self._told_table_m),
            'mirrored': lambda: mirrored(self.frame),
            'ours_no_depth': lambda: self._completed_cloud(self._flat),
            'ours': lambda: self._completed_cloud(self._deep),
            'ours_trusted': self._trusted,
            'ours_2_frames': lambda: self._completed_cloud(self._twice),
            'true': lambda: true_points(self.mesh, self.size_m),
        }
        if name == 'true':
            points = makers[name]()
        elif self.found and self._place is None:
            points = nothing()
        else:
            points = makers[name]().moved(self.true_from_told)
        return points[points.places[:, 2] > self.table_m - BELOW_M].thinned(DENSE_M)

    def _taken(self, camera: Spherical, number: int) -> Frame:
        rng = np.random.default_rng([self.seed, number])
        made = table_scene(self.mesh, camera, rng, faults=self.faults, size_m=self.size_m)
        return made.frame

    @cached_property
    def _true_frame(self) -> Frame:
        return self._taken(self.camera, 0)

    @cached_property
    def _place(self) -> Place | None:
        """Where the robot finds the object, which knows where up is; None where it does not."""
        frame = self._true_frame
        upright = inverse(frame.object_from_camera)[:3, :3]
        try:
            return place_from_mask(frame.mask >= 128, frame.camera, _depth_m(frame), upright)
        except ValueError:
            return None

    @property
    def true_from_told(self) -> np.ndarray:
        """The object's frame, from the one that the frames are told in, (4, 4)."""
        if not self.found or self._place is None:
            return np.eye(4)
        return self._true_frame.object_from_camera @ self._place.camera_from_object

    @property
    def _told_table_m(self) -> float:
        return self.table_m - float(self.true_from_told[2, 3])

    def _told(self, frame: Frame) -> Frame:
        """A frame with the pose and size that the robot knows of."""
        if not self.found or self._place is None:
            return frame
        pose = inverse(self.true_from_told) @ frame.object_from_camera
        return dataclasses.replace(frame, object_from_camera=pose, object_size_m=self._place.size_m)

    @cached_property
    def frame(self) -> Frame:
        """What the camera measured."""
        return self._told(self._true_frame)

    def _complete(self, frames: list[Frame]) -> tuple[Completion, np.ndarray] | None:
        """The shape, and where the camera should go next; None where nothing is left."""
        observation, views = look_round(self.synthesizer, frames, self.settings, self.seed)
        try:
            made = complete_shape(frames, observation, views, self.settings)
        except ValueError:
            return None
        position = views[made.next_best_view].estimate.target.object_from_camera[:3, 3]
        return made, position

    @cached_property
    def _deep(self) -> tuple[Completion, np.ndarray] | None:
        return self._complete([self.frame])

    @cached_property
    def _flat(self) -> tuple[Completion, np.ndarray] | None:
        return self._complete([dataclasses.replace(self.frame, depth_m=None)])

    @cached_property
    def _twice(self) -> tuple[Completion, np.ndarray] | None:
        if self._deep is None:
            return None
        position = transformed(self.true_from_told, self._deep[1][None])[0]
        there = spherical_from_position(position / self.size_m)
        return self._complete([self.frame, self._told(self._taken(there, 1))])

    def _completed_cloud(self, made: tuple[Completion, np.ndarray] | None) -> Points:
        return nothing() if made is None else Points.of(made[0].cloud)

    def _trusted(self) -> Points:
        points = self._completed_cloud(self._deep)
        return points[points.confidence >= self.least_confidence]


def _depth_m(frame: Frame) -> np.ndarray:
    if frame.depth_m is None:
        raise ValueError('frame: expected one with depth, got none')
    return frame.depth_m


def _size_m(frame: Frame) -> float:
    if frame.object_size_m is None:
        raise ValueError('frame: expected the size of the object, got none')
    return frame.object_size_m


def nothing() -> Points:
    """No points."""
    return Points.measured(np.zeros((0, 3)), np.zeros((0, 3)))


def surface_points(frame: Frame) -> Points:
    """What a depth camera measured of the object, with normals."""
    solid = coverage(np.asarray(frame.mask)) >= SOLID
    pose, size = frame.object_from_camera, _size_m(frame)
    surface = measured_surface(frame.image, solid, frame.camera, pose, _depth_m(frame), size)
    return Points.measured(surface.points.astype(np.float64), surface.normals.astype(np.float64))


def mirrored(frame: Frame) -> Points:
    """Measured points, and the same after half a turn about the vertical axis of the object.

    Turned points are left out where the camera has seen that nothing is: beside the silhouette or
    before the measured depth.
    """
    seen = surface_points(frame)
    turn = np.array([-1.0, -1, 1])
    places = seen.places * turn
    cell_m = _size_m(frame) / 64
    possible = measured_occupancy(places, cell_m, frame) >= 0.5
    count = int(possible.sum())
    far = Points(
        places[possible],
        (seen.normals * turn)[possible],
        np.full(count, GUESSED),
        np.ones(count),
    )
    return seen + far


def extruded(frame: Frame, table_m: float) -> Points:
    """Measured points, and the surface of all space that may be the object's.

    That lies in the silhouette, behind the measured depth, above the table, and in the ball whose
    diameter is the object's longest side. Its walls run along the lines of sight.
    """
    seen, size_m = surface_points(frame), _size_m(frame)
    grid = Grid(size_m, CompletionSettings().cells)
    centres, cell = grid.centres, grid.cell_m
    ball = 0.5 + (size_m / 2 - np.linalg.norm(centres, axis=1)) / cell
    above = 0.5 + (centres[:, 2] - table_m) / cell
    left = measured_occupancy(centres, cell, frame)
    left = np.minimum(left, np.clip(np.minimum(ball, above), 0, 1))
    try:
        places, _, normals = triangulated(grid, left.reshape(grid.shape).astype(np.float32))
    except ValueError:
        return seen
    far = cKDTree(seen.places).query(places)[0] > cell if len(seen) else np.ones(len(places), bool)
    count = int(far.sum())
    return seen + Points(places[far], normals[far], np.full(count, GUESSED), np.ones(count))


def true_points(mesh: Mesh, size_m: float) -> Points:
    """The surface of an object as far as it can be seen from anywhere.

    Parameters
    ----------
    mesh : Mesh
        Longest side 1, centred.
    size_m : float
    """
    made = [
        surface_points(scan(mesh, SCAN_DISTANCE * direction, SCAN_PIXELS))
        for direction in directions(SCANS)
    ]
    joined = sum(made[1:], made[0])
    return dataclasses.replace(joined, places=joined.places * size_m)
