"""Clouds and meshes in files, read by others."""

import numpy as np
import pytest
from completion_scene import SIZE_M, Seen, box

from nvs_ros.completion.cloud import completed_cloud
from nvs_ros.completion.files import save_cloud, save_mesh
from nvs_ros.completion.hull import Grid, carve
from nvs_ros.completion.surface import hull_surface
from nvs_ros.errors import UserError

PLY_TYPES = {'float': '<f4', 'uchar': 'u1', 'short': '<i2'}
PROVENANCE = {'model': 'truth', 'seeds': '0 1', 'preset': 'none'}


@pytest.fixture(scope='module')
def made():
    """A cloud and a surface."""
    seen = Seen(box())
    grid, confidences = Grid(SIZE_M, 32), [0.8] * len(seen.estimates)
    occupancy = carve(grid, [seen.frame], seen.estimates, confidences)
    surface = hull_surface(grid, occupancy, [seen.source], seen.estimates, confidences)
    return completed_cloud([seen.frame], surface, grid.cell_m), surface


def read_ply(file):
    """Comments, vertices and the bytes behind them, by the header alone."""
    data = file.read_bytes()
    end = data.index(b'end_header\n') + len(b'end_header\n')
    lines = data[:end].decode().splitlines()
    assert lines[:2] == ['ply', 'format binary_little_endian 1.0']
    count = next(int(line.split()[2]) for line in lines if line.startswith('element vertex'))
    properties = [line.split() for line in lines if line.startswith('property')]
    layout = [(words[2], PLY_TYPES[words[1]]) for words in properties if words[1] in PLY_TYPES]
    vertices = np.frombuffer(data, layout, count, end)
    comments = [line for line in lines if line.startswith('comment')]
    return comments, vertices, data[end + vertices.nbytes :]


def test_a_cloud_says_of_each_point_where_it_is_from(made, tmp_path):
    cloud, _ = made
    save_cloud(cloud, tmp_path / 'cloud.ply', PROVENANCE)
    comments, vertices, rest = read_ply(tmp_path / 'cloud.ply')
    assert not rest
    assert np.allclose(np.stack([vertices[n] for n in 'xyz'], -1), cloud.points, atol=1e-6)
    assert np.array_equal(vertices['synthetic'].astype(bool), cloud.synthetic)
    assert np.array_equal(vertices['confidence'], cloud.confidence)
    assert np.array_equal(vertices['view'], cloud.views)
    assert np.array_equal(vertices['blue'], cloud.colors[:, 2])
    assert 'comment nvs_ros:model truth' in comments
    assert f'comment nvs_ros:synthetic {cloud.synthetic.sum()}' in comments


def test_a_mesh_is_marked_and_closed(made, tmp_path):
    _, surface = made
    save_mesh(surface, tmp_path / 'mesh.ply', PROVENANCE)
    comments, vertices, rest = read_ply(tmp_path / 'mesh.ply')
    faces = np.frombuffer(rest, [('count', 'u1'), ('corners', '<i4', 3)])
    assert (faces['count'] == 3).all() and np.array_equal(faces['corners'], surface.faces)
    assert (vertices['synthetic'] == 1).all() and 'comment nvs_ros:synthetic true' in comments
    # Every edge belongs to two faces, which run along it in opposite directions.
    corners = faces['corners']
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    assert {tuple(e) for e in edges} == {tuple(e[::-1]) for e in edges}


def test_stl_holds_the_same_triangles(made, tmp_path):
    _, surface = made
    save_mesh(surface, tmp_path / 'mesh.STL', PROVENANCE)
    data = (tmp_path / 'mesh.STL').read_bytes()
    assert data[:14] == b'synthetic=true' and b'model=truth' in data[:80]
    count = int.from_bytes(data[80:84], 'little')
    assert count == len(surface.faces) and len(data) == 84 + 50 * count
    first = np.frombuffer(data, '<f4', 12, 84).reshape(4, 3)
    corners = surface.vertices[surface.faces[0]]
    assert np.allclose(first[1:], corners, atol=1e-6)
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    assert np.allclose(first[0], normal / np.linalg.norm(normal), atol=1e-4)


def test_open3d_reads_the_cloud(made, tmp_path):
    open3d = pytest.importorskip('open3d', reason='open3d is not installed (400 MB)')
    cloud, _ = made
    save_cloud(cloud, tmp_path / 'cloud.ply', PROVENANCE)
    read = open3d.t.io.read_point_cloud(str(tmp_path / 'cloud.ply'))
    assert np.allclose(read.point.positions.numpy(), cloud.points, atol=1e-6)
    assert np.allclose(read.point.normals.numpy(), cloud.normals, atol=1e-6)
    assert np.array_equal(read.point.colors.numpy(), cloud.colors)
    assert np.array_equal(read.point.synthetic.numpy()[:, 0].astype(bool), cloud.synthetic)
    assert np.array_equal(read.point.confidence.numpy()[:, 0], cloud.confidence)


def test_files_that_cannot_be_written_are_said_so(made, tmp_path):
    cloud, surface = made
    with pytest.raises(UserError, match='cannot write'):
        save_cloud(cloud, tmp_path, {})
    with pytest.raises(UserError, match=r'\.ply or \.stl'):
        save_mesh(surface, tmp_path / 'mesh.obj', {})
