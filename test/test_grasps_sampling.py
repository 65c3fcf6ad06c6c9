"""Grasps looked for on clouds of shapes whose grasps are known."""

import numpy as np
import pytest

from nvs_ros.evaluation.grasps.conditions import Conditions
from nvs_ros.evaluation.grasps.contacts import CLEARANCE_M, contacts_of
from nvs_ros.evaluation.grasps.gripper import Gripper
from nvs_ros.evaluation.grasps.points import Points
from nvs_ros.evaluation.grasps.ranking import Ranking, find_grasps
from nvs_ros.evaluation.grasps.reach import CONE_DEG, Reach
from nvs_ros.evaluation.grasps.sampling import antipodal_pairs, approaches

FROM_ABOVE = np.diag([1.0, -1.0, -1.0])


def box(*sides_m, spacing_m=0.003, without=()):
    """Points of the faces of a box on the plane z = 0; ``without`` some, such as ``'+z'``."""
    places, normals = [], []
    for axis in range(3):
        others = [
            np.arange(-s / 2, s / 2 + 1e-9, spacing_m) for i, s in enumerate(sides_m) if i != axis
        ]
        for sign in (-1, 1):
            if f'{"-+"[sign > 0]}{"xyz"[axis]}' in without:
                continue
            face = np.stack(np.meshgrid(*others, indexing='ij'), -1).reshape(-1, 2)
            face = np.insert(face, axis, sign * sides_m[axis] / 2, axis=1)
            places.append(face + (0, 0, sides_m[2] / 2))
            normals.append(np.tile(np.eye(3)[axis] * sign, (len(face), 1)))
    return Points.measured(np.concatenate(places), np.concatenate(normals))


def closing(grasp):
    return np.abs(grasp.object_from_grasp[:3, 0])


def test_pairs_lie_on_opposite_faces_that_the_fingers_span():
    middles, lines = antipodal_pairs(box(0.05, 0.12, 0.12), Gripper(), np.random.default_rng(0))
    assert len(middles) > 100
    assert np.abs(middles[:, 0]).max() < 0.003 and (np.abs(lines[:, 0]) > 0.049).all()
    wide, _ = antipodal_pairs(box(0.12, 0.12, 0.12), Gripper(), np.random.default_rng(0))
    assert not len(wide)


def test_ways_to_come_are_rotations_about_the_axis():
    axis = np.array([0.6, 0.0, 0.8])
    turns = approaches(axis, 8)
    assert np.allclose(np.linalg.det(turns), 1)
    assert np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3))
    assert np.allclose(turns[:, :, 0], axis)
    assert turns[0, 2, 2] == turns[:, 2, 2].min() == pytest.approx(-0.6)
    assert np.isfinite(approaches(np.array([0, 0, 1.0]))).all()


def test_the_best_grasp_of_a_box_is_across_its_middle():
    grasps = find_grasps(box(0.05, 0.12, 0.06), table_m=0.0)
    assert len(grasps) == 5
    best = grasps[0]
    assert closing(best)[0] > 0.95
    assert best.width_m == pytest.approx(0.05, abs=0.006)
    assert abs(best.object_from_grasp[0, 3]) < 0.005 and abs(best.object_from_grasp[1, 3]) < 0.03
    assert [g.score for g in grasps] == sorted((g.score for g in grasps), reverse=True)


def test_what_is_too_wide_has_no_grasp():
    assert find_grasps(box(0.12, 0.12, 0.12), table_m=0.0) == []


def test_what_may_be_wider_than_it_looks_has_to_fit_still():
    """7.5 of 8.1 cm; a tenth of 12 cm is 1.2 cm."""
    bar = box(0.075, 0.12, 0.06)
    imagined = Points(bar.places, bar.normals, bar.confidence, (bar.places[:, 0] > 0) * 1.0)
    for points, margin, found in ((imagined, 0.0, 1), (imagined, 0.1, 0), (bar, 0.1, 1)):
        grasps = find_grasps(points, table_m=0.0, count=1, ranking=Ranking(margin=margin))
        assert len([g for g in grasps if g.width_m > 0.07]) == found
    with pytest.raises(ValueError, match='margin: expected a share of at least 0, got -1'):
        Ranking(margin=-1)


def test_one_face_has_no_grasp():
    faces = '-x', '+x', '-y', '+y', '-z'
    assert find_grasps(box(0.05, 0.05, 0.05, without=faces), table_m=0.0) == []


def test_the_hand_keeps_above_the_table():
    """A flat box can be held from above and not from the side, unless there is no table.

    On the table the hand is moved back a little: pads in the middle of it would be too low.
    """
    flat = box(0.05, 0.05, 0.016)
    down = [g.object_from_grasp[2, 2] for g in find_grasps(flat, table_m=0.0, count=20)]
    assert down and max(down) < -0.45
    tips = [g.object_from_grasp[2, 3] for g in find_grasps(flat, table_m=0.0, count=20)]
    assert min(tips) > CLEARANCE_M - 1e-9
    level = [g.object_from_grasp[2, 2] for g in find_grasps(flat, count=20)]
    assert max(level) > -0.1


def test_the_hand_comes_only_as_the_arm_can_reach():
    """A post 4 cm thick is held from all sides; the arm is above it, or where the camera is."""
    post, camera = box(0.04, 0.04, 0.12), np.array([-0.3, 0.0, 0.2])

    def off_deg(approach, direction):
        reach = Reach.of(Conditions(approach=approach), camera)
        grasps = find_grasps(post, table_m=0.0, count=50, reach=reach)
        ways = np.array([g.object_from_grasp[:3, 2] for g in grasps])
        return np.degrees(np.arccos(ways @ np.array(direction) / np.linalg.norm(direction)))

    for approach, direction in (('above', (0, 0, -1)), ('front', -camera)):
        assert off_deg('any', direction).max() > CONE_DEG + 20
        assert off_deg(approach, direction).max() < CONE_DEG + 1e-3


def contacts_from_above(points, z, middle=(0.0, 0.0), table_m=-np.inf):
    at = np.array([*middle, z])
    return contacts_of(points, Gripper(), at, 0.04, FROM_ABOVE[None], table_m)


def test_the_gripper_is_centred_on_what_it_closes_on():
    contacts = contacts_from_above(box(0.04, 0.04, 0.06), 0.05, (0.008, 0.0))
    assert contacts.object_from_grasp[0, :3, 3] == pytest.approx([0, 0, 0.04], abs=1e-9)
    assert contacts.width_m[0] == pytest.approx(0.04)
    assert contacts.opening_m[0] == pytest.approx(0.064)
    assert contacts.cosine[0] == contacts.skew[0] == pytest.approx(1)


def test_a_finger_does_not_come_down_on_something():
    """Beside the box stands a wall, just where the finger would be, then farther off."""
    for gap, fits in ((0.013, 0), (0.05, 1)):
        wall = box(0.006, 0.06, 0.06)
        wall = Points.measured(wall.places + (0.02 + gap + 0.003, 0, 0), wall.normals)
        assert len(contacts_from_above(box(0.04, 0.04, 0.06) + wall, 0.05).width_m) == fits


def test_the_palm_does_not_either():
    """The pads would be 7 cm below the top of the box, the palm in it."""
    tall = box(0.04, 0.04, 0.1)
    assert len(contacts_from_above(tall, 0.07).width_m) == 1
    assert len(contacts_from_above(tall, 0.03).width_m) == 0


def test_the_rim_of_a_hollow_box_is_held_between_its_sides():
    outer = box(0.2, 0.2, 0.06, without=('+z',))
    inner = box(0.19, 0.19, 0.06, without=('+z',))
    hollow = outer + Points.measured(inner.places + (0, 0, 0.005), -inner.normals)
    grasps = find_grasps(hollow, table_m=0.0)
    assert grasps
    for grasp in grasps:
        assert grasp.width_m < 0.012 and grasp.object_from_grasp[2, 3] > 0.02


def test_trust_decides_between_equal_places():
    """A long bar whose one half is imagined: it is held in the other when trust counts."""
    bar = box(0.03, 0.3, 0.03)
    imagined = bar.places[:, 1] > 0
    bar = Points(bar.places, bar.normals, np.where(imagined, 0.3, 1.0), imagined.astype(float))
    aside = {}
    for weight in (0.0, 3.0):
        ranking = Ranking(centre=0.0, confidence=weight)
        grasps = find_grasps(bar, table_m=0.0, count=10, ranking=ranking)
        aside[weight] = [g.object_from_grasp[1, 3] for g in grasps]
    assert max(aside[3.0]) < 0.012 < max(aside[0.0])
    best = find_grasps(bar, table_m=0.0, ranking=Ranking(centre=0.0, measured=2.0))[0]
    assert best.confidence > 0.95 and best.synthetic < 0.05


def test_thin_walls_keep_both_sides():
    sheet = box(0.05, 0.001, 0.05, spacing_m=0.001)
    thin = sheet.thinned(0.004)
    assert 200 < len(thin) < len(sheet) / 4
    assert np.abs(np.abs(thin.normals).max(1) - 1).max() < 1e-9
    assert {
        tuple(np.sign(n).astype(int)) for n in thin.normals[np.abs(thin.normals[:, 1]) > 0.9]
    } == {
        (0, 1, 0),
        (0, -1, 0),
    }


def test_the_same_seed_finds_the_same_grasps_and_few_points_none():
    points = box(0.05, 0.12, 0.06)
    one, other = (find_grasps(points, rng=np.random.default_rng(3))[0] for _ in range(2))
    assert np.array_equal(one.object_from_grasp, other.object_from_grasp)
    assert find_grasps(points[:1]) == [] and find_grasps(points[:0]) == []


def test_points_that_are_none_are_refused():
    points = box(0.05, 0.05, 0.05)
    points.places[3] = np.nan
    with pytest.raises(ValueError, match='expected finite places'):
        find_grasps(points)
    with pytest.raises(ValueError, match='normals: expected 2 of them, got 1'):
        Points(np.zeros((2, 3)), np.zeros((1, 3)), np.ones(2), np.zeros(2))
