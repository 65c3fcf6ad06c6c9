"""The guide of solids whose every point is known in closed form."""

import numpy as np
import pytest
from analytic_renderer import Lens, Solid, render

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.guide import Measurement, guide, splat
from nvs_ros.geometry.measured import BALL, Surface, ball_cells, measured_surface
from nvs_ros.geometry.rigid import rigid
from nvs_ros.geometry.spherical import Spherical, look_at, pose_from_spherical

SIZE = 64
TARGET = Camera.canonical(SIZE)
LENS = Lens(320, 240, np.array([[330.0, 0, 163], [0, 333.0, 117], [0, 0, 1]]))
FISHEYE = Lens(320, 240, LENS.matrix, (-0.02, 0.01, 0.0, 0.0), fisheye=True)
DISTORTED = Lens(320, 240, LENS.matrix, (-0.2, 0.05, 0.002, -0.001, 0.0))
BOX = Solid((0.1, 0.07, 0.05), 'box', seed=1)
BALL_SOLID = Solid((0.08, 0.08, 0.08), 'ellipsoid', seed=2)
SOURCE = pose_from_spherical(Spherical(0.4, 0.5, 0.4))


def camera_of(lens):
    model = 'equidistant' if lens.fisheye else 'plumb_bob'
    return Camera(lens.width, lens.height, lens.matrix, lens.distortion, model)


def target_pose(solid, azimuth_deg, elevation_rad=0.5):
    radius = 1.8 * solid.size_m
    return pose_from_spherical(Spherical(0.4 + np.radians(azimuth_deg), elevation_rad, radius))


def measured(shape, lens=LENS, pose=SOURCE, depth=True, **changes):
    picture = render(shape, lens, pose)
    given = {
        'image': picture.image,
        'solid': picture.mask >= 128,
        'depth_m': picture.depth_m if depth else None,
    } | changes
    return Measurement.of_picture(
        camera=camera_of(lens), object_from_camera=pose, unit_m=shape.size_m, **given
    )


def truth(solid, pose):
    lens = Lens(SIZE, SIZE, TARGET.matrix)
    return render(solid, lens, pose)


@pytest.mark.parametrize(
    'lens', [LENS, DISTORTED, FISHEYE], ids=['pinhole', 'plumb_bob', 'fisheye']
)
@pytest.mark.parametrize('solid', [BOX, BALL_SOLID], ids=['box', 'ball'])
def test_measured_points_lie_on_the_surface_with_its_normals(solid, lens):
    surface = measured(solid, lens).surface
    assert len(surface.points) > 2000
    half = np.array(solid.half_m)
    if solid.kind == 'box':
        outside = np.abs(np.abs(surface.points) / half).max(1)
        assert np.abs(outside - 1).max() < 2e-3
        assert (np.abs(surface.normals).max(1) > 0.99).mean() > 0.9
    else:
        radii = np.linalg.norm(surface.points, axis=1) / half[0]
        assert np.abs(radii - 1).max() < 2e-3
        outward = surface.points / np.linalg.norm(surface.points, axis=1, keepdims=True)
        assert (surface.normals * outward).sum(1).min() > 0.98


@pytest.mark.parametrize('solid', [BOX, BALL_SOLID], ids=['box', 'ball'])
@pytest.mark.parametrize('azimuth', [0, 30, -60])
def test_guide_has_the_colours_of_the_true_view(solid, azimuth):
    pose = target_pose(solid, azimuth)
    made, true = guide(measured(solid), TARGET, pose), truth(solid, pose)
    known = made[3] > 0
    assert known[true.mask < 1].sum() == 0
    least = {0: 0.75, 30: 0.6, -60: 0.25}[azimuth]
    assert known.sum() > least * (true.mask >= 128).sum()
    inner = known & (true.mask == 255)
    colors = (made[:3, inner].T + 1) * 127.5
    error = np.abs(colors - true.image[inner])
    assert np.median(error) < 4 and np.percentile(error, 95) < 20
    assert not made[:3, ~known].any()


def test_the_far_side_is_not_seen_through_the_near_one():
    """From behind all measured surface faces away: nothing is known, though no surface hides it."""
    made = guide(measured(BALL_SOLID), TARGET, target_pose(BALL_SOLID, 180, -0.5))
    assert not made[3].any()


def test_a_nearer_surface_hides_a_farther_one():
    towards = np.array([[0, 0, -1]] * 2, np.float32)
    surface = Surface(
        np.array([[0, 0, 1.0], [0, 0, 1.5]], np.float32),
        np.array([[10, 20, 30], [200, 200, 200]], np.uint8),
        towards,
    )
    colors, known = splat(surface, TARGET, np.eye(4))
    assert known.sum() == 1 and colors[known].tolist() == [[10, 20, 30]]
    same = Surface(surface.points * [[1, 1, 1], [1, 1, 1.02 / 1.5]], surface.colors, towards)
    colors, known = splat(same, TARGET, np.eye(4))
    assert colors[known].tolist() == [[105, 110, 115]]


@pytest.mark.parametrize('azimuth', [0, 45, 90, 180])
@pytest.mark.parametrize('depth', [True, False], ids=['depth', 'mask alone'])
def test_the_object_is_where_it_is_possible(azimuth, depth):
    pose = target_pose(BOX, azimuth) if azimuth else SOURCE
    possible = guide(measured(BOX, depth=depth), TARGET, pose)[4] > 0
    solid = truth(BOX, pose).mask >= 128
    assert possible[solid].all()
    if azimuth == 0:  # the silhouette, a pixel or two wider
        assert possible.sum() < 1.35 * solid.sum()


def test_depth_carves_what_lies_before_the_surface():
    pose = target_pose(BALL_SOLID, 90)
    alone, carved = (guide(measured(BALL_SOLID, depth=d), TARGET, pose)[4] for d in (False, True))
    assert carved.sum() < 0.85 * alone.sum()
    assert (carved <= alone).all()


def test_what_an_occluder_hides_stays_possible():
    picture = render(BOX, LENS, SOURCE)
    hidden = np.zeros(picture.mask.shape, bool)
    hidden[:, :165] = True
    solid = (picture.mask >= 128) & ~hidden
    pose = target_pose(BOX, 0)
    true = truth(BOX, pose).mask >= 128
    wrong = guide(measured(BOX, solid=solid), TARGET, pose)[4] > 0
    right = guide(measured(BOX, solid=solid, unknown=hidden), TARGET, pose)[4] > 0
    assert not wrong[true].all() and right[true].all()


def test_a_mask_that_is_cut_off_says_nothing_of_what_lies_beyond():
    lens = Lens(160, 240, LENS.matrix)  # the right half of the object is out of the picture
    pose = target_pose(BOX, 0)
    true = truth(BOX, pose).mask >= 128
    assert (guide(measured(BOX, lens), TARGET, pose)[4] > 0)[true].all()


def test_depth_edges_and_what_is_too_far_are_left_out():
    picture = render(BALL_SOLID, LENS, SOURCE)
    solid, depth = picture.mask >= 128, picture.depth_m.copy()
    rows, columns = np.nonzero(solid)
    row, column = int(rows.mean()), int(columns.mean())
    depth[row, column] += 0.05  # a flying pixel
    depth[row + 20 : row + 24, column : column + 4] += 1.0  # seen through a hole
    depth[row - 20, column] = np.nan
    surface = measured_surface(
        picture.image, solid, camera_of(LENS), SOURCE, depth, BALL_SOLID.size_m
    )
    assert np.linalg.norm(surface.points, axis=1).max() < 1.01 * 0.08
    whole = measured(BALL_SOLID).surface
    assert len(whole.points) - 60 < len(surface.points) < len(whole.points)


def test_two_pictures_know_more_than_one():
    pose = target_pose(BOX, 150)
    parts = [measured(BOX), measured(BOX, pose=look_at(1.1 * target_pose(BOX, 170)[:3, 3]))]
    both = guide(Measurement.joined(parts), TARGET, pose)
    one = guide(parts[0], TARGET, pose)
    assert both[3].sum() > 1.5 * one[3].sum()
    assert both[4].sum() < one[4].sum()
    assert (both[4] > 0)[truth(BOX, pose).mask >= 128].all()


def test_nothing_measured_makes_a_guide_of_nothing():
    picture = render(BOX, LENS, SOURCE)
    blind = measured(BOX, depth_m=np.full(picture.mask.shape, np.nan))
    assert len(blind.surface.points) == 0
    made = guide(blind, TARGET, target_pose(BOX, 30))
    assert not made[:4].any() and made[4].any()
    assert made.dtype == np.float32 and made.shape == (5, SIZE, SIZE)


def test_cells_fill_the_ball():
    cells = ball_cells()
    assert np.linalg.norm(cells, axis=1).max() <= BALL
    spacing = 2 * BALL / 56
    assert len(cells) * spacing**3 == pytest.approx(4 / 3 * np.pi * BALL**3, rel=0.02)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(
        ValueError, match=r'depth_m: expected \(240, 320\) like the mask, got \(2, 2\)'
    ):
        measured(BOX, depth_m=np.zeros((2, 2)))
    with pytest.raises(ValueError, match='at least one'):
        Measurement.joined([])


def test_roll_of_the_camera_changes_nothing():
    c, s = np.cos(0.7), np.sin(0.7)
    rolled = SOURCE @ rigid(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.zeros(3))
    pose = target_pose(BOX, 30)
    one, other = guide(measured(BOX), TARGET, pose), guide(measured(BOX, pose=rolled), TARGET, pose)
    assert (one[3] != other[3]).mean() < 0.02 and (one[4] != other[4]).mean() < 0.06
