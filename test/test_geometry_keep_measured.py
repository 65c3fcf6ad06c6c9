"""Measured pixels in finished views, of a solid whose every true view is known."""

import numpy as np
import pytest
from analytic_renderer import Lens, Solid, render

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.canonical import canonical_view
from nvs_ros.geometry.guide import Measurement
from nvs_ros.geometry.keep_measured import clear_empty, keep_measured
from nvs_ros.geometry.measured import Surface
from nvs_ros.geometry.rigid import rigid
from nvs_ros.geometry.spherical import Spherical, look_at, pose_from_spherical
from nvs_ros.geometry.target import target_from_angles, target_from_pose

BOX = Solid((0.1, 0.07, 0.05), 'box', seed=1)
LENS = Lens(640, 480, np.array([[700.0, 0, 330], [0, 702.0, 235], [0, 0, 1]]))
SOURCE = pose_from_spherical(Spherical(0.4, 0.5, 0.36))
PURPLE = (180, 0, 200)


@pytest.fixture(scope='module')
def seen():
    picture = render(BOX, LENS, SOURCE)
    camera = Camera(LENS.width, LENS.height, LENS.matrix)
    source = canonical_view(
        picture.image, picture.mask, camera, SOURCE, object_size_m=BOX.size_m, image_size=64
    )
    solid = picture.mask >= 128
    measurement = Measurement.of_picture(
        picture.image, solid, camera, SOURCE, BOX.size_m, picture.depth_m
    )
    return source, measurement.surface


def imagined(camera):
    """A view that has nothing of the object: all purple, all covered."""
    shape = camera.height, camera.width
    return np.broadcast_to(np.uint8(PURPLE), (*shape, 3)).copy(), np.full(shape, 255, np.uint8)


def error_where_measured(image, measured, camera, pose):
    lens = Lens(camera.width, camera.height, camera.matrix, camera.distortion)
    true = render(BOX, lens, pose)
    sure = (measured == 255) & (true.mask == 255)
    assert (measured == 255)[true.mask == 0].sum() == 0
    return np.abs(image[sure].astype(float) - true.image[sure]), sure.sum() / (true.mask > 0).sum()


def test_the_own_picture_shows_what_was_measured(seen):
    source, surface = seen
    target = target_from_angles(source, 0.4, 0.1)
    image, mask, measured = keep_measured(*imagined(target.camera), surface, target)
    error, share = error_where_measured(
        image, measured, target.camera, target.object_from_canonical
    )
    assert share > 0.6
    assert np.median(error) < 3 and np.percentile(error, 95) < 12
    untouched = measured == 0
    assert untouched.any() and (image[untouched] == PURPLE).all()
    assert (mask >= measured).all()


@pytest.mark.parametrize('kind', ['pinhole', 'distorted', 'rolled and aimed elsewhere'])
def test_any_camera_gets_the_resolution_that_was_measured(seen, kind):
    """640 x 480 from a network of 64 pixels: sharp where the robot has seen."""
    source, surface = seen
    pose = look_at(1.05 * target_from_angles(source, 0.4, 0.1).object_from_camera[:3, 3])
    distortion = (-0.2, 0.05, 0.002, -0.001, 0.0) if kind == 'distorted' else ()
    camera = Camera(640, 480, LENS.matrix, distortion)
    if kind.startswith('rolled'):
        c, s, tilt = np.cos(0.5), np.sin(0.5), 0.12
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ [
            [1, 0, 0],
            [0, np.cos(tilt), -np.sin(tilt)],
            [0, np.sin(tilt), np.cos(tilt)],
        ]
        pose = pose @ rigid(turn, np.zeros(3))
    target = target_from_pose(source, camera, pose)
    image, _, measured = keep_measured(*imagined(camera), surface, target)
    error, share = error_where_measured(image, measured, camera, pose)
    assert share > 0.6
    assert np.median(error) < 3 and np.percentile(error, 95) < 10


def test_the_border_is_a_blend(seen):
    source, surface = seen
    target = target_from_angles(source, 0.4, 0.1)
    _, _, measured = keep_measured(*imagined(target.camera), surface, target)
    assert ((measured > 0) & (measured < 255)).any()


def test_from_behind_nothing_was_measured(seen):
    source, surface = seen
    target = target_from_angles(source, np.pi, -1.0)
    given = imagined(target.camera)
    image, mask, measured = keep_measured(*given, surface, target)
    assert not measured.any() and image is given[0] and mask is given[1]


def test_without_depth_the_view_is_left_alone(seen):
    target = target_from_angles(seen[0], 0.4, 0.1)
    given = imagined(target.camera)
    image, _, measured = keep_measured(*given, Surface.nothing(), target)
    assert image is given[0] and not measured.any()


@pytest.mark.parametrize('depth', [True, False])
@pytest.mark.parametrize('azimuth', [0.0, 0.7, 2.0, 3.1])
def test_empty_space_is_cleared_and_the_object_is_not(azimuth, depth):
    picture = render(BOX, LENS, SOURCE)
    camera = Camera(LENS.width, LENS.height, LENS.matrix)
    solid = picture.mask >= 128
    source = canonical_view(
        picture.image, picture.mask, camera, SOURCE, object_size_m=BOX.size_m, image_size=64
    )
    measurement = Measurement.of_picture(
        picture.image, solid, camera, SOURCE, BOX.size_m, picture.depth_m if depth else None
    )
    target = target_from_angles(source, azimuth, 0.1)
    own = target.canonical_camera
    image, mask = clear_empty(*imagined(own), measurement, target)
    true = render(BOX, Lens(own.width, own.height, own.matrix), target.object_from_canonical)
    solid = true.mask >= 128
    assert (image[solid] == PURPLE).all() and (mask[solid] == 255).all()
    empty = mask == 0
    assert (image[empty] == 255).all() and (image[~empty] == PURPLE).all()
    assert empty.sum() > 100


def test_who_saw_no_empty_space_takes_nothing(seen):
    target = target_from_angles(seen[0], 0.4, 0.1)
    before = imagined(target.canonical_camera)
    after = clear_empty(*before, Measurement.nothing(), target)
    assert all((a == b).all() for a, b in zip(after, before, strict=True))
