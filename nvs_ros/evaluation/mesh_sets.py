"""Textured meshes from other installed packages or a folder, found and loaded at test time."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nvs_ros.errors import UserError
from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.obj import read_obj

SUFFIXES = ('.obj', '.glb', '.gltf', '.dae')
Z_FROM_Y_UP = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)
COLLISION = ('_col', 'collision', 'vhacd')
"""Words in the paths of meshes made for collision tests, which are left out."""
LONGEST_EDGE = 0.015
"""Largest edge of a divided face, which has one colour, in longest sides of the object: about a
sample of a 64-pixel image."""
PLACEHOLDER_SIZE = 2
"""Side in pixels of the image that trimesh uses in place of a missing texture."""
GREY = (160, 160, 160)
"""Colour of parts without colour."""
FLAT = 0.02
"""Least thinnest side of a mesh relative to its longest; thinner ones are posters, not objects."""


class MeshFile(NamedTuple):
    """A mesh on disk.

    Attributes
    ----------
    path : str
    y_up : bool
        Whether y is up in the file; else z is.
    divided : bool
        Whether trimesh divides its faces until each has one colour; else the rasteriser draws its
        textures. Published results for meshes of packages were made with divided faces.
    """

    path: str
    y_up: bool = False
    divided: bool = True


def find_meshes(packages: Sequence[str]) -> tuple[MeshFile, ...]:
    """Textured meshes in installed packages.

    Parameters
    ----------
    packages : sequence of str
        Names of distributions, such as ``pybullet``, or shell patterns of them. ``NAME/PATTERN``
        takes only files whose path contains the shell pattern. ``NAME@y`` and ``NAME/PATTERN@y``
        mean that y is up in these files; by default z is, as in most files for robotics.

    Returns
    -------
    tuple of MeshFile
        In an order that does not depend on the machine, without duplicates.

    Raises
    ------
    UserError
        trimesh or a package is not installed, the axis is not y or z, or there is no textured mesh.
    """
    trimesh = _trimesh()
    found: dict[str, MeshFile] = {}
    for package in packages:
        where, _, up = package.partition('@')
        name, _, pattern = where.partition('/')
        if up not in ('', 'y', 'z'):
            raise UserError(f'set: expected {where}@y or {where}@z, got {package}')
        for path in _paths(name):
            if fnmatch(str(path), f'*{pattern}*') and not any(w in str(path) for w in COLLISION):
                file = Path(path.locate())
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                found.setdefault(content, MeshFile(str(file), up == 'y'))
    textured = tuple(mesh for mesh in found.values() if _is_textured(trimesh, mesh.path))
    if not textured:
        raise UserError(f'set: no textured mesh ({" ".join(SUFFIXES)}) in {", ".join(packages)}')
    return textured


def is_folder(name: str) -> bool:
    """Whether the name of a set is a path (it begins with ``/``, ``./``, ``../`` or ``~``)."""
    return name.startswith(('/', './', '../', '~'))


def find_folder(name: str) -> tuple[MeshFile, ...]:
    """All OBJ files below a folder.

    Parameters
    ----------
    name : str
        A path; ``PATH@y`` if y is up in the files.

    Raises
    ------
    UserError
        There is no OBJ file.
    """
    y_up = name.endswith('@y')
    folder = Path(name.removesuffix('@y').removesuffix('@z')).expanduser()
    files = sorted(file for file in folder.rglob('*') if file.suffix.lower() == '.obj')
    if not files:
        raise UserError(f'set: no OBJ file in {folder}')
    return tuple(MeshFile(str(file), y_up, divided=False) for file in files)


def _paths(name: str) -> list[metadata.PackagePath]:
    """Mesh files of the installed packages whose name matches a shell pattern."""
    packages = {d.name: d for d in metadata.distributions() if fnmatch(str(d.name), name)}
    if not packages:
        raise UserError(f'set: no package {name} here; python -m pip install {name}')
    files = (file for key in sorted(packages) for file in packages[key].files or [])
    return sorted((f for f in files if f.suffix.lower() in SUFFIXES), key=str)


def metric_size(file: MeshFile) -> float:
    """Longest side of a mesh in the unit of its file."""
    return float(np.ptp(_loaded(file).vertices, axis=0).max())


def _loaded(file: MeshFile) -> Mesh:
    return _divided_mesh(file.path) if file.divided else _obj_mesh(file.path)


def load_mesh(file: MeshFile) -> Mesh:
    """Load a mesh: z up, centred, longest side 1.

    Raises
    ------
    UserError
        An OBJ file cannot be read, or trimesh is needed and missing.
    """
    mesh = _loaded(file)
    if file.y_up:
        mesh = dataclasses.replace(
            mesh, vertices=mesh.vertices @ Z_FROM_Y_UP.T, normals=mesh.normals @ Z_FROM_Y_UP.T
        )
    return mesh.normalised()


def _obj_mesh(path: str) -> Mesh:
    def read(name: str) -> bytes | None:
        file = Path(name)
        return file.read_bytes() if file.is_file() else None

    try:
        return read_obj(path, read).mesh
    except ValueError as error:
        raise UserError(f'set: {path}: {error}') from error


def _divided_mesh(path: str) -> Mesh:
    """The mesh of a file with many small faces of one colour each."""
    parts = [part for part in _parts(_trimesh(), path) if len(part.faces)]
    extent = np.ptp(np.concatenate([part.vertices for part in parts]), axis=0).max()
    meshes = [_divided(_trimesh(), part, LONGEST_EDGE * extent) for part in parts]
    return sum(meshes[1:], meshes[0])


def _trimesh():
    try:
        import trimesh
    except ImportError:
        raise UserError('set: meshes need trimesh; python -m pip install trimesh') from None
    return trimesh


def _parts(trimesh, path: str) -> list:
    """The meshes of a file, transformed to their places in its scene."""
    return trimesh.load_scene(path, process=False).dump()


def _is_textured(trimesh, path: str) -> bool:
    try:
        parts = [part for part in _parts(trimesh, path) if hasattr(part, 'faces')]
    except Exception:  # loaders of trimesh raise errors of any type for files they cannot read
        return False
    if not any(_texture(part) is not None for part in parts):
        return False
    extents = np.ptp(np.concatenate([part.vertices for part in parts]), axis=0)
    return extents.min() > FLAT * extents.max()


def _texture(part) -> np.ndarray | None:
    """The texture of a mesh, (h, w, 3) uint8; None without one."""
    material = getattr(part.visual, 'material', None)
    picture = getattr(material, 'image', None) or getattr(material, 'baseColorTexture', None)
    if picture is None or getattr(part.visual, 'uv', None) is None:
        return None
    if max(picture.size) <= PLACEHOLDER_SIZE:
        return None
    return np.asarray(picture.convert('RGB'))


def _plain_colors(part) -> np.ndarray:
    """Colours of faces without a texture, (m, 3) uint8."""
    material = getattr(part.visual, 'material', None)
    if material is None:
        return part.visual.face_colors[:, :3]
    color = GREY if material.main_color is None else material.main_color[:3]
    return np.broadcast_to(color, (len(part.faces), 3))


def _divided(trimesh, part, longest_edge: float) -> Mesh:
    """A part with small faces, each with the colour of the texture at its centre."""
    part.update_faces(part.nondegenerate_faces())
    vertices, faces, index = trimesh.remesh.subdivide_to_size(
        part.vertices, part.faces, longest_edge, max_iter=16, return_index=True
    )
    texture = _texture(part)
    if texture is None:
        colors = _plain_colors(part)[index]
    else:
        corners = part.triangles[index]
        middle = trimesh.triangles.points_to_barycentric(corners, vertices[faces].mean(1))
        u, v = np.einsum('nk,nkd->dn', middle, part.visual.uv[part.faces][index])
        height, width = texture.shape[:2]
        colors = texture[
            (np.floor((1 - v % 1) * height).astype(int)) % height,
            (np.floor(u % 1 * width).astype(int)) % width,
        ]
    normals = np.repeat(part.face_normals[index][:, None], 3, 1)
    return Mesh(
        np.asarray(vertices, np.float64),
        np.asarray(faces, np.int64),
        (colors / 255).astype(np.float32),
        normals.astype(np.float32),
    )
