from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.spherical import Spherical, look_at, position_from_spherical
from nvs_ros.scenes.categories import CATEGORIES, make_object
from nvs_ros.scenes.dataset import DatasetSettings, draw_object, make_dataset
from nvs_ros.scenes.mesh import ball, patch
from nvs_ros.scenes.render import render

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


def test_plain_meshes_look_as_they_did_before_there_were_textures():
    """Pictures that the rasteriser drew when a mesh had nothing but a colour for each face."""
    camera = Camera.canonical(32)
    with np.load(Path(__file__).parent / 'data' / 'plain_pictures.npz') as stored:
        for index, category in enumerate(('mug', 'carton', 'duck', 'composition')):
            mesh = make_object(category, np.random.default_rng(index))
            pose = look_at(position_from_spherical(Spherical(0.7 * index, 0.4, 1.8)))
            image = render(mesh, pose, camera.matrix, 32, 32).image
            difference = np.abs(image.astype(int) - stored[category])
            assert difference.max() <= 1 and (difference > 0).mean() < 1e-3  # another CPU rounds


CHECKS, FLOOR = 8, -0.2


def checks(texels):
    """A picture of 8 x 8 black and white checks, white at its lower left."""
    odd = np.indices((CHECKS, CHECKS)).sum(0) % 2 == 1
    picture = np.where(odd, 255, 0).astype(np.uint8).repeat(texels, 0).repeat(texels, 1)
    return np.repeat(picture[..., None], 3, 2)


def checked_floor(texels=32, colors=((1.0, 1.0, 1.0),)):
    """Two triangles with checks, x from -0.5 to 0.5 along u, y along v."""
    mesh = patch(
        np.array([-0.5, -0.5, FLOOR]), np.eye(3)[0], np.eye(3)[1], np.array([colors], np.float32)
    )
    uv = (mesh.vertices[mesh.faces][..., :2] + 0.5).astype(np.float32)
    return replace(
        mesh, uv=uv, texture_index=np.zeros(len(uv), np.int32), textures=(checks(texels),)
    )


def floor_points(pose, matrix, size):
    """Where the rays of the pixels meet the floor, (size, size, 2)."""
    rows, columns = np.mgrid[:size, :size]
    rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(matrix).T
    rays = rays @ pose[:3, :3].T
    distance = (FLOOR - pose[2, 3]) / rays[..., 2]
    return np.where(distance > 0, distance, np.nan)[..., None] * rays[..., :2] + pose[:2, 3]


@pytest.mark.parametrize('azimuth', [0.0, 0.5, 2.0, -2.6])
def test_checks_of_an_oblique_texture_lie_where_perspective_puts_them(azimuth):
    size = 128
    camera = Camera.canonical(size)
    pose = look_at(position_from_spherical(Spherical(azimuth, 0.35, 1.1)))
    image = render(checked_floor(), pose, camera.matrix, size, size, ambient=1.0).image
    cells = (floor_points(pose, camera.matrix, size) + 0.5) * CHECKS
    number = np.floor(cells)
    inside = (number >= 0).all(-1) & (number < CHECKS).all(-1)
    # A pixel is judged when all its neighbours lie in the same check.
    whole = inside.copy()
    for axis in (0, 1):
        for step in (1, -1):
            whole &= (np.roll(number, step, axis) == number).all(-1)
    white = number.sum(-1) % 2 == 0
    assert whole[white].sum() > 300 and whole[~white].sum() > 300
    assert image[whole & white].min() > 240
    assert image[whole & ~white].max() < 15


def without_mipmaps(mesh):
    """The same mesh, whose textures are looked up in their full size alone."""
    copy = replace(mesh)
    full_size = mesh.mipmaps._replace(counts=np.ones(len(mesh.textures), np.int64))
    object.__setattr__(copy, 'mipmaps', full_size)
    return copy


def error_of(mesh, truth):
    """Root mean square difference of a picture with 2 x 2 samples a pixel from the mean of 16 x 16
    plain lookups."""
    camera = Camera.canonical(64)
    pose = look_at(position_from_spherical(Spherical(0.5, 0.3, 1.2)))
    shown, truth = (
        render(drawn, pose, camera.matrix, 64, 64, supersample=samples).image.astype(float)
        for drawn, samples in ((mesh, 2), (without_mipmaps(truth), 16))
    )
    return np.sqrt(np.mean((shown - truth) ** 2))


def test_a_fine_texture_is_not_undersampled():
    """Checks smaller than a pixel come out in their mean grey."""
    fine = checked_floor(texels=32)
    fine = replace(fine, uv=fine.uv * 6)
    print(error_of(fine, fine), error_of(without_mipmaps(fine), fine))


def test_a_coarse_texture_is_not_blurred():
    coarse = checked_floor()
    assert error_of(coarse, coarse) < 5
    assert error_of(coarse, coarse) < 1.1 * error_of(without_mipmaps(coarse), coarse)


def test_a_white_texture_leaves_a_mesh_as_it_is():
    plain = make_object('mug', np.random.default_rng(0))
    white = replace(
        plain,
        uv=np.random.default_rng(0).random((len(plain.faces), 3, 2), np.float32),
        texture_index=np.zeros(len(plain.faces), np.int32),
        textures=(np.full((4, 4, 3), 255, np.uint8),),
    )
    camera = Camera.canonical(64)
    first, second = (
        render(mesh, look_at([1.5, 0.8, 0.4]), camera.matrix, 64, 64).image.astype(int)
        for mesh in (plain, white)
    )
    assert np.abs(first - second).max() <= 1


def test_the_side_towards_the_light_is_bright():
    camera = Camera.canonical(64)
    mesh = ball((0.5, 0.5, 0.5), np.full(3, 0.5), rings=24)
    for axis, sign in ((0, 1), (0, -1), (1, 1), (1, -1)):
        light = np.zeros(3)
        light[axis] = sign
        image = render(
            mesh, look_at([1.8, 0, 0]), camera.matrix, 64, 64, light=light, ambient=0.1
        ).image.astype(float)[..., 0]
        bright, dark = (48, 16) if sign > 0 else (16, 48)
        at = (slice(28, 36), [bright]) if axis == 0 else ([bright], slice(28, 36))
        away = (slice(28, 36), [dark]) if axis == 0 else ([dark], slice(28, 36))
        assert image[at].mean() > 60 and image[away].mean() < 20


def test_gloss_shines_where_the_ball_mirrors_the_light():
    """Light from the camera: brightest where the normal points at it, in the middle."""
    camera = Camera.canonical(65)
    mesh = ball((0.5, 0.5, 0.5), np.array([0.5, 0, 0]), rings=40)
    mesh = replace(mesh, normals=mesh.vertices[mesh.faces].astype(np.float32))
    pose = look_at([1.8, 0, 0])

    def green(gloss, exponent):
        return (
            render(
                mesh, pose, camera.matrix, 65, 65, light=(0, 0, -1), gloss=gloss, exponent=exponent
            )
            .image[..., 1]
            .astype(int)
        )

    inside = (slice(20, 45), slice(20, 45))
    assert green(0.0, 30)[inside].max() == 0
    dull, sharp = green(0.8, 5)[inside], green(0.8, 80)[inside]
    assert sharp.max() == pytest.approx(0.8 * 255, abs=6)
    assert np.unravel_index(sharp.argmax(), sharp.shape) == pytest.approx((12, 12), abs=2)
    assert (sharp > 100).sum() < 0.4 * (dull > 100).sum()


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
