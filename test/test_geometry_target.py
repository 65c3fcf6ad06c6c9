"""Cameras that are asked for: signs as seen in pictures, the way back, warnings and refusals."""

import dataclasses
import math

import cv2
import numpy as np
import pytest
from analytic_renderer import Lens, Solid, render

from nvs_ros.geometry import (
    Camera,
    TrainedRange,
    canonical_view,
    look_at,
    orbit,
    photograph_view,
    spherical_from_pose,
    target_from_angles,
    target_from_pose,
)

RED, GREEN, BLUE = np.eye(3) * 255
CAMERA = Camera(160, 120, [[150, 0, 79.5], [0, 150, 59.5], [0, 0, 1]])


class Block(Solid):
    """A cube whose +x side is red, +y side green, upper side blue, the others black."""

    def colour(self, points):
        sides = points / np.array(self.half_m) > 1 - 1e-9
        return sides[:, :1] * RED + sides[:, 1:2] * GREEN + sides[:, 2:] * BLUE


CUBE = Block((0.1, 0.1, 0.1))


def lens(camera):
    return Lens(camera.width, camera.height, camera.matrix, camera.distortion)


def source_at(position=(0.36, 0, 0), size_m=0.2, image_size=64):
    pose = look_at(position)
    picture = render(CUBE, lens(CAMERA), pose)
    return canonical_view(
        picture.image, picture.mask, CAMERA, pose, object_size_m=size_m, image_size=image_size
    )


def picture_at(target):
    """What the network should make for this target."""
    return render(CUBE, lens(target.canonical_camera), target.object_from_canonical)


def shares(image):
    """How many pixels are mainly red, green, blue."""
    others = np.sort(image, axis=-1)[..., 1:2]
    return ((image > 128) & (others < 100)).sum(axis=(0, 1))


def test_positive_azimuth_moves_the_camera_to_its_right():
    """From the red side, whose right neighbour is green: going right shows green, on the right."""
    source = source_at()
    assert shares(source.image)[0] > 0.99 * shares(source.image).sum()
    right = picture_at(target_from_angles(source, math.radians(50), 0)).image
    left = picture_at(target_from_angles(source, math.radians(-50), 0)).image
    red, green, _ = shares(right)
    assert green > red > 0
    assert shares(left)[1] == 0
    columns = [np.nonzero(right[..., i] > 128)[1].mean() for i in (0, 1)]
    assert columns[1] > columns[0]


def test_positive_elevation_moves_the_camera_up():
    source = source_at()
    above = picture_at(target_from_angles(source, 0, math.radians(40))).image
    below = picture_at(target_from_angles(source, 0, math.radians(-40))).image
    assert shares(above)[2] > 0.3 * shares(above)[0]
    assert shares(below)[2] == 0
    rows = [np.nonzero(above[..., i] > 128)[0].mean() for i in (0, 2)]
    assert rows[1] < rows[0], 'the upper side is above'
    relative = target_from_angles(source, 0, math.radians(40)).relative
    assert relative.delta_polar_rad == pytest.approx(-math.radians(40))


def test_positive_distance_moves_the_camera_away():
    source = source_at()
    farther = target_from_angles(source, 0, 0, 0.1)
    assert picture_at(farther).mask.sum() < 0.8 * source.mask.sum()
    assert farther.relative.delta_radius == pytest.approx(0.1 / 0.2)


def test_straight_above_right_and_down_mean_what_the_picture_shows():
    """The picture's up is -x here: lowering the camera comes down on +x, the red side."""
    pose = look_at([0.004, 0.008, 0.4], [-1.0, 0.0, 0])
    picture = render(CUBE, lens(CAMERA), pose)
    source = canonical_view(
        picture.image, picture.mask, CAMERA, pose, object_size_m=0.2, image_size=64
    )
    lowered = target_from_angles(source, 0, math.radians(-60))
    assert shares(picture_at(lowered).image)[0] > 100
    assert lowered.relative.delta_polar_rad == pytest.approx(math.radians(60), abs=0.01)
    assert lowered.relative.delta_azimuth_rad == pytest.approx(0, abs=0.03)
    beside = target_from_angles(source, math.radians(90), math.radians(-60))
    assert shares(picture_at(beside).image)[1] > 100
    same = target_from_angles(source, 0, 0)
    np.testing.assert_allclose(same.object_from_camera, source.object_from_camera, atol=1e-12)
    np.testing.assert_allclose(same.relative.vector(), [0, 0, 1, 0], atol=1e-12)


def test_angles_and_pose_are_the_same_request():
    source = source_at((0.3, 0.1, 0.15))
    by_angles = target_from_angles(source, 1.0, -0.3, 0.05)
    by_pose = target_from_pose(source, CAMERA, by_angles.object_from_camera)
    np.testing.assert_allclose(by_pose.relative.vector(), by_angles.relative.vector(), atol=1e-12)
    np.testing.assert_allclose(
        by_angles.relative.vector(), [0.3, math.sin(1), math.cos(1), 0.25], atol=1e-12
    )
    asked = spherical_from_pose(by_angles.object_from_camera)
    assert asked.elevation_rad == pytest.approx(source.spherical.elevation_rad - 0.3)
    assert asked.radius == pytest.approx(0.4)


def test_zoomed_source_scales_the_change_of_distance():
    """Five sizes away, shown as 1.85: twice the distance is one more 1.85."""
    source = source_at((1.0, 0, 0))
    assert source.radius == pytest.approx(1.85)
    target = target_from_angles(source, 0, 0, 1.0)
    assert target.relative.delta_radius == pytest.approx(1.85)
    assert target.canonical_camera is source.camera
    assert any('distance changes by +1.85' in text for text in target.warnings)


def test_canonical_picture_comes_back_untouched():
    source = source_at()
    target = target_from_angles(source, 0.5, 0.2)
    image, mask = target.warp_back(source.image, source.mask)
    np.testing.assert_array_equal(image, source.image)
    np.testing.assert_array_equal(mask, source.mask)


def test_rolled_canonical_camera_is_rolled():
    """A quarter turn of the camera about its axis turns the picture exactly, back the other way."""
    source = source_at((0.3, 0.1, 0.15))
    pose = source.object_from_camera.copy()
    pose[:3, :3] = pose[:3, :3] @ [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    target = target_from_pose(source, source.camera, pose)
    image, mask = target.warp_back(source.image, source.mask)
    np.testing.assert_array_equal(image, np.rot90(source.image))
    np.testing.assert_array_equal(mask, np.rot90(source.mask))


def test_outside_the_networks_picture_is_white_and_no_object():
    source = source_at()
    wide = Camera(200, 200, [[40, 0, 99.5], [0, 40, 99.5], [0, 0, 1]], (0.02, 0, 0, 0))
    pose = source.object_from_camera
    grey = np.full((64, 64, 3), 100, np.uint8)
    image, mask = target_from_pose(source, wide, pose).warp_back(
        grey, np.full((64, 64), 255, np.uint8)
    )
    assert (image[:60] == 255).all()
    assert (mask[:60] == 0).all()
    assert (mask[95:105, 95:105] == 255).all()
    assert (image[95:105, 95:105] == 100).all()


@pytest.mark.parametrize('model', ['plumb_bob', 'equidistant'])
def test_large_asked_picture_has_no_seams(model):
    """Drawn in bands: equal to a part of it drawn alone."""
    source = source_at(image_size=128)
    distortion = (-0.1, 0.02, 0, 0)
    matrix = np.array([[1200.0, 0, 799.5], [0, 1200, 599.5], [0, 0, 1]])
    whole = Camera(1600, 1200, matrix, distortion, model)
    matrix[:2, 2] -= 600, 500
    part = Camera(400, 300, matrix, distortion, model)
    pose = source.object_from_camera
    drawn = [
        target_from_pose(source, camera, pose).warp_back(source.image, source.mask)
        for camera in (whole, part)
    ]
    for large, small in zip(*drawn, strict=True):
        assert np.abs(large[500:800, 600:1000].astype(int) - small).max() <= 1


def test_picture_with_a_folding_lens_is_white_beyond():
    """r (1 - 0.3 r^2) never gets beyond 0.703: the corners of this picture see nothing."""
    source = source_at()
    camera = Camera(200, 200, [[100, 0, 99.5], [0, 100, 99.5], [0, 0, 1]], (-0.3, 0, 0, 0))
    grey, full = np.full((64, 64, 3), 100, np.uint8), np.full((64, 64), 255, np.uint8)
    pose = source.object_from_camera.copy()
    pose[:3, :3] = pose[:3, :3] @ cv2.Rodrigues(np.array([0.3, -0.3, 0]))[0]
    image, mask = target_from_pose(source, camera, pose).warp_back(grey, full)
    y, x = np.mgrid[:200, :200]
    beyond = np.hypot(x - 99.5, y - 99.5) > 71
    assert (mask[beyond] == 0).all()
    assert (image[beyond] == 255).all()
    assert mask.any()


def test_object_has_no_ghost_behind_a_wide_camera():
    """Aimed 70 degrees away, 160 degrees wide: rays opposite to the object mirror it."""
    source = source_at()
    wide = Camera(601, 301, [[50, 0, 300], [0, 50, 150], [0, 0, 1]])
    pose = source.object_from_camera.copy()
    pose[:3, :3] = pose[:3, :3] @ cv2.Rodrigues(np.array([0, math.radians(70), 0]))[0]
    grey, full = np.full((64, 64, 3), 100, np.uint8), np.full((64, 64), 255, np.uint8)
    image, mask = target_from_pose(source, wide, pose).warp_back(grey, full)
    assert mask[:, :300].any()
    assert not mask[:, 300:].any()
    assert (image[:, 300:] == 255).all()


def test_warnings_of_range():
    source = source_at()
    assert target_from_angles(source, 0.5, 0.3).warnings == ()
    assert 'elevation 75 degrees' in target_from_angles(source, 0, math.radians(75)).warnings[0]
    near = target_from_angles(source, 0, 0, -0.2).warnings
    assert any('distance changes by -1.00' in text for text in near)
    assert any('larger than the picture of the network' in text for text in near)
    narrow = dataclasses.replace(source, trained=TrainedRange((1.7, 1.8), (0.0, 0.2)))
    assert len(target_from_angles(narrow, 0, 0.3, 0.05).warnings) == 2


@pytest.mark.parametrize(
    ('radius', 'elevation', 'name'), [((2.0, 1.0), (0, 1), 'radius'), ((1, 2), (1, 0), 'elevation')]
)
def test_a_reversed_range_is_refused(radius, elevation, name):
    with pytest.raises(ValueError, match=name):
        TrainedRange(radius, elevation)


def test_warnings_of_aim():
    source = source_at()
    pose = source.object_from_camera.copy()
    texts = []
    for turn in (0.1, 0.4, 0.9):
        pose[:3, :3] = source.object_from_camera[:3, :3] @ cv2.Rodrigues(np.array([0, turn, 0]))[0]
        texts.append(' '.join(target_from_pose(source, CAMERA, pose).warnings))
    assert texts[0] == ''
    assert 'part of the object is outside' in texts[1]
    assert 'object is not in the picture' in texts[2]


def test_an_object_that_fills_the_picture_is_in_it():
    (*_, text) = target_from_angles(source_at(), 0, 0, -0.22).warnings
    assert 'part of the object is outside' in text


def test_warning_of_a_network_picture_that_is_cut():
    target = target_from_angles(source_at(), 0.5, 0)
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 255
    assert target.picture_warnings(mask) == ()
    mask[30, 63] = 200
    assert 'cut off' in target.picture_warnings(mask)[0]
    assert 'no object' in target.picture_warnings(np.zeros_like(mask))[0]


@pytest.mark.parametrize(
    ('pose', 'message'),
    [
        (look_at([0.05, 0.02, 0]), 'camera outside the object of 0.2 m'),
        (np.eye(4), 'camera outside the object'),
        (
            look_at([0.4, 0, 0]) @ np.diag([-1, 1, -1, 1]),
            'object before the camera, got one behind',
        ),
        (np.full((4, 4), np.nan), '4x4 finite'),
        (np.diag([1, 1, 2, 1]), 'expected a rotation'),
        (np.eye(3), '4x4'),
    ],
)
def test_refuses_a_pose(pose, message):
    with pytest.raises(ValueError, match=f'object_from_camera: .*{message}'):
        target_from_pose(source_at(), CAMERA, pose)


@pytest.mark.parametrize(
    ('angles', 'message'),
    [
        ((math.nan, 0, 0), 'finite'),
        ((0, math.inf, 0), 'finite'),
        ((0, math.radians(100), 0), 'elevation_rad: expected a viewpoint between'),
        ((0, 0, -0.3), 'distance_m: expected a camera outside'),
        ((0, 0, -0.5), 'distance_m: expected a camera outside'),
    ],
)
def test_refuses_angles(angles, message):
    with pytest.raises(ValueError, match=message):
        target_from_angles(source_at(), *angles)


def test_refuses_a_picture_that_nobody_can_hold():
    huge = Camera(30000, 30000, [[1e4, 0, 1e4], [0, 1e4, 1e4], [0, 0, 1]])
    with pytest.raises(ValueError, match='at most 16777216 pixels'):
        target_from_angles(source_at(), 0, 0, camera=huge)


@pytest.mark.parametrize('shape', [(32, 32), (64, 65)])
def test_warp_back_refuses_another_size(shape):
    target = target_from_angles(source_at(), 0, 0.1)
    with pytest.raises(ValueError, match=r'image: expected uint8 \(64, 64, 3\)'):
        target.warp_back(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8))


def test_orbit_goes_round_evenly():
    viewpoints = orbit(8, elevation_rad=0.2, distance_m=0.1)
    degrees = [round(math.degrees(v.azimuth_rad)) for v in viewpoints]
    assert degrees == [0, 45, 90, 135, 180, -135, -90, -45]
    assert all((v.elevation_rad, v.distance_m) == (0.2, 0.1) for v in viewpoints)
    assert math.degrees(orbit(1, start_rad=math.radians(30))[0].azimuth_rad) == pytest.approx(30)
    with pytest.raises(ValueError, match='count'):
        orbit(0)


def test_targets_of_a_photograph():
    image, mask = np.full((60, 60, 3), 9, np.uint8), np.zeros((60, 60), bool)
    mask[20:40, 20:40] = True
    source = photograph_view(image, mask, image_size=64, elevation_rad=0.3)
    target = target_from_angles(source, math.radians(60), math.radians(-10), 0.2)
    expected = [math.radians(10), math.sin(math.pi / 3), 0.5, 0.2]
    np.testing.assert_allclose(target.relative.vector(), expected, atol=1e-12)
