"""Viewpoints against hand-computed cases and against Zero-1-to-3's own formula."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nvs_ros.geometry import (
    Spherical,
    canonical_pose,
    inverse,
    look_at,
    pose_from_spherical,
    position_from_spherical,
    relative_pose,
    rigid,
    spherical_from_pose,
    spherical_from_position,
    upright_frame,
)


def vector_of_the_original(source, target):
    """Pose conditioning of two camera positions: polar angles from +z, azimuth by atan2."""
    polar = [math.acos(p[2] / np.linalg.norm(p)) for p in (source, target)]
    azimuth = [math.atan2(p[1], p[0]) for p in (source, target)]
    turned = (azimuth[1] - azimuth[0]) % (2 * math.pi)
    farther = np.linalg.norm(target) - np.linalg.norm(source)
    return [polar[1] - polar[0], math.sin(turned), math.cos(turned), farther]


def test_thousand_random_pairs_as_the_original_has_them():
    """Any place and heading of the object in the world, any roll and aim of the cameras."""
    random = np.random.default_rng(0)
    largest = 0.0
    for _ in range(1000):
        heading = Rotation.from_euler('z', random.uniform(-math.pi, math.pi))
        world_from_object = rigid(heading.as_matrix(), random.normal(size=3))
        size_m = random.uniform(0.05, 0.5)
        vectors, sphericals = [], []
        while len(vectors) < 2:
            direction = random.normal(size=3)
            direction /= np.linalg.norm(direction)
            if abs(direction[2]) > math.cos(math.radians(5)):
                continue
            position = size_m * random.uniform(1.2, 3) * direction
            object_from_camera = rigid(Rotation.random(None, random).as_matrix(), position)
            world_from_camera = world_from_object @ object_from_camera
            again = inverse(world_from_object) @ world_from_camera
            spherical = spherical_from_pose(again)
            sphericals.append(
                Spherical(spherical.azimuth_rad, spherical.elevation_rad, spherical.radius / size_m)
            )
            vectors.append(position / size_m)
        expected = vector_of_the_original(*vectors)
        largest = max(largest, np.abs(relative_pose(*sphericals).vector() - expected).max())
    assert largest < 1e-12


@pytest.mark.parametrize(
    ('position', 'azimuth_deg', 'elevation_deg', 'radius'),
    [
        ((2, 0, 0), 0, 0, 2),
        ((0, 3, 0), 90, 0, 3),
        ((-1, 0, 0), 180, 0, 1),
        ((0, -1, 1), -90, 45, math.sqrt(2)),
        ((0, 0, 1), 0, 90, 1),
        ((0, 0, -1), 0, -90, 1),
    ],
)
def test_position_both_ways(position, azimuth_deg, elevation_deg, radius):
    spherical = spherical_from_position(position)
    assert math.degrees(spherical.azimuth_rad) == pytest.approx(azimuth_deg)
    assert math.degrees(spherical.elevation_rad) == pytest.approx(elevation_deg)
    assert spherical.radius == pytest.approx(radius)
    np.testing.assert_allclose(position_from_spherical(spherical), position, atol=1e-12)


def test_look_at_by_hand():
    """From +x the camera looks along -x; its right is +y and down is -z."""
    np.testing.assert_allclose(
        look_at([2, 0, 0]), [[0, 0, -1, 2], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], atol=1e-15
    )


def test_signs_of_the_vector():
    source = Spherical(0.2, 0.1, 1.8)
    vector = relative_pose(source, Spherical(0.2 + math.pi / 2, 0.4, 2.0)).vector()
    np.testing.assert_allclose(vector, [-0.3, 1, 0, 0.2], atol=1e-12)
    np.testing.assert_array_equal(relative_pose(source, source).vector(), [0, 0, 1, 0])
    across = relative_pose(Spherical(3.0, 0, 1), Spherical(-3.0, 0, 1))
    assert across.delta_azimuth_rad == pytest.approx(2 * math.pi - 6)


@pytest.mark.parametrize('elevation_deg', [-95, -90, -88, -84, -30, 0, 60, 84, 86, 90, 93])
@pytest.mark.parametrize('azimuth', [-2.5, 0.0, 0.7, 3.0])
def test_pose_both_ways_over_the_poles(elevation_deg, azimuth):
    limit = max(-94.99, min(94.99, elevation_deg))
    spherical = Spherical(azimuth, math.radians(limit), 1.7)
    pose = pose_from_spherical(spherical)
    again = spherical_from_pose(pose)
    assert again.azimuth_rad == pytest.approx(azimuth, abs=1e-9)
    assert again.elevation_rad == pytest.approx(spherical.elevation_rad, abs=1e-9)
    assert again.radius == pytest.approx(1.7)
    np.testing.assert_allclose(canonical_pose(pose), pose, atol=1e-9)


@pytest.mark.parametrize('pole', [1, -1])
def test_straight_down_and_up_by_hand(pole):
    """The top of the picture towards -x above, +x below: a level camera on +x comes here."""
    up = np.array([-pole, 0.0, 0.0])
    spherical = spherical_from_pose(look_at([0, 0, 2.0 * pole], up))
    assert spherical.azimuth_rad == pytest.approx(0)
    assert math.degrees(spherical.elevation_rad) == pytest.approx(90 * pole)
    quarter = spherical_from_pose(look_at([0, 0, 2.0 * pole], np.array([0.0, -pole, 0.0])))
    assert quarter.azimuth_rad == pytest.approx(math.pi / 2)


def test_noise_at_the_pole_does_not_turn_the_picture():
    """A wrist camera that trembles by a degree keeps its azimuth and its canonical picture."""
    random = np.random.default_rng(4)
    still = look_at([0, 0, 0.5], [1.0, 0.2, 0])
    for _ in range(100):
        trembling = still.copy()
        trembling[:2, 3] += random.uniform(-0.009, 0.009, 2)
        moved = spherical_from_pose(trembling)
        assert moved.azimuth_rad == pytest.approx(spherical_from_pose(still).azimuth_rad, abs=0.02)
        turned = canonical_pose(trembling)[:3, :3].T @ canonical_pose(still)[:3, :3]
        assert math.degrees(Rotation.from_matrix(turned).magnitude()) < 2


def test_canonical_pose_looks_at_the_object_level():
    random = np.random.default_rng(5)
    for _ in range(50):
        pose = rigid(Rotation.random(None, random).as_matrix(), random.normal(size=3))
        canonical = canonical_pose(pose)
        np.testing.assert_array_equal(canonical[:3, 3], pose[:3, 3])
        centre = inverse(canonical)[:3, 3]
        np.testing.assert_allclose(centre[:2], 0, atol=1e-12)
        assert centre[2] > 0
        assert canonical[2, 0] == pytest.approx(0, abs=1e-12)
        assert canonical[2, 1] < 0, 'down in the picture is down in the world'


def test_upright_frame_keeps_centre_and_heading():
    tilted = Rotation.from_euler('ZX', [40, 25], degrees=True)
    reference_from_upright = upright_frame(rigid(tilted.as_matrix(), [1, 2, 3]))
    expected = Rotation.from_euler('z', 40, degrees=True).as_matrix()
    np.testing.assert_allclose(reference_from_upright[:3, :3], expected, atol=1e-12)
    np.testing.assert_array_equal(reference_from_upright[:3, 3], [1, 2, 3])
    level = rigid(Rotation.from_euler('z', -70, degrees=True).as_matrix(), [0, 0, 1])
    np.testing.assert_allclose(upright_frame(level), level, atol=1e-12)


def test_upright_frame_of_an_object_on_end_and_of_an_optical_reference():
    on_end = rigid([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], [0, 0, 0])
    upright = upright_frame(on_end)[:3, :3]
    np.testing.assert_allclose(upright, np.eye(3), atol=1e-12)
    in_optical = upright_frame(np.eye(4), up=[0, -1, 0])[:3, :3]
    np.testing.assert_allclose(in_optical[:, 2], [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(in_optical), 1)


@pytest.mark.parametrize('position', [[0, 0, 0], [math.nan, 0, 1], [math.inf, 0, 0]])
def test_look_at_refuses_a_camera_that_is_nowhere(position):
    with pytest.raises(ValueError, match='position: expected a finite point'):
        look_at(position)


def test_look_at_refuses_to_look_along_up():
    with pytest.raises(ValueError, match='across the line of sight'):
        look_at([0, 0, 1])


@pytest.mark.parametrize('up', [[0, 0, 0], [0, 1], [math.nan, 0, 1]])
def test_upright_frame_refuses_no_direction(up):
    with pytest.raises(ValueError, match='up: expected a direction'):
        upright_frame(np.eye(4), up)
