"""Triangle meshes with a colour or texture on each face, and the basic shapes of table-top
objects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from nvs_ros.scenes.mipmaps import Mipmaps, mipmaps


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh.

    Attributes
    ----------
    vertices : (n, 3) float64
        Object frame; the longest side of a normalised mesh is 1.
    faces : (m, 3) int64
        Vertex indices.
    colors : (m, 3) float32
        RGB of each face, 0..1.
    normals : (m, 3, 3) float32
        A normal for each corner of each face, of any length.
    uv : (m, 3, 2) float32, optional
        Texture coordinates of each corner of each face: (0, 0) is the lower left corner of the
        texture, (1, 1) the upper right one; beyond that it repeats.
    texture_index : (m,) int32, optional
        Index of the texture of each face; -1 for none.
    textures : tuple of (h, w, 3) uint8
        RGB. The colour of a textured face is multiplied with the texture; white leaves it as it is.

    Raises
    ------
    ValueError
        Textures, ``texture_index`` and ``uv`` do not fit each other.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray
    normals: np.ndarray
    uv: np.ndarray | None = None
    texture_index: np.ndarray | None = None
    textures: tuple[np.ndarray, ...] = ()

    def __post_init__(self) -> None:
        if self.texture_index is None:
            if self.textures:
                raise ValueError(f'textures: {len(self.textures)} came without a texture_index')
            return
        if self.uv is None or self.uv.shape != (len(self.faces), 3, 2):
            got = None if self.uv is None else self.uv.shape
            raise ValueError(f'uv: expected shape {(len(self.faces), 3, 2)}, got {got}')
        if len(self.texture_index) and self.texture_index.max() >= len(self.textures):
            raise ValueError(
                f'texture_index: expected numbers below {len(self.textures)}, the number of '
                f'textures, got {self.texture_index.max()}'
            )

    def __add__(self, other: Mesh) -> Mesh:
        uv = texture_index = None
        if self.texture_index is not None or other.texture_index is not None:
            (first_uv, first), (second_uv, second) = self._mapped(), other._mapped()
            uv = np.concatenate([first_uv, second_uv])
            moved = np.where(second < 0, second, second + len(self.textures)).astype(np.int32)
            texture_index = np.concatenate([first, moved])
        return Mesh(
            np.concatenate([self.vertices, other.vertices]),
            np.concatenate([self.faces, other.faces + len(self.vertices)]),
            np.concatenate([self.colors, other.colors]),
            np.concatenate([self.normals, other.normals]),
            uv,
            texture_index,
            self.textures + other.textures,
        )

    def _mapped(self) -> tuple[np.ndarray, np.ndarray]:
        """``uv`` and ``texture_index``, also where there is no texture."""
        if self.uv is not None and self.texture_index is not None:
            return self.uv, self.texture_index
        count = len(self.faces)
        return np.zeros((count, 3, 2), np.float32), np.full(count, -1, np.int32)

    def transformed(
        self, linear: np.ndarray, offset: np.ndarray | tuple[float, ...] = (0, 0, 0)
    ) -> Mesh:
        """Transform each vertex ``v`` to ``linear @ v + offset``, and the normals accordingly.

        Parameters
        ----------
        linear : (3, 3)
            Invertible.
        offset : (3,)
        """
        linear = np.asarray(linear, np.float64)
        return replace(
            self,
            vertices=self.vertices @ linear.T + offset,
            normals=(self.normals @ np.linalg.inv(linear)).astype(np.float32),
        )

    def turned(self, angle_rad: float) -> Mesh:
        """Rotated about z; positive angles are counter-clockwise seen from above."""
        c, s = np.cos(angle_rad), np.sin(angle_rad)
        return self.transformed(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]))

    def normalised(self) -> Mesh:
        """With the bounding box centred at the origin and a longest side of 1, as Zero-1-to-3 was
        trained."""
        low, high = self.vertices.min(0), self.vertices.max(0)
        return replace(self, vertices=(self.vertices - (low + high) / 2) / (high - low).max())

    @cached_property
    def mipmaps(self) -> Mipmaps:
        """The textures for the rasteriser, made once."""
        return mipmaps(self.textures)


def grid_surface(points: np.ndarray, normals: np.ndarray, colors: np.ndarray) -> Mesh:
    """Triangulate a grid of points.

    Parameters
    ----------
    points : (rows, columns, 3)
    normals : (rows - 1, columns - 1, 4, 3)
        Normals at the corners (r, c), (r, c+1), (r+1, c+1), (r+1, c) of each cell.
    colors : (rows - 1, columns - 1, 3)
        RGB of each cell, 0..1.
    """
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    corners = np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]], -1)
    corners, cells = corners.reshape(-1, 4), normals.reshape(-1, 4, 3)
    first, second = [0, 1, 2], [0, 2, 3]
    return Mesh(
        points.reshape(-1, 3).astype(np.float64),
        np.concatenate([corners[:, first], corners[:, second]]).astype(np.int64),
        np.tile(colors.reshape(-1, 3), (2, 1)).astype(np.float32),
        np.concatenate([cells[:, first], cells[:, second]]).astype(np.float32),
    )


def lathe(profile: np.ndarray, colors: np.ndarray, segments: int = 40) -> Mesh:
    """Surface of revolution about z, from an outline.

    Parameters
    ----------
    profile : (k, 2)
        Radius and height along the outline.
    colors : (k - 1, 3) or (k - 1, segments, 3)
        RGB for each ring, or for each ring and segment.
    segments : int
        Number of segments round the axis.
    """
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    around = np.stack([np.cos(angle), np.sin(angle)], -1)
    radius, height = profile.T
    points = np.empty((len(profile), segments + 1, 3))
    points[..., :2] = radius[:, None, None] * around
    points[..., 2] = height[:, None]
    step = np.diff(profile, axis=0)
    outward = np.stack([step[:, 1], -step[:, 0]], -1)
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True) + 1e-12
    ring = np.empty((len(step), segments + 1, 3))
    ring[..., :2] = outward[:, None, :1] * around
    ring[..., 2] = outward[:, 1:]
    normals = np.stack([ring[:, :-1], ring[:, 1:], ring[:, 1:], ring[:, :-1]], 2)
    if colors.ndim == 2:
        colors = np.repeat(colors[:, None], segments, 1)
    return grid_surface(points, normals, colors)


def tube(path: np.ndarray, radius: np.ndarray | float, color: np.ndarray, sides: int = 10) -> Mesh:
    """A round tube along a path in the x-z plane.

    Parameters
    ----------
    path : (k, 2)
        x and z of the centre line.
    radius : float or (k,)
    color : (3,)
        RGB, 0..1.
    """
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True)
    across = np.stack([-tangent[:, 1], np.zeros(len(path)), tangent[:, 0]], -1)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    ring = across[:, None] * np.cos(angle)[:, None] + np.array([0, 1.0, 0]) * np.sin(angle)[:, None]
    centre = np.stack([path[:, 0], np.zeros(len(path)), path[:, 1]], -1)
    points = centre[:, None] + np.broadcast_to(radius, len(path))[:, None, None] * ring
    normals = np.stack([ring[:-1, :-1], ring[:-1, 1:], ring[1:, 1:], ring[1:, :-1]], 2)
    colors = np.broadcast_to(color, (len(path) - 1, sides, 3))
    return grid_surface(points, normals, colors)


def patch(
    origin: np.ndarray,
    edge_u: np.ndarray,
    edge_v: np.ndarray,
    colors: np.ndarray,
    splits_u: np.ndarray | None = None,
    splits_v: np.ndarray | None = None,
) -> Mesh:
    """A flat rectangle divided into coloured cells.

    Parameters
    ----------
    origin, edge_u, edge_v : (3,)
        One corner and the two edges that leave it.
    colors : (rows, columns, 3)
        RGB of each cell, 0..1; rows run along ``edge_v``.
    splits_u, splits_v : (columns + 1,), (rows + 1,), optional
        Borders of the cells along each edge, 0..1; uniform when omitted.
    """
    rows, columns = colors.shape[:2]
    u = np.linspace(0, 1, columns + 1) if splits_u is None else splits_u
    v = np.linspace(0, 1, rows + 1) if splits_v is None else splits_v
    points = origin + u[None, :, None] * edge_u + v[:, None, None] * edge_v
    normals = np.broadcast_to(np.cross(edge_u, edge_v), (rows, columns, 4, 3))
    return grid_surface(points, normals, colors)


def block(
    size: np.ndarray | tuple[float, ...],
    colors: np.ndarray,
    top: tuple[float, float] = (1.0, 1.0),
) -> Mesh:
    """A box, or a block whose top has another size, on the plane z = 0, centred over the origin.

    Parameters
    ----------
    size : (3,)
        Sides along x, y and z.
    colors : (3,) or (6, 3)
        RGB of all faces, or of the faces towards +x, -x, +y, -y, +z, -z; 0..1.
    top : (2,)
        Sides of the top along x and y, relative to those of the bottom.
    """
    across = np.array([[1, -1], [1, 1], [-1, 1], [-1, -1]]) / 2
    bottom = np.column_stack([across * size[:2], np.zeros(4)])
    upper = np.column_stack([across * size[:2] * top, np.full(4, size[2])])
    corners = np.concatenate([bottom, upper])
    colors = np.broadcast_to(colors, (6, 3))
    faces = [(0, 1, 4, 5), (2, 3, 6, 7), (1, 2, 5, 6), (3, 0, 7, 4), (4, 5, 7, 6), (1, 0, 2, 3)]
    sides = []
    for face, color in zip(faces, colors, strict=True):
        points = corners[list(face)].reshape(2, 2, 3)
        normal = np.cross(points[0, 1] - points[0, 0], points[1, 0] - points[0, 0])
        normals = np.broadcast_to(normal, (1, 1, 4, 3))
        sides.append(grid_surface(points, normals, color[None, None]))
    return sum(sides[1:], sides[0])


def ball(radii: np.ndarray | tuple[float, ...], color: np.ndarray, rings: int = 10) -> Mesh:
    """An ellipsoid about the origin.

    Parameters
    ----------
    radii : (3,)
        Along x, y and z.
    color : (3,)
        RGB, 0..1.
    rings : int
        Number of rings from pole to pole.
    """
    angle = np.linspace(-np.pi / 2, np.pi / 2, rings + 1)
    profile = np.stack([np.cos(angle), np.sin(angle)], -1)
    return lathe(profile, np.tile(color, (rings, 1)), 2 * rings).transformed(np.diag(radii))
