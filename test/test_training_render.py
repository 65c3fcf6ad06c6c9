import numpy as np
import pytest

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.spherical import Spherical, look_at, position_from_spherical
from nvs_ros.training.dataset import DatasetSettings, draw_object, make_dataset
from nvs_ros.training.mesh import patch
from nvs_ros.training.objects import CATEGORIES, make_object
from nvs_ros.training.render import render

RED, BLUE = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])


def square(x, side, color):
    """A square across the x axis, its face towards +x."""
    return patch(
        np.array([x, -side / 2, -side / 2]),
        np.array([0, side, 0]),
        np.array([0, 0, side]),
        color[None, None],
    )


def test_a_square_covers_the_pixels_that_projection_says():
    camera = Camera.canonical(65)
    pose = look_at([2.0, 0, 0])
    rendering = render(square(0.0, 0.8, RED), pose, camera.matrix, 65, 65, supersample=4)
    half = 0.4 / 2.0 * camera.matrix[0, 0]
    assert rendering.mask.sum() / 255 == pytest.approx((2 * half) ** 2, rel=0.01)
    rows, columns = np.nonzero(rendering.mask > 127)
    assert (rows.mean(), columns.mean()) == pytest.approx((32, 32), abs=0.02)
    assert np.nanmax(np.abs(rendering.depth_m - 2.0)) < 1e-5
    assert np.isnan(rendering.depth_m[0, 0]) and (rendering.image[0, 0] == 255).all()


def test_the_nearer_surface_hides_the_farther():
    camera = Camera.canonical(64)
    both = square(0.0, 0.8, RED) + square(0.3, 0.4, BLUE)
    image = render(both, look_at([2.0, 0, 0]), camera.matrix, 64, 64).image
    assert image[32, 32, 2] > 100 and image[32, 32, 0] == 0
    behind = render(both, look_at([-2.0, 0, 0]), camera.matrix, 64, 64).image
    assert behind[32, 32, 0] > 100 and behind[32, 32, 2] == 0


def test_a_camera_that_moves_to_its_right_sees_the_right_side():
    """A blue mark at azimuth +30 degrees comes to the middle when the camera goes to azimuth
    +30."""
    camera = Camera.canonical(64)
    angle = np.radians(30)
    mark = square(0.5, 0.2, BLUE)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    mark = type(mark)(mark.vertices @ turn.T, mark.faces, mark.colors, mark.normals @ turn.T)

    def column(azimuth):
        pose = look_at(position_from_spherical(Spherical(azimuth, 0.0, 2.0)))
        return np.nonzero(render(mark, pose, camera.matrix, 64, 64).mask)[1].mean()

    assert column(angle) == pytest.approx(31.5, abs=0.3)
    assert column(0.0) > 40


@pytest.mark.parametrize('category', sorted(CATEGORIES))
def test_objects_fill_the_unit_box_and_repeat(category):
    mesh = make_object(category, np.random.default_rng(3))
    assert (mesh.vertices.max(0) + mesh.vertices.min(0)) == pytest.approx(np.zeros(3), abs=1e-9)
    assert np.ptp(mesh.vertices, axis=0).max() == pytest.approx(1)
    again = make_object(category, np.random.default_rng(3))
    assert np.array_equal(mesh.vertices, again.vertices)
    assert np.array_equal(mesh.colors, again.colors)


def test_unknown_category_is_named():
    with pytest.raises(ValueError, match="got 'sofa'"):
        make_object('sofa', np.random.default_rng(0))


def test_dataset_is_rendered_once(tmp_path):
    settings = DatasetSettings(objects=3, views=2, size=32, categories=('mug', 'can'))
    dataset = make_dataset(settings, tmp_path, workers=1)
    images, cameras = dataset.images, dataset.cameras
    assert dataset.sources is images and dataset.sightings is None
    assert images.shape == (3, 2, 32, 32, 3) and cameras.shape == (3, 2, 3)
    expected = draw_object(settings, 1)
    assert np.array_equal(images[1], expected.images)
    assert (expected.masks > 0).any((1, 2)).all()
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob('*.npy')}
    make_dataset(settings, tmp_path, workers=1)
    assert files == {file: file.stat().st_mtime_ns for file in tmp_path.rglob('*.npy')}
