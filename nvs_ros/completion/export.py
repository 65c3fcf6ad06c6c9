"""Write clouds and meshes to files, with measured and imagined parts marked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from nvs_ros.completion.cloud import Cloud
from nvs_ros.completion.surface import Surface
from nvs_ros.errors import UserError

VERTEX = [
    *((name, '<f4') for name in ('x', 'y', 'z', 'nx', 'ny', 'nz')),
    *((name, 'u1') for name in ('red', 'green', 'blue', 'synthetic')),
    ('confidence', '<f4'),
    ('view', '<i2'),
]
FACE = [('count', 'u1'), ('corners', '<i4', 3)]
STL_FACE = [('normal', '<f4', 3), ('corners', '<f4', (3, 3)), ('attribute', '<u2')]
PLY_TYPES = {'<f4': 'float', 'u1': 'uchar', '<i2': 'short'}
STL_HEADER = 80
"""Bytes of text before the number of faces."""


def save_cloud(cloud: Cloud, file: Path, provenance: Mapping[str, object]) -> None:
    """Write a cloud as binary PLY.

    Each vertex has ``x y z nx ny nz red green blue``, ``synthetic`` (0 or 1), ``confidence`` and
    ``view`` (index of the view that gave its colour; -1: a measured image, -2: none).

    Parameters
    ----------
    cloud : Cloud
    file : Path
    provenance : mapping
        Written as comments, together with the numbers of all points and of synthetic ones.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    vertices = _vertices(cloud.points, cloud.normals, cloud.colors)
    vertices['synthetic'] = cloud.synthetic
    vertices['confidence'] = cloud.confidence
    vertices['view'] = cloud.views
    counts = {'points': len(vertices), 'synthetic': int(cloud.synthetic.sum())}
    _write(file, _ply_header(vertices, 0, {**provenance, **counts}), vertices)


def read_cloud(file: Path) -> Cloud:
    """What :func:`save_cloud` wrote.

    Raises
    ------
    UserError
        There is no such file, or it is another one.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f'cannot read {file}: {error.strerror or error}') from error
    header, _, body = content.partition(b'end_header\n')
    properties = [f'property {PLY_TYPES[kind]} {name}'.encode() for name, kind in VERTEX]
    dtype = np.dtype(VERTEX)
    if properties != [line for line in header.split(b'\n') if line.startswith(b'property')]:
        raise UserError(f'{file}: expected a cloud written by nvs_ros, got another file')
    vertices = np.frombuffer(body[: len(body) // dtype.itemsize * dtype.itemsize], dtype)
    return Cloud(
        np.stack([vertices[name] for name in 'xyz'], 1).astype(np.float64),
        np.stack([vertices[f'n{name}'] for name in 'xyz'], 1).astype(np.float64),
        np.stack([vertices[name] for name in ('red', 'green', 'blue')], 1),
        vertices['synthetic'] > 0,
        vertices['confidence'],
        vertices['view'],
    )


MESHES = ('.ply', '.glb', '.obj', '.stl')
"""Endings of mesh files."""


def save_mesh(surface: Surface, file: Path, provenance: Mapping[str, object]) -> None:
    """Write a surface in the format of the file's ending: binary PLY or STL, GLB, or OBJ.

    Measured and imagined surface are marked: in PLY as in :func:`save_cloud`; in GLB by the vertex
    attributes ``_SYNTHETIC`` and ``_CONFIDENCE``; in OBJ by the groups ``measured`` and
    ``imagined``. STL has room for neither marks nor colours.

    Parameters
    ----------
    surface : Surface
        Metres.
    file : Path
    provenance : mapping
        Written as comments into PLY and OBJ, as extras into GLB, and into the header of STL as far
        as it fits.

    Raises
    ------
    UserError
        The file has another ending or cannot be written, or trimesh, which writes GLB, is missing.
    """
    writers = dict(zip(MESHES, (_write_ply, _write_glb, _write_obj, _write_stl), strict=True))
    writer = writers.get(file.suffix.lower())
    if writer is None:
        raise UserError(f'expected a mesh ending in {", ".join(MESHES)}, got {file}')
    share = f'{1 - surface.measured.mean():.3f}'
    # First, because the header of STL is short; last, because nothing may take its place.
    marks = {'synthetic': 'true', 'synthetic_share': share}
    writer(surface, file, marks | dict(provenance) | marks)


def _write_stl(surface: Surface, file: Path, provenance: Mapping[str, object]) -> None:
    corners = surface.vertices[surface.faces]
    faces = np.zeros(len(corners), STL_FACE)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    faces['normal'] = normals / np.maximum(lengths, np.finfo(float).tiny)
    faces['corners'] = corners
    words = ' '.join(f'{k}={v}' for k, v in provenance.items())
    header = words.encode('ascii', 'replace')[:STL_HEADER].ljust(STL_HEADER)
    _write(file, header + np.uint32(len(faces)).tobytes(), faces)


def _write_ply(surface: Surface, file: Path, provenance: Mapping[str, object]) -> None:
    vertices = _vertices(surface.vertices, surface.normals, surface.colors)
    vertices['synthetic'] = ~surface.measured
    vertices['confidence'] = vertex_confidence(surface)
    vertices['view'] = surface.views
    faces = np.zeros(len(surface.faces), FACE)
    faces['count'], faces['corners'] = 3, surface.faces
    _write(file, _ply_header(vertices, len(faces), provenance), vertices, faces)


def _write_glb(surface: Surface, file: Path, provenance: Mapping[str, object]) -> None:
    try:
        import trimesh
    except ImportError:
        raise UserError(f'{file}: GLB needs trimesh; python -m pip install trimesh') from None
    mesh = trimesh.Trimesh(
        surface.vertices,
        surface.faces,
        vertex_normals=surface.normals,
        vertex_colors=surface.colors,
        process=False,
        metadata={k: str(v) for k, v in provenance.items()},
    )
    mesh.vertex_attributes['_SYNTHETIC'] = (~surface.measured).astype(np.float32)
    mesh.vertex_attributes['_CONFIDENCE'] = vertex_confidence(surface)
    _write(file, cast(bytes, mesh.export(file_type='glb', include_normals=True)))


def _write_obj(surface: Surface, file: Path, provenance: Mapping[str, object]) -> None:
    lines = [f'# nvs_ros:{k} {" ".join(str(v).split())}' for k, v in provenance.items()]
    rows = np.hstack([surface.vertices, surface.colors / 255])
    lines += ['v {:.6g} {:.6g} {:.6g} {:.4g} {:.4g} {:.4g}'.format(*row) for row in rows]
    lines += ['vn {:.4f} {:.4f} {:.4f}'.format(*row) for row in surface.normals]
    is_measured = surface.measured[surface.faces].all(1)
    for name, chosen in (('measured', is_measured), ('imagined', ~is_measured)):
        lines.append(f'g {name}')
        lines += ['f {0}//{0} {1}//{1} {2}//{2}'.format(*row) for row in surface.faces[chosen] + 1]
    _write(file, '\n'.join([*lines, '']).encode())


def vertex_confidence(surface: Surface) -> NDArray[np.float32]:
    """Confidence (N,) of the vertices, 1 where they were measured."""
    return np.where(surface.measured, 1.0, surface.confidence).astype(np.float32)


def _vertices(points: NDArray, normals: NDArray, colors: NDArray) -> NDArray:
    vertices = np.zeros(len(points), VERTEX)
    for i in range(3):
        vertices['xyz'[i]], vertices[f'n{"xyz"[i]}'] = points[:, i], normals[:, i]
        vertices[('red', 'green', 'blue')[i]] = colors[:, i]
    return vertices


def _ply_header(vertices: NDArray, faces: int, comments: Mapping[str, object]) -> bytes:
    lines = ['ply', 'format binary_little_endian 1.0']
    lines += [f'comment nvs_ros:{k} {" ".join(str(v).split())}' for k, v in comments.items()]
    lines.append(f'element vertex {len(vertices)}')
    lines += [f'property {PLY_TYPES[kind]} {name}' for name, kind in VERTEX]
    if faces:
        lines += [f'element face {faces}', 'property list uchar int vertex_indices']
    return '\n'.join([*lines, 'end_header', '']).encode('utf-8')


def _write(file: Path, header: bytes, *arrays: NDArray) -> None:
    try:
        file.write_bytes(header + b''.join(array.tobytes() for array in arrays))
    except OSError as error:
        raise UserError(f'cannot write {file}: {error.strerror or error}') from error
