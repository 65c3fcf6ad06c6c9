"""Wavefront OBJ files with their materials and textures, from a folder or an archive."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from nvs_ros.scenes.mesh import Mesh
from nvs_ros.scenes.polygons import smooth_normals, triangulate

Read = Callable[[str], bytes | None]
"""Returns the content of a file from its path (with ``/``), or None if there is no such file."""

GREY = (0.63, 0.63, 0.63)
"""Colour of faces without material."""
MOST_TEXELS = 512
"""Largest side of a texture; larger ones are reduced."""
ALPHA_POINTS = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4]]) / [[3], [6], [6], [6]]
"""Barycentric coordinates where the alpha of a face's texture is sampled."""


class ObjMesh(NamedTuple):
    """A mesh as it is in its file, and how transparent its faces are.

    Attributes
    ----------
    mesh : Mesh
    opacity : (m,) float32
        Opacity of each face's material: 0 is clear glass, 1 solid.
    alpha : (m,) float32
        Mean alpha of the texture on each face, 0..1.
    """

    mesh: Mesh
    opacity: np.ndarray
    alpha: np.ndarray


@dataclass
class Material:
    """A material of an MTL file.

    Attributes
    ----------
    color : (float, float, float)
        RGB, 0..1.
    opacity : float
        0 is clear, 1 solid.
    picture : str or None
        Path of the texture.
    """

    color: tuple[float, ...] = GREY
    opacity: float = 1.0
    picture: str | None = None


def read_obj(path: str, read: Read) -> ObjMesh:
    """Read a mesh from an OBJ file.

    Polygons, also concave ones, are cut into triangles. Missing normals are computed from the
    smoothing groups; in a file without such groups everything but creases is smooth. A textured
    face takes its colour from the texture alone, because the colour in the file is usually a
    leftover of the program that wrote it.

    Parameters
    ----------
    path : str
        Path of the OBJ file.
    read : callable
        Reads it, and the files that it refers to.

    Raises
    ------
    ValueError
        There is no such file, or it has no faces.
    """
    content = read(path)
    if content is None:
        raise ValueError(f'mesh: no file {path}')
    lines = _Lines()
    for line in content.decode('utf-8', 'replace').replace('\\\n', ' ').splitlines():
        lines.take(line)
    materials: dict[str, Material] = {}
    for library in lines.libraries:
        materials |= read_materials(resolve(path, library), read)
    return _assembled(lines, materials, read)


@dataclass
class _Lines:
    """The parsed lines of an OBJ file."""

    positions: list[list[str]] = field(default_factory=list)
    texture_points: list[list[str]] = field(default_factory=list)
    normals: list[list[str]] = field(default_factory=list)
    polygons: dict[int, list[list[tuple[int, int, int]]]] = field(default_factory=dict)
    """Number of corners -> indices of position, texture point, normal of each (-1: none)."""
    marks: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Number of corners -> material and smoothing group of each polygon (0: flat)."""
    materials: dict[str, int] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    libraries: list[str] = field(default_factory=list)
    material: int = -1
    group: int = 0
    tells_smoothing: bool = False

    def take(self, line: str) -> None:
        kind, _, rest = line.strip().partition(' ')
        rest = rest.strip()
        if kind == 'v':
            self.positions.append(rest.split()[:3])
        elif kind == 'vt':
            self.texture_points.append((rest.split() + ['0'])[:2])
        elif kind == 'vn':
            self.normals.append(rest.split()[:3])
        elif kind == 'f':
            corners = [self._corner(corner) for corner in rest.split()]
            if len(corners) > 2:
                self.polygons.setdefault(len(corners), []).append(corners)
                self.marks.setdefault(len(corners), []).append((self.material, self.group))
        elif kind == 'usemtl':
            self.material = self.materials.setdefault(rest, len(self.materials))
        elif kind == 's':
            flat = rest in ('off', '0', '')
            self.tells_smoothing = True
            self.group = 0 if flat else self.groups.setdefault(rest, len(self.groups) + 1)
        elif kind == 'mtllib':
            self.libraries.append(rest)

    def _corner(self, text: str) -> tuple[int, int, int]:
        numbers = (text.split('/') + ['', ''])[:3]
        lists = (self.positions, self.texture_points, self.normals)
        # Indices count from 1, negative ones backwards from the newest entry.
        position, texture_point, normal = (
            -1 if not n else int(n) - 1 if int(n) > 0 else len(known) + int(n)
            for n, known in zip(numbers, lists, strict=True)
        )
        return position, texture_point, normal


def read_materials(path: str, read: Read) -> dict[str, Material]:
    """Read an MTL file; empty if there is no such file."""
    materials: dict[str, Material] = {}
    current = Material()
    for line in (read(path) or b'').decode('utf-8', 'replace').splitlines():
        kind, _, rest = line.strip().partition(' ')
        rest = rest.strip()
        if kind == 'newmtl':
            current = materials[rest] = Material()
        elif kind == 'Kd':
            current.color = tuple(float(n) for n in rest.split()[:3])
        elif kind == 'd':
            current.opacity = float(rest.split()[-1])
        elif kind == 'Tr':
            current.opacity = 1 - float(rest.split()[-1])
        elif kind == 'map_Kd' and rest:
            current.picture = resolve(path, rest)
    return materials


def resolve(path: str, name: str) -> str:
    """Path of a file that the file at ``path`` refers to, without ``..``."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), name.replace('\\', '/')))


def read_picture(content: bytes) -> np.ndarray | None:
    """Decode an image to (h, w, 4) uint8, RGBA, reduced to at most :data:`MOST_TEXELS` a side.

    None if the content is no image.
    """
    try:
        picture = np.asarray(Image.open(io.BytesIO(content)).convert('RGBA'))
    except (OSError, ValueError, SyntaxError):
        return None
    scale = MOST_TEXELS / max(picture.shape[:2])
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return picture


def _assembled(lines: _Lines, materials: dict[str, Material], read: Read) -> ObjMesh:
    if not lines.polygons:
        raise ValueError('mesh: no faces')
    positions = np.array(lines.positions, np.float64)
    corners, marks = triangulate(positions, lines.polygons, lines.marks)
    where, texture_point, normal = np.moveaxis(corners, -1, 0)
    material, group = marks.T

    normals = smooth_normals(positions, where, group if lines.tells_smoothing else group + 1)
    if lines.normals:
        given = np.array(lines.normals, np.float32)[normal]
        usable = (normal >= 0) & (np.linalg.norm(given, axis=-1) > 1e-6)
        normals[usable] = given[usable]

    used = [materials.get(name, Material()) for name in lines.materials] + [Material()]
    pictures, index_of = _load_pictures(used, read)
    texture = np.array([index_of.get(m.picture, -1) for m in used], np.int32)[material]
    colors = np.array([m.color for m in used], np.float32)[material]
    texture_points = np.array(lines.texture_points or [['0', '0']], np.float32)
    mapped = (texture >= 0) & (texture_point >= 0).all(1)
    for number, picture in enumerate(pictures):
        colors[(texture == number) & ~mapped] = picture[..., :3].mean((0, 1)) / 255
    colors[mapped] = 1
    uv = np.where(mapped[:, None, None], texture_points[texture_point], 0).astype(np.float32)
    texture = np.where(mapped, texture, -1).astype(np.int32)
    mesh = Mesh(positions, where.astype(np.int64), np.clip(colors, 0, 1), normals)
    if mapped.any():
        textures = tuple(np.ascontiguousarray(picture[..., :3]) for picture in pictures)
        mesh = Mesh(mesh.vertices, mesh.faces, mesh.colors, normals, uv, texture, textures)
    opacity = np.array([m.opacity for m in used], np.float32)[material]
    return ObjMesh(mesh, opacity, _alpha(pictures, texture, uv))


def _load_pictures(
    materials: list[Material], read: Read
) -> tuple[list[np.ndarray], dict[str | None, int]]:
    """The readable textures of the materials, RGBA, and the index of each path in them."""
    pictures: list[np.ndarray] = []
    index_of: dict[str | None, int] = {}
    for path in dict.fromkeys(m.picture for m in materials if m.picture):
        content = read(path)
        picture = None if content is None else read_picture(content)
        if picture is not None:
            index_of[path] = len(pictures)
            pictures.append(picture)
    return pictures, index_of


def _alpha(pictures: list[np.ndarray], texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    alpha = np.ones(len(texture), np.float32)
    for number, picture in enumerate(pictures):
        faces = texture == number
        if not faces.any() or picture[..., 3].min() == 255:
            continue
        u, v = np.moveaxis(ALPHA_POINTS @ uv[faces], -1, 0) % 1
        height, width = picture.shape[:2]
        rows = np.minimum(((1 - v) * height).astype(int), height - 1)
        columns = np.minimum((u * width).astype(int), width - 1)
        alpha[faces] = picture[rows, columns, 3].mean(1) / 255
    return alpha
