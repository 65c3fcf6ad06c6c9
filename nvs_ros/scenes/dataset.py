"""Pictures of procedural objects on disk: rendered once, memory-mapped afterwards."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.spherical import Spherical, look_at, position_from_spherical
from nvs_ros.replacing import replacing
from nvs_ros.scenes.categories import CATEGORIES, make_object
from nvs_ros.scenes.furniture import mesh_cache, trained_furniture, varied_mesh, with_texture
from nvs_ros.scenes.lighting import Lighting
from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.render import render
from nvs_ros.scenes.sightings import Seen, Sightings, see, write_sightings
from nvs_ros.scenes.sweethome import load
from nvs_ros.settings import Settings, setting


@dataclass(frozen=True)
class DatasetSettings(Settings):
    """What is rendered, and from where."""

    categories: tuple[str, ...] = setting(
        tuple(CATEGORIES), 'Kinds of objects, in turn.', choices=tuple(CATEGORIES)
    )
    objects: int = setting(20000, 'Number of objects.', low=1)
    views: int = setting(8, 'Views of each object.', low=2)
    size: int = setting(64, 'Side of the square pictures.', unit='px', low=16)
    radius: tuple[float, float] = setting(
        (1.6, 2.0), 'Range of the distance, in longest sides of the object.', low=1.2, high=4.0
    )
    elevation_deg: tuple[float, float] = setting(
        (0.0, 50.0), 'Range of the elevation.', unit='deg', low=-90.0, high=90.0
    )
    seed: int = setting(0, 'Objects and cameras follow from it.', low=0)
    furniture: str = setting(
        '', 'Folder of Sweet Home 3D catalogues: every other object is one of theirs.'
    )
    varied: float = setting(
        0.0,
        'Share of objects under random light, and with a texture where they are generated.',
        low=0.0,
        high=1.0,
    )
    guide: bool = setting(False, 'Also what a depth camera measures, for a model with a guide.')

    def check(self) -> None:
        if not self.categories:
            raise ValueError('categories: expected at least one, got none')
        for name in ('radius', 'elevation_deg'):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f'{name}: expected low <= high, got {(low, high)}')


def sample_cameras(settings: DatasetSettings, rng: np.random.Generator) -> np.ndarray:
    """Random cameras that look at the object -> (views, 3) azimuth_rad, elevation_rad, radius."""
    return np.stack(
        [
            rng.uniform(-np.pi, np.pi, settings.views),
            np.radians(rng.uniform(*settings.elevation_deg, settings.views)),
            rng.uniform(*settings.radius, settings.views),
        ],
        -1,
    )


@dataclass(frozen=True)
class Drawn:
    """All views of an object.

    Attributes
    ----------
    images : (views, size, size, 3) uint8
        RGB on white.
    masks : (views, size, size) uint8
    cameras : (views, 3) float32
        azimuth_rad, elevation_rad, radius (longest sides of the object).
    seen : list of Seen
        Of each view, where the dataset has a guide.
    """

    images: np.ndarray
    masks: np.ndarray
    cameras: np.ndarray
    seen: list[Seen]


def draw_object(settings: DatasetSettings, index: int, *, true_sensor: bool = False) -> Drawn:
    """Render all views of object ``index``.

    Parameters
    ----------
    settings : DatasetSettings
    index : int
    true_sensor : bool
        What is seen has no faults.
    """
    rng = np.random.default_rng([settings.seed, index])
    varied = np.random.default_rng([settings.seed, index, 1]).random() < settings.varied
    mesh = _make_mesh(settings, index, varied, rng)
    cameras = sample_cameras(settings, rng)
    lighting = Lighting.random(rng) if varied else Lighting()
    images, masks = render_views(mesh, cameras, settings.size, lighting)
    faults = None if true_sensor else rng
    seen = []
    if settings.guide:
        seen = [see(mesh, camera, settings.size, faults, lighting) for camera in cameras]
    return Drawn(images, masks, cameras.astype(np.float32), seen)


def _make_mesh(
    settings: DatasetSettings, index: int, varied: bool, rng: np.random.Generator
) -> Mesh:
    """One object: generated, or every other one from the catalogues."""
    if settings.furniture:
        if index % 2:
            entries = trained_furniture(settings.furniture)
            entry = entries[index // 2 % len(entries)]
            mesh = load(entry, mesh_cache(settings.furniture))
            return varied_mesh(mesh, rng, settings.furniture)
        index //= 2
    mesh = make_object(settings.categories[index % len(settings.categories)], rng)
    return with_texture(mesh, rng, settings.furniture) if varied else mesh


def render_views(
    mesh: Mesh, cameras: np.ndarray, size: int, lighting: Lighting | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Render a mesh from cameras (views, 3), as :func:`sample_cameras` makes them.

    Returns
    -------
    images : (views, size, size, 3) uint8
        RGB on white.
    masks : (views, size, size) uint8
    """
    intrinsics = Camera.canonical(size).matrix
    renderings = []
    for azimuth, elevation, radius in cameras:
        pose = look_at(position_from_spherical(Spherical(azimuth, elevation, radius)))
        light = lighting.seen_from(pose) if lighting else {}
        renderings.append(render(mesh, pose, intrinsics, size, size, **light))
    return np.stack([r.image for r in renderings]), np.stack([r.mask for r in renderings])


@dataclass(frozen=True)
class Dataset:
    """Pictures, cameras and what was measured; everything but the cameras is memory-mapped.

    Attributes
    ----------
    images : (objects, views, size, size, 3) uint8
        RGB on white.
    cameras : (objects, views, 3) float32
        azimuth_rad, elevation_rad, radius (longest sides of the object).
    sightings : Sightings, optional
    """

    images: np.ndarray
    cameras: np.ndarray
    sightings: Sightings | None = None

    @property
    def sources(self) -> np.ndarray:
        """What the network is shown, like ``images``."""
        return self.images if self.sightings is None else self.sightings.sources


def _draw(job: tuple[DatasetSettings, int]) -> tuple[np.ndarray, np.ndarray, list[Seen]]:
    cv2.setNumThreads(1)
    drawn = draw_object(*job)
    return drawn.images, drawn.cameras, drawn.seen


def make_dataset(settings: DatasetSettings, folder: Path, workers: int | None = None) -> Dataset:
    """Render a dataset, or open it when it is there already.

    Parameters
    ----------
    settings : DatasetSettings
    folder : Path
        Where datasets are kept; this one goes into a sub-folder named after its settings.
    workers : int, optional
        Processes; all cores when omitted.
    """
    description = json.dumps(dataclasses.asdict(settings), sort_keys=True)
    folder = Path(folder) / hashlib.sha256(description.encode()).hexdigest()[:12]
    images_file, cameras_file = folder / 'images.npy', folder / 'cameras.npy'
    if not cameras_file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'settings.json').write_text(description)
        shape = (settings.objects, settings.views, settings.size)
        images = np.lib.format.open_memmap(images_file, 'w+', np.uint8, (*shape, shape[2], 3))
        cameras = np.empty((*shape[:2], 3), np.float32)
        jobs = ((settings, index) for index in range(settings.objects))
        # Spawned: a process forked beside the threads of torch or DDS may wait for a lock for ever.
        workers = workers or len(os.sched_getaffinity(0))
        with ProcessPoolExecutor(workers, get_context('spawn')) as pool:
            results = pool.map(_draw, jobs, chunksize=16)

            def drawn() -> Iterator[list[Seen]]:
                for index, result in enumerate(tqdm(results, 'render', settings.objects)):
                    images[index], cameras[index], seen = result
                    yield seen

            if settings.guide:
                write_sightings(folder, shape, drawn())
            else:
                deque(drawn(), maxlen=0)
        images.flush()
        with replacing(cameras_file) as partial, partial.open('wb') as file:
            np.save(file, cameras)
    return Dataset(
        np.load(images_file, mmap_mode='r'),
        np.load(cameras_file),
        Sightings.open(folder) if settings.guide else None,
    )
