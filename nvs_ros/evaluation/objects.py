"""The objects of an evaluation: none of them was in the training set."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nvs_ros.errors import UserError
from nvs_ros.evaluation.textured import MeshFile, find_meshes, load_mesh
from nvs_ros.training.dataset import (
    DatasetSettings,
    render_object,
    render_views,
    sample_cameras,
)
from nvs_ros.training.objects import HOUSEHOLD

SPLIT_SEEDS = {'test': 1000, 'validation': 2000}
"""Objects and cameras follow from it; training takes 0 to 2, a sweep the validation split."""


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
    """

    name: str
    images: np.ndarray
    masks: np.ndarray
    cameras: np.ndarray

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for array in (self.images, self.masks, self.cameras):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


class ObjectSet(Protocol):
    """Objects by number; ``size`` is None where there is no end of them."""

    size: int | None

    def views(self, index: int) -> Views: ...


@dataclass(frozen=True)
class GeneratedObjects:
    """Objects of the training set's generator with a seed of their own."""

    settings: DatasetSettings
    size: int | None = None

    def views(self, index: int) -> Views:
        categories = self.settings.categories
        return Views(categories[index % len(categories)], *render_object(self.settings, index))


@dataclass(frozen=True)
class MeshObjects:
    """Textured meshes of installed packages, each once."""

    files: tuple[MeshFile, ...]
    settings: DatasetSettings

    @property
    def size(self) -> int:
        return len(self.files)

    def views(self, index: int) -> Views:
        cameras = sample_cameras(self.settings, np.random.default_rng([self.settings.seed, index]))
        images, masks = render_views(load_mesh(self.files[index]), cameras, self.settings.size)
        name = '/'.join(self.files[index].path.split('/')[-2:])
        return Views(name, images, masks, cameras.astype(np.float32))


def open_set(name: str, *, split: str, views: int, size: int) -> ObjectSet:
    """Find the objects.

    Parameters
    ----------
    name : str
        ``procedural``, what training draws from; ``household``, its household categories alone;
        ``meshes:PKG``, textured meshes that installed packages carry, see
        :func:`nvs_ros.evaluation.textured.find_meshes`.
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
        return GeneratedObjects(settings)
    if name == 'household':
        return GeneratedObjects(dataclasses.replace(settings, categories=HOUSEHOLD))
    kind, _, packages = name.partition(':')
    if kind == 'meshes' and packages:
        return MeshObjects(find_meshes(packages.split(',')), settings)
    raise UserError(f'set: expected procedural, household or meshes:PKG, got {name!r}')
