"""Where an object is, from mask and depth: against shapes whose place is known."""

import cv2
import numpy as np
import pytest

from nvs_ros.evaluation.tabletop import SIZE_M, room_depth, table_scene
from nvs_ros.geometry import Camera, Spherical, rigid
from nvs_ros.geometry.from_mask import place_from_mask
from nvs_ros.geometry.support_plane import support_plane
from nvs_ros.scenes.categories import HOUSEHOLD, make_object
from nvs_ros.scenes.mesh import ball, block, lathe

GREY = np.array([0.5, 0.5, 0.5])
CAMERA = Camera(320, 240, [[300, 0, 159.5], [0, 300, 119.5], [0, 0, 1]])


def cylinder():
    profile = np.array([[0, 0], [0.3, 0], [0.3, 1], [0, 1]])
    return lathe(profile, np.tile(GREY, (3, 1)), 48)


SHAPES = {
    'ball': ball((0.5, 0.5, 0.5), GREY, rings=24),
    'box': block((0.6, 1.0, 0.5), GREY).turned(0.5).normalised(),
    'cylinder': cylinder().normalised(),
}


def seen(mesh, elevation_deg=25.0, azimuth_rad=0.3, radius=2.2, seed=1, **options):
    spherical = Spherical(azimuth_rad, np.radians(elevation_deg), radius)
    rng = np.random.default_rng(seed)
    return table_scene(mesh, spherical, rng, camera=CAMERA, **options)


def placed(scene, *further, depth_m=None, solid=None):
    frame = scene.frame
    solid = frame.mask >= 128 if solid is None else solid
    return place_from_mask(
        solid, frame.camera, frame.depth_m if depth_m is None else depth_m, *further
    )


def off(scene, place):
    """Offset of the centre in the true object frame, in sizes of the object."""
    found = scene.frame.object_from_camera @ place.camera_from_object
    return found[:3, 3] / scene.frame.object_size_m


def tilt_deg(scene, place):
    up = place.camera_from_object[:3, 2]
    return np.degrees(np.arccos(np.clip(up @ scene.up, -1, 1)))


@pytest.mark.parametrize('elevation_deg', [8, 25, 50])
@pytest.mark.parametrize('name', SHAPES)
def test_known_shapes(name, elevation_deg):
    scene = seen(SHAPES[name], elevation_deg)
    place = placed(scene)
    # The far side of a box is seen from above alone.
    assert np.linalg.norm(off(scene, place)) < (0.1 if name == 'box' else 0.06)
    assert tilt_deg(scene, place) < 0.5
    # Its box stands along the view.
    axes = scene.frame.object_from_camera[:3, :3] @ place.camera_from_object[:3, :3]
    true = np.ptp(SHAPES[name].vertices @ axes, axis=0) * SIZE_M
    assert place.extents_m[1:] == pytest.approx(true[1:], rel=0.13)
    assert place.extents_m[0] == pytest.approx(true[0], rel=0.25)
    assert place.size_m == pytest.approx(true.max(), rel=0.12)


def test_the_axes_without_a_reference():
    """z up, x from the object to the camera."""
    scene = seen(SHAPES['cylinder'])
    place = placed(scene)
    rotation = place.camera_from_object[:3, :3]
    assert np.allclose(rotation.T @ rotation, np.eye(3)) and np.linalg.det(rotation) > 0
    towards = -place.camera_from_object[:3, 3] @ rotation
    assert abs(np.arctan2(towards[1], towards[0])) < np.radians(1)


def test_the_axes_of_a_reference_stay_where_they_are_when_the_camera_moves():
    """Nothing of them comes from the depth, which may be that of a slope."""
    for azimuth_rad in (0.3, 1.5):
        scene = seen(SHAPES['box'], azimuth_rad=azimuth_rad)
        camera_from_reference = scene.frame.object_from_camera[:3, :3].T
        place = placed(scene, camera_from_reference)
        assert np.allclose(place.camera_from_object[:3, :3], camera_from_reference)
        assert np.linalg.norm(off(scene, place)) < 0.06
        assert 'up taken from' not in ' '.join(place.assumptions)


@pytest.mark.parametrize('elevation_deg', [80, 89])
def test_from_above(elevation_deg):
    """The foot is hidden, and the camera stands over the object."""
    scene = seen(SHAPES['cylinder'], elevation_deg, radius=3)
    place = placed(scene)
    assert np.linalg.norm(off(scene, place)) < 0.05
    assert place.size_m == pytest.approx(SIZE_M, rel=0.05)
    if elevation_deg == 89:
        x = place.camera_from_object[:3, 0]
        assert x[1] > 0.95  # to the lower edge of the picture
    assert 'assumed to stand on the plane' in ' '.join(place.assumptions)


def test_with_a_reference_an_object_may_hang_in_the_air():
    """Without a plane its lowest point is its foot, and that is said."""
    scene = seen(SHAPES['ball'])
    frame = scene.frame
    alone = np.where(frame.mask >= 128, frame.depth_m, np.nan)
    place = placed(scene, frame.object_from_camera[:3, :3].T, depth_m=alone)
    assert np.linalg.norm(off(scene, place)) < 0.12
    assert 'no plane found that it stands on' in ' '.join(place.assumptions)
    with pytest.raises(ValueError, match='expected a plane .* set reference_frame'):
        placed(scene, depth_m=alone)


def test_above_a_table_that_is_seen_below_it_it_does_not_stand():
    """The table is as far below it as it is large; it still says what is level."""
    scene = seen(SHAPES['ball'])
    frame = scene.frame
    low = room_depth(CAMERA, frame.object_from_camera, -1.5 * SIZE_M)
    depth = np.where(frame.mask >= 128, frame.depth_m, low)
    place = placed(scene, depth_m=depth)
    assert np.linalg.norm(off(scene, place)) < 0.15
    assert place.size_m == pytest.approx(SIZE_M, rel=0.08)
    assert tilt_deg(scene, place) < 0.5
    assert 'no plane found that it stands on' in ' '.join(place.assumptions)


def test_a_wall_is_no_table():
    """Most of what is about the object belongs to the wall behind it."""
    scene = seen(SHAPES['box'], elevation_deg=6, radius=2.6)
    frame = scene.frame
    foot = np.nonzero(frame.mask >= 128)[0].max()
    table = frame.depth_m.copy()
    table[foot + 12 :] = np.nan
    place = placed(scene, depth_m=table)
    assert tilt_deg(scene, place) < 2


def test_what_lies_about_does_not_tilt_the_table():
    """A third of the neighbourhood is something else, uneven."""
    scene = seen(SHAPES['cylinder'])
    depth = scene.frame.depth_m.copy()
    rows, columns = np.nonzero(scene.frame.mask >= 128)
    beside = np.s_[rows.min() : rows.max(), columns.max() + 5 : columns.max() + 60]
    rng = np.random.default_rng(0)
    depth[beside] -= rng.uniform(0, 0.1, depth[beside].shape).astype(np.float32)
    place = placed(scene, depth_m=depth)
    assert tilt_deg(scene, place) < 0.5
    assert np.linalg.norm(off(scene, place)) < 0.06


def test_a_mask_that_leaks_costs_little():
    """Two pixels of the table and of the wall belong to the mask."""
    scene = seen(SHAPES['cylinder'])
    leaking = cv2.dilate(scene.frame.mask, np.ones((5, 5), np.uint8)) >= 128
    place = placed(scene, solid=leaking)
    assert np.linalg.norm(off(scene, place)) < 0.1
    assert place.size_m == pytest.approx(SIZE_M, rel=0.1)


def test_the_same_frame_gives_the_same_place():
    scene = seen(SHAPES['box'], faults=True)
    assert np.array_equal(placed(scene).camera_from_object, placed(scene).camera_from_object)


@pytest.mark.parametrize(('faults', 'mean', 'worst'), [(False, 0.07, 0.3), (True, 0.085, 0.4)])
def test_household_objects(faults, mean, worst):
    offsets, sizes = [], []
    for index, name in enumerate(HOUSEHOLD):
        rng = np.random.default_rng([5, index])
        mesh = make_object(name, rng)
        scene = seen(
            mesh, rng.uniform(10, 55), rng.uniform(-3, 3), rng.uniform(1.8, 3), index, faults=faults
        )
        place = placed(scene)
        offsets.append(np.linalg.norm(off(scene, place)))
        sizes.append(place.size_m / SIZE_M - 1)
    assert np.mean(offsets) < mean and max(offsets) < worst
    assert np.mean(np.abs(sizes)) < 0.1


def test_a_side_that_something_hides():
    """The object is as wide as it is deep, and that this was assumed is said."""
    scene = seen(SHAPES['cylinder'], elevation_deg=35)
    frame = scene.frame
    solid = frame.mask >= 128
    columns = np.nonzero(solid.any(0))[0]
    unknown = np.zeros_like(solid)
    unknown[:, : (columns[0] + columns[-1]) // 2 + 8] = True
    depth = np.where(unknown, np.float32(0.2), frame.depth_m)
    place = placed(scene, None, unknown, depth_m=depth, solid=solid & ~unknown)
    assert np.linalg.norm(off(scene, place)) < 0.12
    assert place.extents_m[1] == pytest.approx(0.6 * SIZE_M, rel=0.15)
    assert 'something hides the object along' in ' '.join(place.assumptions)
    cut = placed(scene, None, None, depth_m=depth, solid=solid & ~unknown)
    assert cut.extents_m[1] < 0.45 * SIZE_M


def test_what_lies_behind_hides_nothing():
    """The table and the wall may have labels of their own."""
    scene = seen(SHAPES['cylinder'])
    place = placed(scene, None, scene.frame.mask < 128)
    assert 'something hides' not in ' '.join(place.assumptions)
    assert np.linalg.norm(off(scene, place)) < 0.06


def test_wrong_input_is_refused():
    scene = seen(SHAPES['ball'])
    frame = scene.frame
    solid = frame.mask >= 128
    with pytest.raises(ValueError, match='depth_m: expected .* like the mask'):
        placed(scene, depth_m=frame.depth_m[:-1])
    with pytest.raises(ValueError, match='unknown: expected'):
        placed(scene, None, solid[:, :-1])
    with pytest.raises(ValueError, match='expected depth inside the mask, got none'):
        placed(scene, depth_m=np.where(solid, np.nan, frame.depth_m))
    with pytest.raises(ValueError, match='expected depth inside the mask, got none'):
        placed(scene, solid=np.zeros_like(solid))
    few = np.zeros_like(solid)
    few[118:124, 156:162] = True
    with pytest.raises(ValueError, match='at least 60 pixels'):
        placed(scene, solid=few)
    with pytest.raises(ValueError, match='camera_from_reference: expected a rotation'):
        placed(scene, 2 * np.eye(3))


def test_a_distorted_camera():
    """A ball before a fisheye: points are where the rays go."""
    pose = seen(SHAPES['ball']).frame.object_from_camera
    camera = Camera(
        320, 240, [[200, 0, 159.5], [0, 200, 119.5], [0, 0, 1]], (0.1, 0.01, 0, 0), 'plumb_bob'
    )
    rows, columns = np.indices((240, 320))
    rays = camera.unproject(np.column_stack([columns.ravel(), rows.ravel()]))
    along = rays @ pose[:3, :3].T
    start, radius = pose[:3, 3], SIZE_M / 2
    half = along @ start
    inside = half**2 - start @ start + radius**2
    ball_at = np.where(inside > 0, -half - np.sqrt(np.maximum(inside, 0)), np.inf)
    with np.errstate(divide='ignore'):
        table_at = (-radius - start[2]) / along[:, 2]
    table_at[table_at <= 0] = np.inf
    depth = np.minimum(ball_at, table_at) * rays[:, 2]
    solid = (ball_at < table_at).reshape(240, 320)
    depth[~np.isfinite(depth)] = np.nan
    place = place_from_mask(solid, camera, depth.reshape(240, 320))
    centre = (pose @ place.camera_from_object)[:3, 3]
    assert np.linalg.norm(centre) < 0.08 * SIZE_M
    assert place.size_m == pytest.approx(SIZE_M, rel=0.05)


def test_a_line_is_no_plane():
    along = np.linspace(-0.2, 0.2, 500)[:, None] * [1.0, 0.0, 0.0] + [0.0, 0.1, 0.5]
    points = np.random.default_rng(0).uniform(-0.05, 0.05, (200, 3)) + [0, 0, 0.5]
    assert support_plane(along, points, 0.1) is None
    table = np.random.default_rng(1).uniform(-0.2, 0.2, (500, 3)) * [1, 0, 1] + [0, 0.06, 0.5]
    plane = support_plane(table, points, 0.1)
    assert np.allclose(plane.normal, [0, -1, 0], atol=1e-6)
    assert rigid(np.eye(3), plane.normal)[1, 3] < 0
