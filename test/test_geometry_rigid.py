"""Rigid transforms and what is not one."""

import math

import numpy as np
import pytest

from nvs_ros.geometry import check_rigid, inverse, quaternion_from_rigid, rigid_from_quaternion


def test_quaternion_by_hand():
    half = math.sqrt(0.5)
    quarter_turn = rigid_from_quaternion([1, 2, 3], [0, 0, half, half], 'pose')
    expected = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    np.testing.assert_allclose(quarter_turn, expected, atol=1e-12)
    np.testing.assert_allclose(quaternion_from_rigid(quarter_turn), [0, 0, half, half])
    np.testing.assert_allclose(inverse(quarter_turn) @ quarter_turn, np.eye(4), atol=1e-12)


def test_rounding_is_repaired():
    transform = rigid_from_quaternion([0.1, 0.2, 0.3], [0.5, 0.5, 0.5, 0.5], 'pose')
    rounded = np.round(transform @ np.diag([1.0002, 1, 0.9999, 1]), 4)
    rotation = check_rigid(rounded, 'pose')[:3, :3]
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-14)


@pytest.mark.parametrize(
    ('matrix', 'message'),
    [
        (np.eye(3), '4x4 finite'),
        (np.full((4, 4), np.nan), '4x4 finite'),
        (np.diag([1, 1, 1.01, 1]), 'expected a rotation'),
        (np.diag([1, 1, -1, 1]), 'expected a rotation'),
        (np.diag([1e300, 1e300, -1e300, 1]), 'expected a rotation'),
        (np.zeros((4, 4)), 'last row'),
        (np.eye(4) + np.eye(4, k=-3), 'last row'),
    ],
)
def test_refuses_a_matrix(matrix, message):
    with pytest.raises(ValueError, match=f'camera_pose: .*{message}'):
        check_rigid(matrix, 'camera_pose')


@pytest.mark.parametrize(
    ('translation', 'quaternion', 'message'),
    [
        ([0, 0, 0], [0, 0, 0, 0], 'length 0'),
        ([0, 0, 0], [0, 0, 0, 2], 'length 2'),
        ([0, 0, 0], [0, 0, 0, math.nan], 'finite quaternion'),
        ([0, math.inf, 0], [0, 0, 0, 1], 'finite numbers as position'),
        ([0, 0], [0, 0, 0, 1], 'position'),
    ],
)
def test_refuses_numbers(translation, quaternion, message):
    with pytest.raises(ValueError, match=message):
        rigid_from_quaternion(translation, quaternion, 'object_pose')
