"""Pictures of procedural objects on disk: rendered once, memory-mapped afterwards."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.spherical import Spherical, look_at, position_from_spherical
from nvs_ros.settings import Settings, setting
from nvs_ros.training.files import replacing
from nvs_ros.training.mesh import Mesh
from nvs_ros.training.objects import CATEGORIES, make_object
from nvs_ros.training.render import render


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


def render_object(
    settings: DatasetSettings, index: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render all views of object ``index``.

    Returns
    -------
    images : (views, size, size, 3) uint8
        RGB on white.
    masks : (views, size, size) uint8
    cameras : (views, 3) float32
        azimuth_rad, elevation_rad, radius (longest sides of the object).
    """
    rng = np.random.default_rng([settings.seed, index])
    mesh = make_object(settings.categories[index % len(settings.categories)], rng)
    cameras = sample_cameras(settings, rng)
    return (*render_views(mesh, cameras, settings.size), cameras.astype(np.float32))


def render_views(mesh: Mesh, cameras: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
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
        position = position_from_spherical(Spherical(azimuth, elevation, radius))
        renderings.append(render(mesh, look_at(position), intrinsics, size, size))
    return np.stack([r.image for r in renderings]), np.stack([r.mask for r in renderings])


def _render_images(job: tuple[DatasetSettings, int]) -> tuple[np.ndarray, np.ndarray]:
    images, _, cameras = render_object(*job)
    return images, cameras


def make_dataset(
    settings: DatasetSettings, folder: Path, workers: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Render a dataset, or open it when it is there already.

    Parameters
    ----------
    settings : DatasetSettings
    folder : Path
        Where datasets are kept; this one goes into a sub-folder named after its settings.
    workers : int, optional
        Processes; all cores when omitted.

    Returns
    -------
    images : (objects, views, size, size, 3) uint8, memory-mapped
    cameras : (objects, views, 3) float32
    """
    description = json.dumps(dataclasses.asdict(settings), sort_keys=True)
    folder = Path(folder) / hashlib.sha256(description.encode()).hexdigest()[:12]
    images_file, cameras_file = folder / 'images.npy', folder / 'cameras.npy'
    if not cameras_file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'settings.json').write_text(description)
        shape = (settings.objects, settings.views, settings.size, settings.size, 3)
        images = np.lib.format.open_memmap(images_file, 'w+', np.uint8, shape)
        cameras = np.empty((settings.objects, settings.views, 3), np.float32)
        jobs = ((settings, index) for index in range(settings.objects))
        with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
            results = pool.map(_render_images, jobs, chunksize=16)
            for index, result in enumerate(tqdm(results, 'render', settings.objects)):
                images[index], cameras[index] = result
        images.flush()
        with replacing(cameras_file) as partial, partial.open('wb') as file:
            np.save(file, cameras)
    return np.load(images_file, mmap_mode='r'), np.load(cameras_file)
