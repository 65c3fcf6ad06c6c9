"""Furniture and household objects of the Sweet Home 3D catalogues, as meshes for training.

The Debian package ``sweethome3d-furniture`` has them; ``scripts/fetch_furniture.sh`` fetches it.
Each catalogue is an archive of OBJ files, their materials and textures, and a list of who made what
under which licence: Creative Commons Zero or Attribution throughout.
"""

from __future__ import annotations

import csv
import hashlib
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from zipfile import ZipFile

import cv2
import numpy as np

from nvs_ros.errors import UserError
from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.spherical import Spherical, look_at, position_from_spherical
from nvs_ros.replacing import replacing
from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.mesh_files import open_mesh, save_mesh
from nvs_ros.scenes.obj import ObjMesh, read_obj, read_picture
from nvs_ros.scenes.render import render
from nvs_ros.scenes.simplify import select_faces, thinned

PROPERTIES = 'PluginFurnitureCatalog.properties'
EXCLUDED = ('Characters', 'Doors and windows', 'Staircases', 'Vehicles')
"""Categories without table-top objects and the like; there are no animals but toys."""
LICENCES = {
    'Blend Swap CC-0': 'CC0-1.0',
    'Blend Swap CC-BY': 'CC-BY-3.0',
    'Kator Legaz catalog': 'CC-BY-3.0-US',
    'Reallusion catalog': 'CC-BY-3.0-US',
    'Scopia catalog': 'CC-BY-3.0',
}
"""Of the catalogues by their names, as their LICENSE.TXT says."""
OWN_LICENCES = (
    (r'creativecommons\.org/publicdomain/zero|Creative Commons Zero', 'CC0-1.0'),
    (r'creativecommons\.org/publicdomain/mark', 'CC-PDM-1.0'),
    (r'creativecommons\.org/licenses/by/3|Creative Commons Attribution 3', 'CC-BY-3.0'),
)
"""What the file beside some meshes says, the first that is found; for three of them it is not what
their catalogue says."""
SOURCE = r'https?://[\w.]*blendswap\.com/blends/view/\d+'
CREDIT_COLUMNS = ('name', 'creator', 'licence', 'catalogue', 'source')

Z_FROM_Y_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
FROSTED = 0.85
"""Grey to which faces pale that can be seen through: the rasteriser knows solid faces alone, and a
lid that floats over a glass left out would be worse."""
CUT_OUT = 0.2
"""A mesh is refused when more of its surface is cut out by the alpha of its textures, which the
rasteriser does not know."""
THIN = 0.03
"""A mesh is refused when its thinnest side is less than this part of its longest."""
LEAST_FILL = 0.02
"""A mesh is refused when it fills less of a picture, from any of three sides."""
MOST_FACES = 40_000
CACHE_VERSION = 3
"""Part of the names of cached files; another one where meshes would come out otherwise."""


class Unusable(ValueError):
    """A mesh that is no good for training, and why."""


@dataclass(frozen=True)
class Entry:
    """One object of a catalogue.

    Attributes
    ----------
    key : str
        Unique among all catalogues.
    name, creator, licence, catalogue, category : str
        The licence as an SPDX identifier.
    source : str
        Where it was published first; empty where its catalogue does not say so.
    tags : tuple of str
    size_cm : tuple of float
        Width, depth and height.
    archive : Path
        The catalogue's file.
    model : str
        Path of the OBJ file in it.
    rotation : tuple of float
        Row by row, of the mesh in its file (y up) to how it stands.
    """

    key: str
    name: str
    creator: str
    licence: str
    catalogue: str
    category: str
    source: str
    tags: tuple[str, ...]
    size_cm: tuple[float, float, float]
    archive: Path
    model: str
    rotation: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)


def load_catalogues(folder: Path, excluded: Sequence[str] = EXCLUDED) -> list[Entry]:
    """List the objects of all catalogues (``*.sh3f``) below a folder.

    Parameters
    ----------
    folder : Path
    excluded : sequence of str
        Categories to leave out.

    Raises
    ------
    UserError
        There is no catalogue.
    """
    archives = sorted(Path(folder).rglob('*.sh3f'))
    if not archives:
        raise UserError(f'furniture: no *.sh3f in {folder}; see scripts/fetch_furniture.sh')
    entries = [entry for archive in archives for entry in _entries(archive)]
    return [entry for entry in entries if entry.category not in excluded]


def _entries(archive: Path) -> Iterator[Entry]:
    text = _archive(archive).read(PROPERTIES).decode('latin-1')
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, found, value = line.partition('=')
        if found and not key.startswith(('#', '!')):
            value = re.sub(r'\\u([0-9a-fA-F]{4})', lambda m: chr(int(m[1], 16)), value)
            values[key.strip()] = value.strip()
    catalogue = values.get('name', archive.stem)
    licence = LICENCES.get(catalogue) or values.get('license', 'unknown')
    numbers = (key.partition('#')[2] for key in values if key.startswith('model#'))
    for number in sorted(numbers, key=int):

        def value(key: str, default: str = '', number: str = number) -> str:
            return values.get(f'{key}#{number}') or default

        model = value('model').lstrip('/')
        own = _licence_text(archive, posixpath.dirname(model))
        stated = (name for pattern, name in OWN_LICENCES if re.search(pattern, own))
        source = re.search(SOURCE, own)
        sides = (float(value(side, '0')) for side in ('width', 'depth', 'height'))
        yield Entry(
            key=value('id', f'{archive.stem}#{number}'),
            name=value('name'),
            creator=value('creator', catalogue),
            licence=next(stated, licence),
            catalogue=catalogue,
            category=value('category'),
            source=source[0] if source else '',
            tags=tuple(tag.strip() for tag in value('tags').split(',') if tag.strip()),
            size_cm=tuple(sides),
            archive=archive,
            model=model,
            rotation=tuple(map(float, value('modelRotation', '1 0 0 0 1 0 0 0 1').split())),
        )


def _archive(path: Path) -> ZipFile:
    return _opened(path, os.getpid())


@lru_cache(maxsize=16)
def _opened(path: Path, process: int) -> ZipFile:
    """Once for each process: forked ones would share the place in the file."""
    return ZipFile(path)


def _licence_text(archive: Path, folder: str) -> str:
    """What stands about the licence beside a mesh."""
    texts = [
        _archive(archive).read(name).decode('utf-8', 'replace')
        for name in _names(archive).values()
        if posixpath.dirname(name) == folder and name.lower().endswith(('.txt', '.html'))
    ]
    return '\n'.join(texts)


class _Reader:
    """Reads the files of a catalogue; one that is not where it should be is looked for beside the
    mesh, in any case of letters."""

    def __init__(self, entry: Entry) -> None:
        self.archive = _archive(entry.archive)
        self.folder = posixpath.dirname(entry.model)
        self.names = _names(entry.archive)

    def __call__(self, path: str) -> bytes | None:
        beside = posixpath.join(self.folder, posixpath.basename(path))
        name = self.names.get(path.lower()) or self.names.get(beside.lower())
        return None if name is None else self.archive.read(name)


@lru_cache(maxsize=16)
def _names(path: Path) -> dict[str, str]:
    return {name.lower(): name for name in _archive(path).namelist()}


def load(entry: Entry, cache: Path | None = None) -> Mesh:
    """The mesh of an object: z up, bounding box centred at the origin, longest side 1.

    Parameters
    ----------
    entry : Entry
    cache : Path, optional
        Folder where meshes are kept once they are read.

    Raises
    ------
    Unusable
        Too thin, too small in a picture, too many faces, or cut out of textures with alpha.
    """
    if cache is None:
        return _usable(entry)
    name = hashlib.sha256(f'{CACHE_VERSION} {entry.key}'.encode()).hexdigest()[:16]
    file, refusal = Path(cache) / f'{name}.npz', Path(cache) / f'{name}.txt'
    if refusal.exists():
        raise Unusable(refusal.read_text())
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_mesh(_usable(entry), file)
        except Unusable as error:
            with replacing(refusal) as partial:
                partial.write_text(str(error))
            raise
    return open_mesh(file)


def usable(entries: Iterable[Entry], cache: Path) -> Iterator[Entry]:
    """Those entries that :func:`load` does not refuse; the first time it reads all of them."""
    for entry in entries:
        try:
            load(entry, cache)
        except Unusable:
            continue
        yield entry


def _usable(entry: Entry) -> Mesh:
    try:
        read = read_obj(entry.model, _Reader(entry))
    except ValueError as error:
        raise Unusable(f'{entry.key}: {error}') from error
    mesh = _solid(entry, read)
    rotation = np.array(entry.rotation).reshape(3, 3)
    mesh = _sized(mesh.transformed(rotation), entry).transformed(Z_FROM_Y_UP).normalised()
    if np.ptp(mesh.vertices, axis=0).min() < THIN:
        raise Unusable(f'{entry.key}: thinner than {THIN:.0%} of its longest side')
    thin = thinned(mesh, MOST_FACES)
    if thin is None:
        raise Unusable(f'{entry.key}: {len(mesh.faces)} faces')
    fill = _least_fill(thin)
    if fill < LEAST_FILL:
        raise Unusable(f'{entry.key}: fills {fill:.1%} of a picture')
    return thin


def _solid(entry: Entry, read: ObjMesh) -> Mesh:
    """Without faces that have no area; glass becomes frosted."""
    mesh, opacity, alpha = read
    corners = mesh.vertices[mesh.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(across, axis=-1)
    if not area.any():
        raise Unusable(f'{entry.key}: no area')
    cut_out = np.average(1 - alpha, weights=area)
    if cut_out > CUT_OUT:
        raise Unusable(f'{entry.key}: {cut_out:.0%} cut out by the alpha of its textures')
    opacity = np.clip(opacity, 0, 1)[:, None]
    frosted = (FROSTED + opacity * (mesh.colors - FROSTED)).astype(np.float32)
    return select_faces(replace(mesh, colors=frosted), area > 0)


def _sized(mesh: Mesh, entry: Entry) -> Mesh:
    """With the sides that the catalogue says (y up)."""
    width, depth, height = entry.size_cm
    sides = np.ptp(mesh.vertices, axis=0)
    if min(entry.size_cm) <= 0 or sides.min() <= 1e-9 * sides.max():
        return mesh
    return mesh.transformed(np.diag([width, height, depth] / sides))


def _least_fill(mesh: Mesh) -> float:
    matrix = Camera.canonical(64).matrix
    fills = []
    for azimuth, elevation in ((0.4, 0.3), (2.5, 0.3), (-1.7, 0.6)):
        pose = look_at(position_from_spherical(Spherical(azimuth, elevation, 1.8)))
        fills.append(render(mesh, pose, matrix, 64, 64).mask.mean() / 255)
    return min(fills)


def load_pictures(entries: Iterable[Entry], least: int = 64, most: int = 256) -> list[np.ndarray]:
    """The texture pictures beside the meshes of some entries, (h, w, 3) uint8, each once.

    Parameters
    ----------
    entries : iterable of Entry
    least, most : int
        Pictures with a shorter side than ``least`` and transparent ones are left out; larger ones
        are reduced until their longer side is ``most``, pixels.
    """
    pictures: dict[str, np.ndarray] = {}
    folders = {(entry.archive, posixpath.dirname(entry.model)) for entry in entries}
    for archive, folder in sorted(folders):
        for name in sorted(_archive(archive).namelist()):
            if posixpath.dirname(name) != folder or not name.lower().endswith(('.jpg', '.png')):
                continue
            content = _archive(archive).read(name)
            picture = read_picture(content)
            if picture is None or min(picture.shape[:2]) < least or picture[..., 3].min() < 255:
                continue
            scale = most / max(picture.shape[:2])
            if scale < 1:
                area = cv2.INTER_AREA
                picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=area)
            key = hashlib.sha256(content).hexdigest()
            pictures.setdefault(key, np.ascontiguousarray(picture[..., :3]))
    return list(pictures.values())


def credits(entries: Iterable[Entry]) -> list[tuple[str, ...]]:
    """Rows of :data:`CREDIT_COLUMNS`: who made the objects, under which licence, and where they
    were published first, where the catalogue says so."""
    return sorted(
        {(e.name, e.creator, e.licence, e.catalogue, e.source) for e in entries},
        key=lambda row: (row[3], row[1], row[0], row[4]),
    )


def write_credits(entries: Iterable[Entry], file: Path) -> None:
    """Write the credits as CSV."""
    with replacing(file) as partial, partial.open('w', newline='', encoding='utf-8') as stream:
        writer = csv.writer(stream, lineterminator='\n')
        writer.writerow(CREDIT_COLUMNS)
        writer.writerows(credits(entries))
