"""Clouds and meshes in files, read by others."""

import sys

import numpy as np
import pytest
from completion_scene import SIZE_M, Seen, box

from nvs_ros.completion.cloud import all_measured_points, completed_cloud
from nvs_ros.completion.export import read_cloud, save_cloud, save_mesh
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
    points, colors = all_measured_points([seen.frame])
    surface = hull_surface(grid, occupancy, [seen.source], seen.estimates, confidences, points)
    return completed_cloud(points, colors, surface), surface


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


def test_a_cloud_is_read_as_it_was_written(made, tmp_path):
    cloud, _ = made
    save_cloud(cloud, tmp_path / 'cloud.ply', PROVENANCE)
    read = read_cloud(tmp_path / 'cloud.ply')
    for name in ('points', 'normals', 'confidence'):
        assert np.allclose(getattr(read, name), getattr(cloud, name), atol=1e-6)
    for name in ('colors', 'synthetic', 'views'):
        assert np.array_equal(getattr(read, name), getattr(cloud, name))
    (tmp_path / 'other.ply').write_text('ply\nproperty float x\nend_header\n')
    for name, said in (('other', 'expected a cloud written by nvs_ros'), ('none', 'cannot read')):
        with pytest.raises(UserError, match=said):
            read_cloud(tmp_path / f'{name}.ply')


def test_a_mesh_is_marked_and_closed(made, tmp_path):
    _, surface = made
    save_mesh(surface, tmp_path / 'mesh.ply', PROVENANCE)
    comments, vertices, rest = read_ply(tmp_path / 'mesh.ply')
    faces = np.frombuffer(rest, [('count', 'u1'), ('corners', '<i4', 3)])
    assert (faces['count'] == 3).all() and np.array_equal(faces['corners'], surface.faces)
    assert np.array_equal(vertices['synthetic'] == 0, surface.measured)
    assert 0.1 < surface.measured.mean() < 0.6 and 'comment nvs_ros:synthetic true' in comments
    assert (vertices['confidence'][surface.measured] == 1).all()
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


@pytest.mark.parametrize('name', ['mesh.glb', 'mesh.OBJ', 'mesh.ply', 'mesh.stl'])
def test_trimesh_reads_the_mesh_in_metres_and_colours(made, tmp_path, name):
    trimesh = pytest.importorskip('trimesh', reason='trimesh is not installed')
    _, surface = made
    save_mesh(surface, tmp_path / name, PROVENANCE)
    mesh = trimesh.load(tmp_path / name, force='mesh', process=False)
    a, b, c = surface.vertices[surface.faces].transpose(1, 0, 2)
    assert mesh.volume == pytest.approx((a * np.cross(b, c)).sum() / 6, rel=1e-3)
    assert len(mesh.faces) == len(surface.faces)
    assert np.allclose(mesh.bounds, [surface.vertices.min(0), surface.vertices.max(0)], atol=1e-5)
    if name != 'mesh.stl':
        order = np.lexsort(mesh.vertices.round(5).T), np.lexsort(surface.vertices.round(5).T)
        found = mesh.visual.vertex_colors[order[0], :3].astype(int)
        assert np.abs(found - surface.colors[order[1]]).max() <= 1


def test_an_obj_is_one_mesh_with_two_groups(made, tmp_path):
    """FoundationPose takes the vertices of what trimesh reads, which must not be a scene."""
    trimesh = pytest.importorskip('trimesh', reason='trimesh is not installed')
    _, surface = made
    save_mesh(surface, tmp_path / 'mesh.obj', PROVENANCE)
    assert isinstance(trimesh.load(tmp_path / 'mesh.obj'), trimesh.Trimesh)
    lines = (tmp_path / 'mesh.obj').read_text().splitlines()
    first, second = (lines.index(f'g {name}') for name in ('measured', 'imagined'))
    corners = [
        [int(word.split('/')[0]) for word in f[2:].split()] for f in lines[first + 1 : second]
    ]
    assert surface.measured[np.array(corners) - 1].all()
    assert second - first - 1 == surface.measured[surface.faces].all(1).sum()
    assert '# nvs_ros:model truth' in lines


def test_a_glb_says_of_each_vertex_where_it_is_from(made, tmp_path):
    trimesh = pytest.importorskip('trimesh', reason='trimesh is not installed')
    _, surface = made
    save_mesh(surface, tmp_path / 'mesh.glb', PROVENANCE)
    scene = trimesh.load(tmp_path / 'mesh.glb', process=False)
    (mesh,) = scene.geometry.values()
    synthetic = mesh.vertex_attributes['_SYNTHETIC'].ravel()
    order = np.lexsort(mesh.vertices.round(5).T), np.lexsort(surface.vertices.round(5).T)
    assert np.array_equal(synthetic[order[0]] == 0, surface.measured[order[1]])
    assert mesh.metadata['model'] == 'truth' and mesh.metadata['synthetic'] == 'true'


def test_glb_says_what_to_install(made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'trimesh', None)
    with pytest.raises(UserError, match='pip install trimesh'):
        save_mesh(made[1], tmp_path / 'mesh.glb', PROVENANCE)


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
    with pytest.raises(UserError, match='ending in .ply'):
        save_mesh(surface, tmp_path / 'mesh.fbx', {})
