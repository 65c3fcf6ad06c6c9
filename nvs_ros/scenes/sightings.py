"""What a depth camera saw in each view of a dataset, on disk: the guides of the training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.canonical import canonical_view
from nvs_ros.geometry.guide import Measurement, guide
from nvs_ros.geometry.measured import (
    Surface,
    ball_cells,
    empty_space,
    measured_surface,
    possible_cells,
)
from nvs_ros.geometry.spherical import Spherical, pose_from_spherical
from nvs_ros.replacing import replacing
from nvs_ros.scenes.lighting import Lighting
from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.render import render
from nvs_ros.scenes.sensor import Sighting, perfect_sighting, sighting

POINT = np.dtype([('xyz', '<i2', 3), ('rgb', 'u1', 3), ('normal', 'i1', 3)])
"""A measured point; positions in 1 / SCALE of the object's longest side, normals in 1/127."""
SCALE = 30000
ENLARGED = 2
"""Side of a sighting over side of the network's picture: a camera sees more than the network."""
FILES = ('sources.npy', 'points.npy', 'offsets.npy', 'cells.npy')


@dataclass(frozen=True)
class Seen:
    """What is kept of one view.

    Attributes
    ----------
    source : (S, S, 3) uint8
        The network's picture, made of the sighting as of any frame.
    points : (n,) POINT
    cells : (2, bytes) uint8
        Packed :func:`nvs_ros.geometry.measured.possible_cells`, from the mask alone and with depth.
    """

    source: np.ndarray
    points: np.ndarray
    cells: np.ndarray

    def measurement(self, *, depth: bool = True) -> Measurement:
        """With depth, or from the mask alone."""
        return _measurement([self.points] if depth else [], self.cells[int(depth)])


def see(
    mesh: Mesh,
    camera: np.ndarray,
    size: int,
    rng: np.random.Generator | None,
    lighting: Lighting | None = None,
) -> Seen:
    """Sight a mesh from a camera (azimuth_rad, elevation_rad, radius).

    Parameters
    ----------
    mesh : Mesh
        Normalised.
    camera : (3,)
    size : int
        Side of the network's picture.
    rng : numpy.random.Generator, optional
        Faults of the sensor; without it has none.
    lighting : Lighting, optional
    """
    lens = Camera.canonical(ENLARGED * size)
    pose = pose_from_spherical(Spherical(*map(float, camera)))
    light = lighting.seen_from(pose) if lighting else {}
    made = render(mesh, pose, lens.matrix, lens.width, lens.height, **light)
    seen = perfect_sighting(made, pose) if rng is None else sighting(made, pose, rng)
    return keep(seen, lens, size)


def keep(seen: Sighting, lens: Camera, size: int) -> Seen:
    """What the network and its guide get of a sighting."""
    given = seen.solid, lens, seen.object_from_camera
    surface = measured_surface(seen.image, *given, seen.depth, 1.0)
    points = np.empty(len(surface.points), POINT)
    points['xyz'] = np.rint(np.clip(surface.points, -1, 1) * SCALE)
    points['rgb'] = surface.colors
    points['normal'] = np.rint(surface.normals * 127)
    cells = [
        np.packbits(possible_cells([empty_space(*given, depth, 1.0, seen.unknown)], 1.0))
        for depth in (None, seen.depth)
    ]
    source = canonical_view(
        seen.image, seen.solid, lens, seen.object_from_camera, object_size_m=1.0, image_size=size
    )
    return Seen(source.image, points, np.stack(cells))


@dataclass(frozen=True)
class Sightings:
    """All views of a dataset, memory-mapped.

    Attributes
    ----------
    sources : (objects, views, S, S, 3) uint8
    points : (all points,) POINT
    offsets : (objects * views + 1,) int64
        Where the points of each view begin.
    cells : (objects, views, 2, bytes) uint8
    """

    sources: np.ndarray
    points: np.ndarray
    offsets: np.ndarray
    cells: np.ndarray

    @classmethod
    def open(cls, folder: Path) -> Sightings:
        """What :func:`write_sightings` wrote."""
        return cls(*(np.load(folder / name, mmap_mode='r') for name in FILES))

    def measurement(self, index: int, views: Sequence[int], *, depth: bool) -> Measurement:
        """What some views of object ``index`` measured together."""
        cells = np.bitwise_and.reduce(self.cells[index, list(views), int(depth)])
        return _measurement([self._points(index, view) for view in views if depth], cells)

    def guide(
        self, index: int, views: Sequence[int], target: np.ndarray, *, depth: bool
    ) -> np.ndarray:
        """Guide (5, S, S) of a target camera (azimuth_rad, elevation_rad, radius)."""
        pose = pose_from_spherical(Spherical(*map(float, target)))
        lens = Camera.canonical(self.sources.shape[2])
        return guide(self.measurement(index, views, depth=depth), lens, pose)

    def _points(self, index: int, view: int) -> np.ndarray:
        first = index * self.sources.shape[1] + view
        return self.points[self.offsets[first] : self.offsets[first + 1]]


def _measurement(points: Sequence[np.ndarray], cells: np.ndarray) -> Measurement:
    """Of the points of some views, and their packed cells in common."""
    surfaces = [
        Surface(part['xyz'] / np.float32(SCALE), part['rgb'], part['normal'] / np.float32(127))
        for part in points
    ]
    possible = np.unpackbits(cells, count=len(ball_cells())).astype(bool)
    return Measurement(Surface.joined(surfaces), possible, 1.0)


def write_sightings(
    folder: Path, shape: tuple[int, int, int], objects: Iterable[Sequence[Seen]]
) -> None:
    """Write the views of each object, in order.

    Parameters
    ----------
    folder : Path
    shape : tuple of int
        Objects, views, side of the network's pictures.
    objects : iterable of sequences of Seen
    """
    count, views, size = shape
    width = len(np.packbits(np.zeros(len(ball_cells()), bool)))
    sources = np.lib.format.open_memmap(
        folder / FILES[0], 'w+', np.uint8, (count, views, size, size, 3)
    )
    cells = np.lib.format.open_memmap(folder / FILES[3], 'w+', np.uint8, (count, views, 2, width))
    offsets = [0]
    raw = folder / 'points.raw'
    with raw.open('wb') as file:
        for index, seen in enumerate(objects):
            for view, one in enumerate(seen):
                sources[index, view], cells[index, view] = one.source, one.cells
                file.write(one.points.tobytes())
                offsets.append(offsets[-1] + len(one.points))
    points = np.lib.format.open_memmap(folder / FILES[1], 'w+', POINT, (max(offsets[-1], 1),))
    points[: offsets[-1]] = np.memmap(raw, POINT, 'r') if offsets[-1] else 0
    raw.unlink()
    for array in (sources, cells, points):
        array.flush()
    with replacing(folder / FILES[2]) as partial, partial.open('wb') as file:
        np.save(file, np.array(offsets))
