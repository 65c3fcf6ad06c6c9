"""The soft hull against shapes that are known."""

import dataclasses

import cv2
import numpy as np
import pytest
from completion_scene import SIZE_M, Seen, box, cup, sphere

from nvs_ros.completion.hull import SURFACE, Grid, carve, look_up, transformed
from nvs_ros.geometry import Spherical, inverse

GRID = Grid(SIZE_M, 48)
HIGH, LOW = Spherical(0.0, np.radians(60), 0.36), Spherical(0.0, np.radians(-30), 0.36)


def inside_sphere(centres):
    return np.linalg.norm(centres, axis=1) <= SIZE_M / 2


def inside_box(centres):
    return (np.abs(centres) <= np.array([0.1, 0.06, 0.08])).all(1)


def carved(seen, confidence=1.0, depth=True):
    frame = seen.frame if depth else dataclasses.replace(seen.frame, depth_m=None)
    confidences = [confidence] * len(seen.estimates)
    return carve(GRID, [frame], seen.estimates, confidences)


def iou(occupancy, inside):
    made, truth = occupancy.ravel() >= SURFACE, inside(GRID.centres)
    return (made & truth).sum() / (made | truth).sum()


@pytest.mark.parametrize(('shape', 'inside'), [(sphere, inside_sphere), (box, inside_box)])
def test_true_silhouettes_from_all_round_carve_the_true_shape(shape, inside):
    mesh = shape()
    seen = Seen(mesh)
    seen.estimates += Seen(mesh, source=HIGH).estimates + Seen(mesh, source=LOW).estimates
    assert iou(carved(seen), inside) > 0.83
    assert iou(carved(seen, depth=False), inside) > 0.8


def test_the_volume_is_metric():
    seen = Seen(sphere(), source=Spherical(0.0, 0.0, 0.36))
    seen.estimates += Seen(sphere(), source=HIGH).estimates + Seen(sphere(), source=LOW).estimates
    volume_m3 = (carved(seen) >= SURFACE).sum() * GRID.cell_m**3
    assert volume_m3 == pytest.approx(np.pi / 6 * SIZE_M**3, rel=0.12)


def test_nothing_is_left_where_the_measured_picture_shows_nothing():
    """Even if all views put the object there."""
    full = lambda image, mask: (image, np.full_like(mask, 255))  # noqa: E731
    seen = Seen(sphere(), azimuths_rad=())
    seen.estimates = [seen.estimate(azimuth, full) for azimuth in (1.0, 2.0, 3.0)]
    occupancy = carved(seen, depth=False)
    frame = seen.frame
    coverage = frame.mask.astype(np.float32) / 255
    shown = look_up(coverage, frame.camera, frame.object_from_camera, GRID.centres)
    assert not occupancy.ravel()[shown == 0].any()
    middle = np.linalg.norm(GRID.centres, axis=1) < 0.4 * SIZE_M
    assert occupancy.ravel()[middle].min() == 1


def test_measured_depth_takes_away_what_lies_before_it():
    seen = Seen(box(), azimuths_rad=(), source=Spherical(0.0, 0.0, 0.36))
    x = GRID.centres[:, 0]
    assert (x[carved(seen, depth=False).ravel() >= SURFACE]).max() > 0.12
    # The camera stands at +x, so the face that it sees is at x = 0.1.
    assert x[carved(seen).ravel() >= SURFACE].max() == pytest.approx(0.1, abs=GRID.cell_m)


def test_the_inside_of_a_cup_that_depth_looks_into_stays_open():
    """Outlines alone fill it, whatever the views; depth carves all that it sees to be empty."""
    seen = Seen(cup(), source=Spherical(0.0, np.radians(50), 0.36))
    x, y, z = GRID.centres.T
    # A cell and a half off the walls.
    hollow = (np.hypot(x, y) < 0.08 - 1.5 * GRID.cell_m) & (z > -0.04 + 1.5 * GRID.cell_m)
    hollow &= z < 0.05 - 1.5 * GRID.cell_m
    frame = seen.frame
    pose, camera = frame.object_from_camera, frame.camera
    surface = look_up(frame.depth_m, camera, pose, GRID.centres, cv2.INTER_NEAREST)
    away = transformed(inverse(pose), GRID.centres)[:, 2]
    empty = hollow & (surface > away + GRID.cell_m)
    assert empty.sum() > 0.4 * hollow.sum()
    assert (carved(seen, depth=False).ravel()[hollow] >= SURFACE).mean() > 0.95
    assert not (carved(seen).ravel()[empty] >= SURFACE).any()
    # The wall and the floor that it sees are still there.
    floor = (np.hypot(x, y) < 0.05) & (np.abs(z + 0.045) < GRID.cell_m / 2)
    assert (carved(seen).ravel()[floor] >= SURFACE).mean() > 0.9


def test_a_view_carves_as_far_as_it_is_trusted():
    empty = lambda image, mask: (image, np.zeros_like(mask))  # noqa: E731
    seen = Seen(sphere(), azimuths_rad=())
    seen.estimates = [seen.estimate(np.pi / 2, empty)]
    whole = carve(GRID, [seen.frame], (), ())
    left = carved(seen, confidence=0.3)
    assert np.allclose(left, 0.7 * whole, atol=1e-6)
    assert not carved(seen, confidence=1.0).any()
    seen.estimates *= 2
    assert (carved(seen, confidence=0.3) < SURFACE).all()


def test_the_grid_holds_the_object_however_it_is_turned():
    high = GRID.corner + (np.array(GRID.shape) - 1) * GRID.cell_m
    assert np.allclose(GRID.corner, -high)
    assert (high[:2] >= SIZE_M / np.sqrt(2)).all() and high[2] >= SIZE_M / 2


def test_a_picture_is_looked_up_where_its_camera_shows_a_point():
    seen = Seen(box(), azimuths_rad=(), source=Spherical(0.0, 0.0, 0.36))
    frame = seen.frame
    points = np.array([[0.1, 0.0, 0.0], [0.1, 0.055, 0.07], [0.1, 0.07, 0.0], [0.1, 9.0, 0.0]])
    coverage = frame.mask.astype(np.float32) / 255
    shown = look_up(coverage, frame.camera, frame.object_from_camera, points)
    assert np.array_equal(shown > 0.5, [True, True, False, False])


def test_further_measured_pictures_carve_for_certain():
    seen, behind = Seen(box()), Seen(box(), source=Spherical(2.0, 0.3, 0.36))
    one = carve(GRID, [seen.frame], (), ())
    both = carve(GRID, [seen.frame, behind.frame], (), ())
    assert np.array_equal(both, np.minimum(one, carve(GRID, [behind.frame], (), ())))
    assert iou(both, inside_box) > 1.3 * iou(one, inside_box)
