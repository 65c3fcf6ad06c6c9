"""Clouds and meshes in files, marked as what they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
    ``view`` (index of the view that it is from; -1 the measured camera, -2 none).

    Parameters
    ----------
    cloud : Cloud
    file : Path
    provenance : mapping
        Written as comments, beside how many of the points are synthetic.

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
    _write(file, _ply_header(vertices, 0, {**counts, **provenance}), vertices)


def save_mesh(surface: Surface, file: Path, provenance: Mapping[str, object]) -> None:
    """Write a surface as binary PLY or STL, as the name ends.

    Parameters
    ----------
    surface : Surface
    file : Path
        STL has no place for colours and trust.
    provenance : mapping
        Written as comments into PLY, into the header of STL as far as it has room.

    Raises
    ------
    UserError
        Another ending, or the file cannot be written.
    """
    if file.suffix.lower() == '.stl':
        corners = surface.vertices[surface.faces]
        faces = np.zeros(len(corners), STL_FACE)
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        lengths = np.linalg.norm(normals, axis=1, keepdims=True)
        faces['normal'] = normals / np.maximum(lengths, np.finfo(float).tiny)
        faces['corners'] = corners
        words = ' '.join(f'{k}={v}' for k, v in {'synthetic': 'true', **provenance}.items())
        header = words.encode('ascii', 'replace')[:STL_HEADER].ljust(STL_HEADER)
        _write(file, header + np.uint32(len(faces)).tobytes(), faces)
    elif file.suffix.lower() == '.ply':
        vertices = _vertices(surface.vertices, surface.normals, surface.colors)
        vertices['synthetic'] = 1
        vertices['confidence'] = surface.confidence
        vertices['view'] = surface.views
        faces = np.zeros(len(surface.faces), FACE)
        faces['count'], faces['corners'] = 3, surface.faces
        header = _ply_header(vertices, len(faces), {'synthetic': 'true', **provenance})
        _write(file, header, vertices, faces)
    else:
        raise UserError(f'expected a mesh ending in .ply or .stl, got {file}')


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
