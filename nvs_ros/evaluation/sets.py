"""The objects of an evaluation; none of them is in the training set."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np

from nvs_ros.errors import UserError
from nvs_ros.evaluation.mesh_sets import MeshFile, find_folder, find_meshes, is_folder, load_mesh
from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.canonical import CanonicalView, TrainedRange
from nvs_ros.geometry.guide import Measurement
from nvs_ros.geometry.spherical import Spherical, pose_from_spherical
from nvs_ros.scenes.categories import HOUSEHOLD, make_object
from nvs_ros.scenes.dataset import DatasetSettings, render_views, sample_cameras
from nvs_ros.scenes.furniture import held_out_furniture, mesh_cache
from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.sightings import see
from nvs_ros.scenes.sweethome import Entry, load

KNOWN = ('mask', 'nothing', 'depth', 'sensor')
"""Values of :attr:`Known.of`."""
SPLIT_SEEDS = {'test': 1000, 'validation': 2000, 'filter': 3000}
"""Split -> seed of its objects and cameras. Training uses the seeds below 1000; sweeps use the
validation split; filters are learned on the split of that name."""


@dataclass(frozen=True)
class Known:
    """What a method knows of an object's shape.

    Attributes
    ----------
    of : str
        ``'mask'``: the silhouette of the source image; ``'nothing'``; ``'depth'``: what an ideal
        depth camera measures; ``'sensor'``: the same with sensor faults and a wrong mask and pose.
    further : int
        Number of frames besides the source, from random sides; the network is shown the nearest.
    """

    of: str = 'mask'
    further: int = 0

    @classmethod
    def parse(cls, text: str) -> Known:
        """Parse ``depth``, ``depth+1`` (with one further frame) and so on; empty means the mask.

        Raises
        ------
        ValueError
            The name is not in :data:`KNOWN`, or no whole number follows the plus.
        """
        of, _, further = text.partition('+')
        if of not in ('', *KNOWN) or (further and not further.isdecimal()):
            raise ValueError(f'known: expected one of {", ".join(KNOWN)} or NAME+N, got {text!r}')
        return cls(of or 'mask', int(further or 0))


@dataclass(frozen=True)
class Views:
    """All views of one object.

    Attributes
    ----------
    name : str
        Category of the object, or the end of its mesh's path.
    images : (views, S, S, 3) uint8
        RGB on white.
    masks : (views, S, S) uint8
        Coverage by the object, 0..255.
    cameras : (views, 3) float32
        azimuth_rad, elevation_rad, radius (longest sides of the object).
    mesh : Mesh
    settings : DatasetSettings
    index : int
        Index of the object in its set.
    """

    name: str
    images: np.ndarray
    masks: np.ndarray
    cameras: np.ndarray
    mesh: Mesh
    settings: DatasetSettings
    index: int

    def canonical(self, index: int, trained: TrainedRange) -> CanonicalView:
        """View ``index`` as a canonical view."""
        return _canonical(self.images[index], self.masks[index], self.cameras[index], trained)

    def further(self, source: int, known: Known, trained: TrainedRange) -> list[CanonicalView]:
        """The frames besides the source, as canonical views."""
        cameras = self._further_cameras(source, known)
        if not len(cameras):
            return []
        images, masks = render_views(self.mesh, cameras, self.settings.size)
        rows = zip(images, masks, cameras, strict=True)
        return [_canonical(*row, trained) for row in rows]

    def measurement(self, source: int, known: Known) -> Measurement | None:
        """What is known of the shape; None: only the silhouettes of the canonical views."""
        if known.of == 'nothing':
            return Measurement.nothing()
        if known.of == 'mask':
            return None
        cameras = [self.cameras[source], *self._further_cameras(source, known)]
        sensor = None
        if known.of == 'sensor':
            sensor = np.random.default_rng([self.settings.seed, self.index, source, 1])
        seen = [see(self.mesh, camera, self.settings.size, sensor) for camera in cameras]
        return Measurement.joined([one.measurement() for one in seen])

    def _further_cameras(self, source: int, known: Known) -> np.ndarray:
        """Cameras (known.further, 3) of the further frames, from random sides."""
        # The last number must not be 0: NumPy ignores zeros at the end of a seed, and these cameras
        # would be those of the views.
        rng = np.random.default_rng([self.settings.seed, self.index, source, 2])
        views = max(known.further, 2)  # the least number of views in DatasetSettings
        return sample_cameras(dataclasses.replace(self.settings, views=views), rng)[: known.further]

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for array in (self.images, self.masks, self.cameras):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def _canonical(
    image: np.ndarray, mask: np.ndarray, camera: np.ndarray, trained: TrainedRange
) -> CanonicalView:
    return CanonicalView(
        image,
        mask,
        Camera.canonical(len(image)),
        pose_from_spherical(Spherical(*map(float, camera))),
        unit_m=1.0,
        radius=float(camera[2]),
        trained=trained,
    )


@dataclass(frozen=True)
class Furniture:
    """An object of the Sweet Home 3D catalogues in a folder."""

    folder: str
    entry: Entry

    @property
    def path(self) -> str:
        return self.entry.model

    def load(self) -> Mesh:
        """The mesh as in the catalogue, normalised to a longest side of 1."""
        return load(self.entry, mesh_cache(self.folder))


@dataclass(frozen=True)
class ObjectSet:
    """Objects by index, each with cameras around it; generated, or meshes from files.

    Attributes
    ----------
    settings : DatasetSettings
        Categories of generated objects, ranges of the cameras, image size and seed.
    files : tuple of MeshFile or of Furniture
        Meshes to use instead of generated objects.
    """

    settings: DatasetSettings
    files: tuple[MeshFile, ...] | tuple[Furniture, ...] = ()

    @property
    def size(self) -> int | None:
        """Number of objects; None for generated ones, of which there are any number."""
        return len(self.files) or None

    def split(self, name: str) -> ObjectSet:
        """The same set with the seed of another split."""
        return dataclasses.replace(
            self, settings=dataclasses.replace(self.settings, seed=SPLIT_SEEDS[name])
        )

    def draw(self, index: int) -> tuple[str, Mesh, np.ndarray]:
        """Name, mesh and cameras (views, 3) of an object; see
        :func:`nvs_ros.scenes.dataset.sample_cameras`."""
        rng = np.random.default_rng([self.settings.seed, index])
        if self.files:
            file = self.files[index]
            name = '/'.join(file.path.split('/')[-2:])
            mesh = file.load() if isinstance(file, Furniture) else load_mesh(file)
        else:
            name = self.settings.categories[index % len(self.settings.categories)]
            mesh = make_object(name, rng)
        return name, mesh, sample_cameras(self.settings, rng)

    def views(self, index: int) -> Views:
        """Render all views of an object."""
        name, mesh, cameras = self.draw(index)
        images, masks = render_views(mesh, cameras, self.settings.size)
        cameras = cameras.astype(np.float32)
        return Views(name, images, masks, cameras, mesh, self.settings, index)


def open_set(name: str, *, split: str, views: int, size: int) -> ObjectSet:
    """Open a set of objects by its name.

    Parameters
    ----------
    name : str
        ``procedural``: the categories of training; ``household``: only its household categories;
        ``meshes:PKG``: textured meshes in installed packages, see
        :func:`nvs_ros.evaluation.mesh_sets.find_meshes`; ``meshes:FOLDER``: OBJ files, see
        :func:`nvs_ros.evaluation.mesh_sets.find_folder`; ``furniture:FOLDER``: objects of the Sweet
        Home 3D catalogues that training never sees.
    split : {'test', 'validation'}
    views : int
        Number of views of each object, from random sides.
    size : int
        Side of the images, pixels.

    Raises
    ------
    UserError
        Unknown name, or there are no such meshes.
    """
    settings = DatasetSettings(views=views, size=size, seed=SPLIT_SEEDS[split])
    if name == 'procedural':
        return ObjectSet(settings)
    if name == 'household':
        return ObjectSet(dataclasses.replace(settings, categories=HOUSEHOLD))
    kind, _, packages = name.partition(':')
    if kind == 'meshes' and is_folder(packages):
        return ObjectSet(settings, find_folder(packages))
    if kind == 'meshes' and packages:
        return ObjectSet(settings, find_meshes(packages.split(',')))
    if kind == 'furniture' and packages:
        entries = held_out_furniture(packages)
        return ObjectSet(settings, tuple(Furniture(packages, entry) for entry in entries))
    raise UserError(
        'set: expected procedural, household, meshes:PKG, meshes:FOLDER or furniture:FOLDER, '
        f'got {name!r}'
    )
