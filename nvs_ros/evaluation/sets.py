"""The objects of an evaluation: none of them was in the training set."""

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
"""See :class:`Known`."""
SPLIT_SEEDS = {'test': 1000, 'validation': 2000}
"""Objects and cameras follow from it; training takes 0 to 2, a sweep the validation split."""


@dataclass(frozen=True)
class Known:
    """What a method is told of an object's shape.

    Attributes
    ----------
    of : str
        ``'mask'``, the silhouette of the source picture; ``'nothing'``; ``'depth'``, what an ideal
        depth camera sees; ``'sensor'``, what a real one does, with a wrong mask and pose.
    further : int
        Frames besides the source, from random sides; the network is shown the nearest.
    """

    of: str = 'mask'
    further: int = 0

    @classmethod
    def parse(cls, text: str) -> Known:
        """``depth``, ``depth+1`` with a further frame, ...; empty: the mask.

        Raises
        ------
        ValueError
            Another word.
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
        Kind of the object, or where its mesh came from.
    images : (views, S, S, 3) uint8
        RGB on white.
    masks : (views, S, S) uint8
        Coverage, 0..255.
    cameras : (views, 3) float32
        azimuth_rad, elevation_rad, radius (longest sides of the object).
    mesh : Mesh
    settings : DatasetSettings
    index : int
        Of the object in its set.
    """

    name: str
    images: np.ndarray
    masks: np.ndarray
    cameras: np.ndarray
    mesh: Mesh
    settings: DatasetSettings
    index: int

    def canonical(self, index: int, trained: TrainedRange) -> CanonicalView:
        """A view as the network is shown it."""
        return _canonical(self.images[index], self.masks[index], self.cameras[index], trained)

    def further(self, source: int, known: Known, trained: TrainedRange) -> list[CanonicalView]:
        """The frames besides the source, as the network is shown them."""
        cameras = self._further_cameras(source, known)
        if not len(cameras):
            return []
        images, masks = render_views(self.mesh, cameras, self.settings.size)
        rows = zip(images, masks, cameras, strict=True)
        return [_canonical(*row, trained) for row in rows]

    def measurement(self, source: int, known: Known) -> Measurement | None:
        """What a method is told of the shape; None: what the pictures tell themselves."""
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
        """Cameras (known.further, 3) from random sides."""
        # A last number above 0: NumPy takes zeros at the end for nothing, and these cameras for
        # those of the views.
        rng = np.random.default_rng([self.settings.seed, self.index, source, 2])
        views = max(known.further, 2)  # the least of a data set
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
        """As it is in the catalogue; longest side 1."""
        return load(self.entry, mesh_cache(self.folder))


@dataclass(frozen=True)
class ObjectSet:
    """Objects by number with cameras around each: generated ones, or meshes where there are files.

    Attributes
    ----------
    settings : DatasetSettings
        Kinds of generated objects, ranges of the cameras, picture size and seed.
    files : tuple of MeshFile or of Furniture
        Meshes to take instead of generated objects, each once.
    """

    settings: DatasetSettings
    files: tuple[MeshFile, ...] | tuple[Furniture, ...] = ()

    @property
    def size(self) -> int | None:
        """How many there are; None where there is no end of them."""
        return len(self.files) or None

    def split(self, name: str) -> ObjectSet:
        """The same kinds of objects of another split."""
        return dataclasses.replace(
            self, settings=dataclasses.replace(self.settings, seed=SPLIT_SEEDS[name])
        )

    def draw(self, index: int) -> tuple[str, Mesh, np.ndarray]:
        """Name and mesh of an object, and its cameras (views, 3), see :func:`sample_cameras`."""
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
        """All views of an object."""
        name, mesh, cameras = self.draw(index)
        images, masks = render_views(mesh, cameras, self.settings.size)
        cameras = cameras.astype(np.float32)
        return Views(name, images, masks, cameras, mesh, self.settings, index)


def open_set(name: str, *, split: str, views: int, size: int) -> ObjectSet:
    """Find the objects.

    Parameters
    ----------
    name : str
        ``procedural``, what training draws from; ``household``, its household categories alone;
        ``meshes:PKG``, textured meshes that installed packages carry, see
        :func:`nvs_ros.evaluation.mesh_sets.find_meshes`; ``meshes:FOLDER``, OBJ files, see
        :func:`nvs_ros.evaluation.mesh_sets.find_folder`; ``furniture:FOLDER``, objects of the Sweet
        Home 3D catalogues that training never sees.
    split : {'test', 'validation'}
    views : int
        Of each object, from random sides.
    size : int
        Side of the pictures, pixels.

    Raises
    ------
    UserError
        No such set.
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
