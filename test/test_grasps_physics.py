"""The physics of grasps, on shapes whose fate is known."""

import numpy as np
import pytest

pytest.importorskip('mujoco', reason="grasps are tried in MuJoCo: pip install 'nvs_ros[grasp]'")

from nvs_ros.evaluation.grasps.gripper import Grasp
from nvs_ros.evaluation.grasps.physics import World
from nvs_ros.geometry import rigid

FROM_ABOVE = np.diag([1.0, -1.0, -1.0])


def box(*sides_m):
    """Corners of a box on the plane z = 0."""
    signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [0, 2], indexing='ij'), -1).reshape(-1, 3)
    return signs * np.array(sides_m) / 2


def sphere(radius_m):
    """Points of a sphere on the plane z = 0."""
    index = np.arange(400) + 0.5
    polar, turn = np.arccos(1 - 2 * index / 400), np.pi * (1 + 5**0.5) * index
    ring = np.sin(polar)
    unit = np.column_stack([np.cos(turn) * ring, np.sin(turn) * ring, np.cos(polar)])
    return radius_m * unit + (0, 0, radius_m)


def above(x=0.0, y=0.0, z=0.015, opening_m=0.085, turn=FROM_ABOVE):
    """A grasp straight down, whose tips are at a height."""
    return Grasp(rigid(turn, (x, y, z)), opening_m, 0.05)


@pytest.mark.parametrize('side', [0.02, 0.05, 0.08])
def test_a_box_that_fits_is_lifted(side):
    outcome = World([box(side, 0.05, 0.05)]).attempt(above())
    assert outcome.success and not outcome.collided


def test_a_box_is_lifted_from_the_side_and_askew():
    """The hand comes level, along +y, and turned by 8 degrees about the vertical."""
    level = np.column_stack([(1, 0, 0), (0, 0, -1), (0, 1, 0)])
    c, s = np.cos(np.radians(8)), np.sin(np.radians(8))
    askew = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ FROM_ABOVE
    world = World([box(0.05, 0.05, 0.14)])
    assert world.attempt(above(y=0.01, z=0.08, turn=level)).what == 'held'
    assert world.attempt(above(z=0.1, turn=askew)).what == 'held'


def test_a_box_that_is_too_wide_stops_the_hand():
    outcome = World([box(0.12, 0.12, 0.05)]).attempt(above())
    assert outcome.what == 'blocked' and outcome.collided


def test_a_grasp_beside_the_box_holds_nothing():
    outcome = World([box(0.05, 0.05, 0.05)]).attempt(above(y=0.12))
    assert outcome.what == 'missed' and not outcome.collided


def test_a_sphere_is_held_in_the_middle_and_slips_beside_it():
    world = World([sphere(0.035)])
    assert world.attempt(above(z=0.025)).what == 'held'
    beside = world.attempt(above(y=0.025, z=0.025))
    assert not beside.success and not beside.collided


def test_a_hand_that_pushes_the_object_has_collided():
    """The left finger comes down inside the box's half of the way."""
    outcome = World([box(0.04, 0.04, 0.04)]).attempt(above(x=0.03, z=0.01, opening_m=0.06))
    assert outcome.collided


def test_a_long_bar_held_at_its_end_stays_on_the_table():
    world = World([box(0.06, 0.5, 0.06)])
    assert world.attempt(above(z=0.02)).what == 'held'
    assert world.attempt(above(y=0.23, z=0.02)).what == 'dropped'


def test_a_hollow_box_of_parts_is_held_by_its_rim():
    walls = [box(0.16, 0.006, 0.05) + (0, y, 0) for y in (-0.08, 0.08)]
    walls += [box(0.006, 0.16, 0.05) + (x, 0, 0) for x in (-0.08, 0.08)]
    world = World([*walls, box(0.16, 0.16, 0.004)])
    assert world.attempt(above(x=0.08, z=0.03, opening_m=0.04)).what == 'held'
    assert world.attempt(above(x=0.0, z=0.03, opening_m=0.04)).what == 'missed'


def test_the_same_grasp_has_the_same_outcome_whatever_came_before():
    world, other = World([sphere(0.03)]), World([sphere(0.03)])
    grasps = [above(y=y, z=0.02) for y in (0.0, 0.012, 0.018, 0.022)]
    first = [world.attempt(grasp).what for grasp in grasps]
    assert [other.attempt(grasp).what for grasp in reversed(grasps)] == first[::-1]


def test_what_does_not_stand_comes_to_rest():
    """A plate that was put on its edge, a little tilted, lies down."""
    turn = np.array([[1, 0, 0], [0, np.cos(1.4), -np.sin(1.4)], [0, np.sin(1.4), np.cos(1.4)]])
    world = World([box(0.1, 0.1, 0.01) @ turn.T])
    up = world.rest_from_object[:3, :3] @ turn
    assert abs(up[2, 2]) > 0.99
