"""Frames whose mask, depth and picture disagree are brought to agree; others are left alone."""

import dataclasses

import numpy as np
import pytest

from nvs_ros.evaluation.tabletop import table_scene
from nvs_ros.evaluation.weather.kinds import Case, disturb
from nvs_ros.evaluation.weather.sight import take_sight
from nvs_ros.geometry import Spherical, rigid
from nvs_ros.geometry.occlusion import things_before
from nvs_ros.reconcile import reconcile
from nvs_ros.scenes.categories import make_object
from nvs_ros.scenes.mesh import lathe

SEED = (7, 3)


def sight_of(category):
    mesh = make_object(category, np.random.default_rng(3))
    return take_sight(mesh, Spherical(0.4, 0.4, 1.8), np.random.default_rng(1))


@pytest.fixture(scope='module')
def teapot():
    return sight_of('teapot')


def iou(mask, other):
    return (mask & other).sum() / (mask | other).sum()


@pytest.mark.parametrize('category', ['teapot', 'bowl', 'screwdriver', 'carton'])
def test_a_frame_that_agrees_is_left_as_it_is(category):
    sight = sight_of(category)
    frame, remarks = reconcile(sight.frame)
    assert remarks == () and frame is sight.frame


@pytest.mark.parametrize('kind', ['mask_eroded', 'mask_shifted', 'mask_holed'])
def test_a_wrong_mask_follows_depth_and_picture(teapot, kind):
    bad = disturb(teapot, Case(kind, 3), SEED)
    frame, remarks = reconcile(bad.frame)
    before, after = iou(bad.solid, teapot.solid), iou(frame.mask > 0, teapot.solid)
    assert after > before + 0.03 and after > 0.9
    assert 'corrected by the depth' in remarks[0] and frame.depth_m is bad.frame.depth_m


def test_another_object_that_stands_apart_goes_out_of_the_mask(teapot):
    bad = disturb(teapot, Case('mask_second', 3), (1, 2))
    frame, _ = reconcile(bad.frame)
    own = bad.drawn(bad.mesh)[1] > 0
    assert iou(bad.solid, own) < 0.7 < 0.97 < iou(frame.mask > 0, own)


def test_depth_of_another_moment_is_not_used(teapot):
    bad = disturb(teapot, Case('depth_stamp', 4), SEED)
    frame, remarks = reconcile(bad.frame)
    assert frame.depth_m is None and 'is not used' in remarks[0]
    np.testing.assert_array_equal(frame.mask, bad.frame.mask)


@pytest.mark.parametrize('category', ['teapot', 'hammer', 'lamp'])
def test_depth_is_used_although_the_up_axis_is_wrong(category):
    bad = disturb(sight_of(category), Case('pose_up', 5), SEED)
    frame, remarks = reconcile(bad.frame)
    assert remarks == () and frame is bad.frame


@pytest.mark.parametrize('level', [2, 5])
def test_what_stands_before_the_object_is_found(teapot, level):
    bad = disturb(teapot, Case('occlusion', level), SEED)
    frame, remarks = reconcile(bad.frame)
    occluder = np.abs(bad.frame.depth_m - teapot.frame.depth_m) > 1e-6
    assert iou(frame.unknown, occluder) > 0.9
    assert not (frame.unknown & bad.solid).any() and 'something hides' in remarks[-1]


def test_the_table_before_an_object_hides_nothing(teapot):
    frame = teapot.frame
    place = frame.camera, frame.object_from_camera, frame.depth_m, frame.object_size_m
    assert not things_before(teapot.solid, *place).any()


def test_the_middle_of_a_plate_on_a_table_stays_in_its_mask():
    """It is as low as the table, and a real sensor's depth cannot tell the two apart."""
    outline = [[0, 0], [0.3, 0], [0.5, 0.1], [0.49, 0.11], [0.29, 0.01], [0, 0.01]]
    plate = lathe(np.array(outline), np.tile([0.5, 0.05, 0.05], (5, 1)))
    rng = np.random.default_rng(2)
    frame = table_scene(plate, Spherical(0.4, 0.7, 1.8), rng, faults=True).frame
    found, _ = reconcile(frame)
    assert iou(found.mask > 0, frame.mask > 0) > 0.97


def test_labelled_things_and_what_stands_before_are_both_unknown(teapot):
    bad = disturb(teapot, Case('occlusion', 3), SEED).frame
    labelled = np.zeros(bad.mask.shape, bool)
    labelled[:20, :20] = True
    frame, _ = reconcile(dataclasses.replace(bad, unknown=labelled))
    alone, _ = reconcile(bad)
    np.testing.assert_array_equal(frame.unknown, labelled | alone.unknown)


@pytest.mark.parametrize('name', ['depth_m', 'unknown'])
def test_frames_of_two_sizes_are_refused(teapot, name):
    frame = dataclasses.replace(teapot.frame, **{name: np.ones((8, 8))})
    with pytest.raises(ValueError, match=rf'{name}: expected \(240, 320\) .* got \(8, 8\)'):
        reconcile(frame)


def test_an_object_as_flat_as_its_table_keeps_mask_and_depth(teapot):
    """Seen from above, all that is measured is one plane."""
    pose = rigid(np.diag([1.0, -1.0, -1.0]), [0.0, 0.0, 0.4])
    mask = np.zeros((240, 320), np.uint8)
    mask[90:150, 130:190] = 255
    depth = np.full((240, 320), 0.4, np.float32)
    flat = dataclasses.replace(
        teapot.frame, mask=mask, depth_m=depth, object_from_camera=pose, unknown=None
    )
    assert reconcile(flat) == (flat, ())


def test_without_depth_nothing_is_changed(teapot):
    frame = dataclasses.replace(teapot.frame, depth_m=None)
    assert reconcile(frame) == (frame, ())


def test_an_empty_mask_is_refused(teapot):
    empty = dataclasses.replace(teapot.frame, mask=np.zeros_like(teapot.frame.mask))
    with pytest.raises(ValueError, match='mask: expected some object pixels'):
        reconcile(empty)
