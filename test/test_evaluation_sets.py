import importlib.util

import numpy as np
import pytest

from nvs_ros.errors import UserError
from nvs_ros.evaluation.mesh_sets import MeshFile, load_mesh
from nvs_ros.evaluation.sets import SPLIT_SEEDS, Known, open_set
from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.canonical import TrainedRange
from nvs_ros.geometry.spherical import look_at
from nvs_ros.scenes.categories import HOUSEHOLD
from nvs_ros.scenes.dataset import DatasetSettings
from nvs_ros.scenes.render import render

needs_trimesh = pytest.mark.skipif(
    importlib.util.find_spec('trimesh') is None, reason='trimesh is no dependency'
)


def test_splits_are_held_out():
    assert DatasetSettings().seed not in SPLIT_SEEDS.values()
    views = {
        split: open_set('household', split=split, views=2, size=32).views(0)
        for split in SPLIT_SEEDS
    }
    assert views['test'].name == views['validation'].name
    assert views['test'].sha256 != views['validation'].sha256


def test_further_frames_are_from_sides_of_their_own(package):
    """Neither from those of the source nor from those that are asked for."""
    views = open_set(f'meshes:{package}', split='test', views=3, size=32).views(0)
    trained = TrainedRange()
    for source in range(3):
        further = views.further(source, Known('depth', 2), trained)
        azimuths = [view.spherical.azimuth_rad for view in further]
        assert np.abs(np.subtract.outer(azimuths, views.cameras[:, 0])).min() > 0.01
    first, second = (views.further(i, Known('depth', 1), trained)[0].image for i in (0, 1))
    assert not np.array_equal(first, second)


def test_household_is_every_household_category_in_turn():
    objects = open_set('household', split='test', views=2, size=32)
    assert [objects.views(index).name for index in range(len(HOUSEHOLD) + 1)] == [
        *HOUSEHOLD,
        HOUSEHOLD[0],
    ]
    procedural = open_set('procedural', split='test', views=2, size=32)
    kinds = {procedural.views(index).name for index in range(len(HOUSEHOLD) + 1)}
    assert kinds - set(HOUSEHOLD)


@pytest.mark.parametrize('name', ['best', 'meshes:', ''])
def test_an_unknown_set_is_refused(name):
    with pytest.raises(UserError, match='household'):
        open_set(name, split='test', views=2, size=32)


@pytest.mark.skipif(importlib.util.find_spec('trimesh') is not None, reason='trimesh is here')
def test_meshes_say_what_to_install():
    with pytest.raises(UserError, match='pip install trimesh'):
        open_set('meshes:pybullet', split='test', views=2, size=32)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with a textured box, its collision mesh and one without a texture."""
    from PIL import Image

    texture = np.zeros((4, 8, 3), np.uint8)
    texture[:, :4, 0] = texture[:, 4:, 1] = 255  # left half red, right half green
    Image.fromarray(texture).save(tmp_path / 'box.png')
    (tmp_path / 'box.mtl').write_text('newmtl skin\nmap_Kd box.png\n')
    corners = [(x, y, z) for x in (0, 2) for y in (0, 1) for z in (0, 4)]
    box = 'mtllib box.mtl\n' + ''.join(f'v {x} {y} {z}\n' for x, y, z in corners)
    # Texture along y alone: v of the face gives nothing, u = 0.25 is red and 0.75 green.
    box += 'vt 0.25 0.5\nvt 0.75 0.5\nusemtl skin\n'
    quads = ((1, 2, 4, 3), (5, 7, 8, 6), (1, 5, 6, 2), (3, 4, 8, 7), (1, 3, 7, 5), (2, 6, 8, 4))
    for quad in quads:
        box += 'f ' + ' '.join(f'{v}/{1 + corners[v - 1][1]}' for v in quad) + '\n'
    for name in ('box.obj', 'box_col.obj'):
        (tmp_path / name).write_text(box if name == 'box.obj' else box + '# physics\n')
    (tmp_path / 'bare.obj').write_text(box.replace('mtllib box.mtl\n', '').replace('skin', 'none'))
    info = tmp_path / 'boxes-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: boxes\nVersion: 1.0\n')
    files = ('box.obj', 'box_col.obj', 'bare.obj', 'box.mtl', 'box.png')
    (info / 'RECORD').write_text(''.join(f'{file},,\n' for file in files))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def assert_red_below_green(mesh, axis):
    """As u = 0.5, where the texture changes, lies at y = 0 in the file."""
    camera = Camera.canonical(64)
    view = look_at([1.4, 0, 0] if axis == 1 else [1.4, 0.01, 0])
    image = render(mesh, view, camera.matrix, 64, 64).image.astype(int)
    red, green = image[..., 0] > image[..., 1] + 40, image[..., 1] > image[..., 0] + 40
    assert red.sum() > 100 and green.sum() > 100
    along = np.indices((64, 64))[1] if axis == 1 else -np.indices((64, 64))[0]
    assert along[red].max() <= along[green].min() + 1


def test_meshes_of_a_folder_are_drawn_with_their_textures(package, monkeypatch):
    objects = open_set(f'meshes:{package}', split='test', views=2, size=32)
    assert objects.size == 3
    views = objects.views(1)
    assert views.name.endswith('/box.obj') and views.masks.any((1, 2)).all()
    assert views.sha256 == objects.views(1).sha256

    mesh = load_mesh(objects.files[1])
    assert len(mesh.faces) == 12 and len(mesh.textures) == 1
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), [0.5, 0.25, 1])
    assert_red_below_green(mesh, axis=1)
    assert load_mesh(objects.files[0]).textures == ()  # bare.obj

    monkeypatch.chdir(package)
    upright = open_set('meshes:./@y', split='test', views=2, size=32)
    mesh = load_mesh(upright.files[1])
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), [0.5, 1, 0.25])
    assert_red_below_green(mesh, axis=2)


def test_folders_and_files_without_meshes_are_named(tmp_path):
    with pytest.raises(UserError, match=f'no OBJ file in {tmp_path}'):
        open_set(f'meshes:{tmp_path}', split='test', views=2, size=32)
    (tmp_path / 'points.obj').write_text('v 0 0 0\n')
    objects = open_set(f'meshes:{tmp_path}', split='test', views=2, size=32)
    with pytest.raises(UserError, match='points.obj: mesh: no faces'):
        objects.views(0)


@needs_trimesh
def test_textured_meshes_of_a_package_are_found_and_coloured(package):
    objects = open_set('meshes:boxes', split='test', views=2, size=32)
    assert objects.size == 1
    views = objects.views(0)
    assert views.images.shape == (2, 32, 32, 3) and views.masks.any((1, 2)).all()

    mesh = load_mesh(MeshFile(str(package / 'box.obj')))
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), [0.5, 0.25, 1])
    middle = mesh.vertices[mesh.faces].mean(1)
    red, green = mesh.colors[:, 0] > 0.5, mesh.colors[:, 1] > 0.5
    assert (red != green).all() and red.any() and green.any()
    # u = 0.5, where the texture changes, lies at y = 0.
    assert middle[red][:, 1].max() < 0.01 and middle[green][:, 1].min() > -0.01


@needs_trimesh
def test_y_up_is_turned_upright(package):
    mesh = load_mesh(MeshFile(str(package / 'box.obj'), y_up=True))
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), [0.5, 1, 0.25])
    red = mesh.colors[:, 0] > 0.5
    assert mesh.vertices[mesh.faces][red][..., 2].mean() < 0  # low y was red: now it is below


@needs_trimesh
@pytest.mark.parametrize('name', ['absent-package', 'boxes/nothing', 'boxes@x'])
def test_what_is_not_there_is_named(package, name):
    with pytest.raises(UserError, match=name.partition('/')[0].partition('@')[0]):
        open_set(f'meshes:{name}', split='test', views=2, size=32)
