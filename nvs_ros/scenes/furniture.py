"""Objects of the Sweet Home 3D catalogues: varied for training, and held out from it."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np

from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.sweethome import Entry, load_catalogues, load_pictures, usable
from nvs_ros.scenes.textures import textured

HELD_OUT = 0.1
"""Share of the catalogues' objects that training never sees."""
PLAIN = 0.35
"""Share of generated objects that keep their plain colours."""
RETEXTURED = 0.3
"""Share of catalogue objects that get another texture."""
STRETCH = 0.2
"""Each side is scaled by a factor between exp(-STRETCH) and exp(STRETCH)."""


def mesh_cache(folder: str) -> Path:
    """Folder in which the meshes of catalogues are cached."""
    return Path(folder) / 'meshes'


@lru_cache(maxsize=2)
def trained_furniture(folder: str) -> tuple[Entry, ...]:
    """The usable objects of the catalogues, without those held out."""
    return tuple(entry for entry in _usable(folder) if not _held_out(entry))


@lru_cache(maxsize=2)
def held_out_furniture(folder: str) -> tuple[Entry, ...]:
    """The usable objects that training never sees, in random order."""
    return tuple(sorted(filter(_held_out, _usable(folder)), key=_draw))


@lru_cache(maxsize=2)
def _usable(folder: str) -> tuple[Entry, ...]:
    return tuple(usable(load_catalogues(Path(folder)), mesh_cache(folder)))


def _held_out(entry: Entry) -> bool:
    return _draw(entry) < HELD_OUT


def _draw(entry: Entry) -> float:
    """A pseudo-random number 0 ... 1 for each object, always the same."""
    digest = hashlib.sha256(entry.key.encode()).digest()
    return int.from_bytes(digest[:4], 'big') / 2**32


@lru_cache(maxsize=2)
def _pictures(folder: str) -> tuple[np.ndarray, ...]:
    return tuple(load_pictures(trained_furniture(folder))) if folder else ()


def with_texture(mesh: Mesh, rng: np.random.Generator, folder: str = '') -> Mesh:
    """A generated object; mostly with textures, procedural ones or images of the catalogues."""
    return mesh if rng.random() < PLAIN else textured(mesh, rng, _pictures(folder))


def varied_mesh(mesh: Mesh, rng: np.random.Generator, folder: str = '') -> Mesh:
    """A catalogue object rotated, stretched and tinted; some mirrored, some with new textures."""
    if rng.random() < RETEXTURED:
        mesh = textured(mesh, rng, _pictures(folder))
    sides = np.exp(rng.uniform(-STRETCH, STRETCH, 3))
    if rng.random() < 0.5:
        sides[0] *= -1
    mesh = mesh.transformed(np.diag(sides)).turned(rng.uniform(-np.pi, np.pi)).normalised()
    tint = np.exp(rng.normal(0, 0.15, 3)).astype(np.float32)
    return dataclasses.replace(mesh, colors=np.clip(mesh.colors * tint, 0, 1))
