"""Measures of shapes against shapes whose measures are known."""

import numpy as np
import pytest

from nvs_ros.completion.hull import Grid
from nvs_ros.evaluation.shape_metrics import chamfer, true_shape, volumetric_iou
from nvs_ros.scenes.containers import mug
from nvs_ros.scenes.mesh import ball, block

GRID = Grid(1.0, 64)
COLOR = np.array([0.5, 0.5, 0.5])


def test_the_volume_and_surface_of_a_ball():
    solid, surface = true_shape(ball((0.5, 0.5, 0.5), COLOR, rings=40), GRID)
    assert solid.sum() * GRID.cell_m**3 == pytest.approx(np.pi / 6, rel=0.04)
    assert np.linalg.norm(surface, axis=1) == pytest.approx(0.5, abs=0.01)


def test_overlapping_parts_count_once():
    cube = block((0.5, 0.5, 0.5), COLOR).transformed(np.eye(3), (0, 0, -0.25))
    solid, _ = true_shape(cube + cube.transformed(np.eye(3), (0.25, 0, 0)), GRID)
    assert solid.sum() * GRID.cell_m**3 == pytest.approx(0.75 * 0.25, rel=0.08)


def test_a_mug_is_hollow():
    mesh = mug(np.random.default_rng(0)).normalised()
    solid, _ = true_shape(mesh, GRID)
    x, y, z = (GRID.centres[:, i].reshape(GRID.shape) for i in range(3))
    rim, bottom = mesh.vertices[:, 2].max(), mesh.vertices[:, 2].min()
    body = mesh.vertices[:41]
    axis = body[:, :2].mean(0)
    middle = np.hypot(x - axis[0], y - axis[1]) < 0.1
    high, low = (z < rim - 0.05) & (z > 0.1), z < bottom + 0.03
    assert not solid[middle & high].any()
    assert solid[middle & low & (z > bottom + 0.01)].any()


def test_iou_and_chamfer_of_what_is_known():
    first, second = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    first[:2], second[1:3] = True, True
    assert volumetric_iou(first, second) == pytest.approx(1 / 3)
    points = np.random.default_rng(0).random((200, 3))
    assert chamfer(points, points) == 0
    assert chamfer(points[:1], points[:1] + (0.1, 0, 0)) == pytest.approx(0.1)
    # One side is covered, the other is not: half of the mean distance of the rest.
    two = np.array([[0.0, 0, 0], [1.0, 0, 0]])
    assert chamfer(two[:1], two) == pytest.approx(0.25)
