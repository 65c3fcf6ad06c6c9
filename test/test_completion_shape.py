"""Surface, colours, cloud and next best view of objects that are known."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from completion_scene import SIZE_M, Seen, box, sphere
from scipy.spatial import cKDTree

from nvs_ros.completion.cloud import (
    all_measured_points,
    completed_cloud,
    measured_points,
    view_gains,
)
from nvs_ros.completion.hull import Grid, carve
from nvs_ros.completion.pipeline import AssessedView, complete_shape
from nvs_ros.completion.surface import MEASURED, UNSEEN, hull_surface, triangulated, visible
from nvs_ros.evaluation.tabletop import table_scene
from nvs_ros.geometry import Spherical, look_at, rigid
from nvs_ros.scenes.categories import make_object
from nvs_ros.settings import CompletionSettings
from nvs_ros.synthesizer import Observation

GRID = Grid(SIZE_M, 48)
LEVEL = Spherical(0.0, 0.0, 0.36)
RIGHT, BEHIND, LEFT = np.pi / 2, np.pi, -np.pi / 2


def surface_of(seen, confidences, frame=None):
    frames = [frame or seen.frame]
    occupancy = carve(GRID, frames, seen.estimates, confidences)
    points, _ = all_measured_points(frames)
    return hull_surface(GRID, occupancy, [seen.source], seen.estimates, confidences, points)


def cloud_of(frames, surface):
    return completed_cloud(*all_measured_points(frames), surface)


def test_normals_point_outward_and_faces_turn_the_same_way():
    seen = Seen(sphere())
    surface = surface_of(seen, [1.0] * len(seen.estimates))
    radius = np.linalg.norm(surface.vertices, axis=1)
    outward = surface.vertices / radius[:, None]
    assert np.median((surface.normals * outward).sum(1)) > 0.97
    assert np.median(radius) == pytest.approx(SIZE_M / 2, rel=0.05)
    corners = surface.vertices[surface.faces]
    turned = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((turned * corners.mean(1)).sum(1) > 0).mean() > 0.98


def test_ragged_surfaces_have_unit_normals_too():
    """Noise: at some vertices the normals of the triangles cancel out."""
    occupancy = (np.random.default_rng(0).random((8, 8, 8)) > 0.5).astype(np.float32)
    vertices, faces, normals = triangulated(Grid(1.0, 8), occupancy)
    assert np.linalg.norm(normals, axis=1) == pytest.approx(1, abs=1e-6)
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outward = (across * normals[faces].mean(1)).sum(1)
    assert (outward > 0).mean() > 0.9


def test_points_have_the_colour_of_the_picture_that_sees_them():
    """The box is blue towards -x, where only the view from behind sees it."""
    seen = Seen(box(), [RIGHT, BEHIND, LEFT], LEVEL)
    surface = surface_of(seen, [0.9, 0.8, 0.9])
    x, y, z = surface.vertices.T
    level = np.abs(z) < 0.05
    back, front = level & (x < -0.09) & (np.abs(y) < 0.04), level & (x > 0.09)
    side = level & (y > 0.055) & (np.abs(x) < 0.06)
    assert (surface.views[back] == 1).all() and (surface.views[front] == MEASURED).all()
    assert (surface.views[side] == 0).mean() > 0.9
    assert (surface.colors[back, 2] > surface.colors[back, 0]).all()
    assert (surface.colors[front, 0] > surface.colors[front, 2]).all()
    assert surface.confidence[back] == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize('distance', [1.0, 0.101, 0.1, 0.09, 0.0, 1e-9])
def test_a_camera_close_by_needs_no_more_memory(distance):
    """Before, on and behind the surface, where its points spread over a huge picture."""
    points = np.random.default_rng(0).normal(size=(5000, 3))
    normals = points / np.linalg.norm(points, axis=1, keepdims=True)
    pose = look_at([1.0, 0.3, 0.2])
    pose[:3, 3] *= distance / np.linalg.norm(pose[:3, 3])
    tracemalloc.start()
    seen = visible(0.1 * normals, normals, pose, 0.005)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6
    assert (seen > 0).any() == (distance > 0.1)


def test_what_no_camera_sees_is_not_trusted():
    seen = Seen(box(), [RIGHT, BEHIND, LEFT], Spherical(0.0, 0.6, 0.36))
    surface = surface_of(seen, [0.9] * 3)
    below = surface.normals[:, 2] < -0.9
    assert (surface.views[below] == UNSEEN).all() and not surface.confidence[below].any()
    assert surface.colors[below].any(1).all()


def test_measured_points_are_kept_as_they_are():
    seen = Seen(box())
    points, colors = measured_points(seen.frame)
    surface = surface_of(seen, [0.9] * len(seen.estimates))
    cloud = cloud_of([seen.frame], surface)
    count = (~cloud.synthetic).sum()
    assert count == len(points) > 500
    assert np.array_equal(cloud.points[:count], points)
    assert np.array_equal(cloud.colors[:count], colors)
    assert (cloud.confidence[:count] == 1).all() and (cloud.views[:count] == MEASURED).all()
    # On the box, to the width of a pixel.
    distance = np.abs(points) - np.array([0.1, 0.06, 0.08])
    assert np.percentile(np.abs(distance.max(1)), 95) < 0.004
    gaps = np.linalg.norm(cloud.points[count:, None] - points[None, ::7], axis=2).min(1)
    assert gaps.min() > 0.5 * GRID.cell_m


def test_without_depth_all_is_synthetic():
    seen = Seen(box())
    frame = dataclasses.replace(seen.frame, depth_m=None)
    surface = surface_of(seen, [0.9] * len(seen.estimates), frame)
    cloud = cloud_of([frame], surface)
    assert (
        not surface.measured.any()
        and cloud.synthetic.all()
        and len(cloud.points) == len(surface.vertices)
    )
    assert all(np.isfinite(a).all() for a in (cloud.points, cloud.normals, cloud.confidence))


def test_unknown_depth_gives_no_points():
    seen = Seen(box())
    depth = seen.frame.depth_m.copy()
    depth[:32] = np.nan
    depth[32:40] = 0
    points, _ = measured_points(dataclasses.replace(seen.frame, depth_m=depth))
    whole, _ = measured_points(seen.frame)
    assert 0 < len(points) < len(whole) and np.isfinite(points).all()


def test_pixels_between_the_object_and_what_is_behind_are_no_points_of_it():
    """A real depth camera mixes both at the outline, here over the width of a pixel."""
    mesh = make_object('can', np.random.default_rng(3))
    seen = [
        table_scene(mesh, Spherical(0.4, 0.3, 1.8), np.random.default_rng(2), faults=faults).frame
        for faults in (False, True)
    ]
    clean, faulty = (measured_points(frame)[0] for frame in seen)
    off = cKDTree(clean).query(faulty)[0]
    assert off.max() < 0.02 and len(faulty) > 0.8 * len(clean)


@pytest.mark.parametrize('value', [1, 7, 127])
def test_a_mask_of_any_value_above_0_is_that_of_yes_and_no(value):
    seen = Seen(box())
    solid = seen.frame.mask > 127
    expected, found = (
        dataclasses.replace(seen.frame, mask=mask) for mask in (solid, np.uint8(value) * solid)
    )
    for one, other in zip(measured_points(expected), measured_points(found), strict=True):
        assert len(one) > 500 and np.array_equal(one, other)
    one, other = (carve(GRID, [frame], [], []) for frame in (expected, found))
    assert one.any() and np.array_equal(one, other)


@pytest.mark.parametrize(('trust', 'best'), [((0.9, 0.2), 1), ((0.2, 0.9), 0)])
def test_the_next_best_view_sees_the_unknown_side(trust, best):
    """Of two views from opposite sides, the one that is trusted less."""
    seen = Seen(sphere(), [RIGHT, LEFT], LEVEL)
    surface = surface_of(seen, trust)
    assert view_gains(surface).argmax() == best


def test_looking_again_at_what_is_measured_adds_least():
    seen = Seen(sphere(), [np.radians(10), RIGHT, BEHIND], LEVEL)
    surface = surface_of(seen, [0.6] * 3)
    gains = view_gains(surface)
    assert gains.argmin() == 0 and gains[2] > 2 * gains[0]
    # Half of the sphere seen from behind, its doubt 0.4: not more than its disc.
    assert gains[2] < 0.4 * np.pi * (SIZE_M / 2) ** 2 * 1.1


def test_a_cloud_moves_with_its_frame():
    seen = Seen(sphere())
    surface = surface_of(seen, [0.9] * len(seen.estimates))
    cloud = cloud_of([seen.frame], surface)
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    pose = rigid(turn, (1.0, 2.0, 3.0))
    moved, surface_moved = cloud.moved(pose), surface.moved(pose)
    assert np.allclose(surface_moved.vertices[0], turn @ surface.vertices[0] + (1, 2, 3))
    assert np.allclose(surface_moved.normals[-1], turn @ surface.normals[-1])
    assert np.allclose(moved.points[0], turn @ cloud.points[0] + (1, 2, 3))
    assert np.allclose(moved.normals[-1], turn @ cloud.normals[-1])


def trusted(seen, confidences):
    return [
        AssessedView(estimate, None, confidence)
        for estimate, confidence in zip(seen.estimates, confidences, strict=True)
    ]


def test_views_under_the_least_confidence_do_not_shape():
    seen = Seen(box(), [RIGHT, BEHIND])
    empty = lambda image, mask: (image, np.zeros_like(mask))  # noqa: E731
    seen.estimates[1] = seen.estimate(BEHIND, empty)
    views, observation = trusted(seen, [0.9, 0.6]), Observation(seen.source, None, None)
    with pytest.raises(ValueError, match='nothing of the object'):
        complete_shape([seen.frame], observation, views, CompletionSettings())
    careful = CompletionSettings(min_confidence=0.7)
    completion = complete_shape([seen.frame], observation, views, careful)
    assert not (completion.cloud.views == 1).any()
    with pytest.raises(ValueError, match=r'0\.95 or more, got 0\.90'):
        refuse = CompletionSettings(min_confidence=0.95)
        complete_shape([seen.frame], observation, views, refuse)


def test_depth_of_another_size_is_refused():
    seen = Seen(box(), [RIGHT])
    views, observation = trusted(seen, [0.9]), Observation(seen.source, None, None)
    frame = dataclasses.replace(seen.frame, depth_m=np.ones((32, 64)))
    with pytest.raises(ValueError, match=r'\(64, 64\) like the mask, got \(32, 64\)'):
        complete_shape([frame], observation, views, CompletionSettings())


def test_further_measured_pictures_colour_what_they_see_best():
    """The second camera sees the blue side, which no estimate shows."""
    seen = Seen(box(), [RIGHT, LEFT], LEVEL)
    behind = Seen(box(), [], Spherical(np.pi, 0.0, 0.36))
    frames, sources = [seen.frame, behind.frame], [seen.source, behind.source]
    occupancy = carve(GRID, frames, seen.estimates, [0.9, 0.9])
    points, _ = all_measured_points(frames)
    surface = hull_surface(GRID, occupancy, sources, seen.estimates, [0.9, 0.9], points)
    assert surface.measured[surface.views == MEASURED].mean() > 0.75
    x, y, z = surface.vertices.T
    back = (np.abs(z) < 0.05) & (x < -0.09) & (np.abs(y) < 0.04)
    side = (np.abs(z) < 0.05) & (y > 0.055) & (np.abs(x) < 0.06)
    assert (surface.views[back] == MEASURED).all() and (surface.views[side] == 0).mean() > 0.9
    assert (surface.colors[back, 2] > 150).all() and (surface.colors[back, 0] < 60).all()
    assert surface.seen.shape == (2, len(surface.vertices))
    cloud = cloud_of(frames, surface)
    assert np.array_equal(cloud.points[~cloud.synthetic], points)
