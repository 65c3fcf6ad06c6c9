"""A cup half hidden by a box: what the box hides is neither the cup nor empty."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial import cKDTree

from nvs_ros.completion.hull import SURFACE, Grid, measured_occupancy
from nvs_ros.evaluation.tabletop import room_depth
from nvs_ros.geometry import Camera, Spherical, pose_from_spherical, target_from_angles
from nvs_ros.geometry.canonical import canonical_view
from nvs_ros.geometry.from_mask import place_from_mask
from nvs_ros.geometry.guide import guide
from nvs_ros.geometry.measured import ball_cells
from nvs_ros.observation import Frame, measurement_of
from nvs_ros.scenes.categories import make_object
from nvs_ros.scenes.mesh import block
from nvs_ros.scenes.render import render

SIZE_M = 0.1
CAMERA = Camera(240, 180, [[260, 0, 119.5], [0, 260, 89.5], [0, 0, 1]])
BLUE = np.array([0.1, 0.1, 0.9])


class Hidden:
    """The true cup, and a frame in which a box stands before its right half."""

    def __init__(self):
        self.mesh = make_object('mug', np.random.default_rng(2)).transformed(SIZE_M * np.eye(3))
        self.pose = pose_from_spherical(Spherical(0.0, np.radians(20), 2.4 * SIZE_M))
        floor = self.mesh.vertices[:, 2].min()
        self.box = block((0.01, 0.08, 0.09), BLUE).transformed(np.eye(3), (0.06, 0.04, floor))
        both = self.drawn(self.mesh + self.box)
        alone, box = self.drawn(self.mesh), self.drawn(self.box)
        self.whole = alone.mask >= 128
        before = (box.mask >= 128) & ~(alone.depth_m < box.depth_m)
        self.solid, self.occluders = self.whole & ~before, before
        assert self.mesh.vertices[:, 0].max() < 0.055
        room = room_depth(CAMERA, self.pose, floor)
        depth = np.where(self.solid | before, both.depth_m, room).astype(np.float32)
        mask = self.solid.astype(np.uint8) * 255
        self.told = Frame(both.image, mask, CAMERA, self.pose, SIZE_M, depth, before)
        self.untold = dataclasses.replace(self.told, unknown=None)

    def drawn(self, mesh):
        return render(mesh, self.pose, CAMERA.matrix, *CAMERA.size)

    @property
    def behind(self):
        """Points inside the cup that the box hides."""
        inner = self.mesh.vertices * 0.95
        x, y = np.rint(CAMERA.project((inner - self.pose[:3, 3]) @ self.pose[:3, :3])).astype(int).T
        return inner[self.occluders[y, x] & self.whole[y, x]]

    def frame(self, told, depth):
        made = self.told if told else self.untold
        return made if depth else dataclasses.replace(made, depth_m=None)


@pytest.fixture(scope='module')
def hidden():
    scene = Hidden()
    assert 0.3 < scene.solid.sum() / scene.whole.sum() < 0.7
    return scene


def share_left(frame, points):
    """Share of points that the hull leaves."""
    grid = Grid(SIZE_M, 48)
    occupied = measured_occupancy(grid.centres, grid.cell_m, frame).reshape(grid.shape)
    index = np.rint((points - grid.corner) / grid.cell_m).astype(int)
    return (occupied[tuple(index.T)] >= SURFACE).mean()


@pytest.mark.parametrize('depth', [True, False])
def test_the_hull_keeps_what_may_be_hidden(depth, hidden):
    assert len(hidden.behind) > 100
    assert share_left(hidden.frame(False, depth), hidden.behind) < 0.1
    assert share_left(hidden.frame(True, depth), hidden.behind) > 0.98


def test_before_the_occluder_nothing_is_left(hidden):
    """The depth camera saw so."""
    before = np.column_stack([np.full(9, 0.074), np.linspace(0.01, 0.05, 9), np.zeros(9)])
    assert share_left(hidden.frame(True, False), before) == 1
    assert share_left(hidden.frame(True, True), before) == 0


@pytest.mark.parametrize('depth', [True, False])
def test_the_guide_knows_what_is_possible(depth, hidden):
    view = canonical_view(
        hidden.told.image,
        hidden.told.mask,
        CAMERA,
        hidden.pose,
        object_size_m=SIZE_M,
        image_size=64,
    )
    target = target_from_angles(view, 0.0, np.radians(60))
    pose = target.object_from_canonical
    camera = target.canonical_camera
    truth = render(hidden.mesh, pose, camera.matrix, *camera.size).mask >= 128
    covered, left = {}, {}
    cells = cKDTree(ball_cells() * SIZE_M).query(hidden.behind)[1]
    for told in (True, False):
        measurement = measurement_of([hidden.frame(told, depth)], SIZE_M)
        possible = guide(measurement, camera, pose)[4] > 0
        covered[told] = (possible & truth).sum() / truth.sum()
        left[told] = measurement.possible[cells].mean()
    assert covered[True] > 0.99 and left[True] > 0.98
    assert left[False] < 0.6
    if depth:
        assert covered[False] < 0.9


def test_depth_says_how_far_a_ray_is_empty_before_the_occluder(hidden):
    told = measurement_of([hidden.frame(True, True)], SIZE_M).possible
    blind = measurement_of([hidden.frame(True, False)], SIZE_M).possible
    assert told.sum() < blind.sum()


def test_the_place_of_a_half_hidden_cup(hidden):
    frame = hidden.told
    off = {}
    for unknown in (frame.unknown, None):
        place = place_from_mask(hidden.solid, CAMERA, frame.depth_m, None, unknown)
        off[unknown is None] = np.linalg.norm((hidden.pose @ place.camera_from_object)[:3, 3])
        said = 'something hides the object along' in ' '.join(place.assumptions)
        assert said == (unknown is not None)
    assert max(off.values()) < 0.12 * SIZE_M
