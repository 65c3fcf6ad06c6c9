"""Pixels to rays and back, against OpenCV and against closed forms."""

import math

import cv2
import numpy as np
import pytest

from nvs_ros.geometry import Camera

MATRIX = np.array([[601.0, 0, 318.3], [0, 597.0, 243.9], [0, 0, 1]])
LENSES = {
    'none': ('plumb_bob', ()),
    'plumb_bob 4': ('plumb_bob', (-0.28, 0.09, 0.0011, -0.0007)),
    'plumb_bob 5': ('plumb_bob', (-0.33, 0.12, 0.0011, -0.0007, -0.02)),
    'rational 8': ('rational_polynomial', (0.6, -0.3, 1e-3, -5e-4, 0.03, 0.9, -0.2, 0.02)),
    'rational 12': (
        'rational_polynomial',
        (0.6, -0.3, 1e-3, -5e-4, 0.03, 0.9, -0.2, 0.02, 1e-3, -2e-4, -8e-4, 3e-4),
    ),
    'rational 14': ('rational_polynomial', (0.1, -0.05, 0, 0, 0.01, 0, 0, 0, 0, 0, 0, 0, 0, 0)),
    'equidistant': ('equidistant', (-0.021, 0.008, -0.004, 0.0006)),
}


@pytest.mark.parametrize('name', LENSES)
def test_agrees_with_opencv_and_comes_back(name):
    model, distortion = LENSES[name]
    camera = Camera(640, 480, MATRIX, distortion, model)
    random = np.random.default_rng(0)
    points = random.uniform((-0.5, -0.38, 1), (0.5, 0.38, 1), (500, 3)) * random.uniform(
        0.3, 4, (500, 1)
    )
    project = cv2.fisheye.projectPoints if model == 'equidistant' else cv2.projectPoints
    coefficients = np.array(distortion) if distortion else np.zeros(4)
    expected = project(points[:, None], np.zeros(3), np.zeros(3), MATRIX, coefficients)[0][:, 0]
    pixels = camera.project(points)
    np.testing.assert_allclose(pixels, expected, rtol=0, atol=1e-8)
    rays = camera.unproject(pixels)
    directions = points / np.linalg.norm(points, axis=1, keepdims=True)
    np.testing.assert_allclose(rays, directions, rtol=0, atol=1e-7)


def test_fisheye_sees_behind_its_plane():
    camera = Camera(800, 800, [[200, 0, 399.5], [0, 200, 399.5], [0, 0, 1]], (), 'equidistant')
    angle = math.radians(110)
    ray = np.array([math.sin(angle), 0, math.cos(angle)])
    pixel = camera.project(ray)
    np.testing.assert_allclose(pixel, [399.5 + 200 * angle, 399.5])
    np.testing.assert_allclose(camera.unproject(pixel), ray, atol=1e-12)
    assert np.isnan(camera.project([0, 0, -1.0])).all()


def test_what_lies_behind_or_is_no_number_has_no_pixel():
    for model, distortion in LENSES.values():
        camera = Camera(640, 480, MATRIX, distortion, model)
        points = np.array([[0, 0, -1.0], [np.nan, 0, 1], [0, 0, 0], [0.1, 0.1, 1]])
        seen = np.isfinite(camera.project(points)).all(axis=1)
        assert seen.tolist() == [False, False, False, True]
        assert np.isnan(camera.unproject([np.nan, 3.0])).all()


def test_rays_beyond_the_fold_are_outside():
    # r (1 - 0.3 r^2) grows until r = 1 / sqrt(0.9), then comes back into the picture.
    camera = Camera(640, 480, MATRIX, (-0.3, 0, 0, 0), 'plumb_bob')
    fold = 1 / math.sqrt(0.9)
    assert camera.max_radius == pytest.approx(fold)
    inside, beyond = camera.project([[fold - 1e-6, 0, 1], [1.7, 0, 1]])
    assert np.isfinite(inside).all()
    assert np.isnan(beyond).all()
    folded = cv2.projectPoints(
        np.array([[[1.7, 0, 1.0]]]), np.zeros(3), np.zeros(3), MATRIX, np.array([-0.3, 0, 0, 0])
    )[0].ravel()
    assert camera.contains(folded), 'the folded ray would land in the picture'
    beyond_image = [MATRIX[0, 2] + 601 * 0.75, 243.9]
    assert np.isnan(camera.unproject(beyond_image)).all(), 'no ray gets this far out'


def test_fold_radius_is_where_growth_ends():
    """Numerically, over random lenses: monotonic within the radius in every direction."""
    random = np.random.default_rng(1)
    scale = np.array([0.5, 0.4, 0.01, 0.01, 0.3, 0.3, 0.2, 0.1, 0.005, 0.005, 0.005, 0.005])
    angles = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    for _ in range(100):
        camera = Camera(640, 480, MATRIX, random.normal(size=12) * scale, 'rational_polynomial')
        radii = np.linspace(0, min(camera.max_radius, 3.0), 400)[1:-1]
        for angle in angles:
            direction = np.array([math.cos(angle), math.sin(angle)])
            points = np.column_stack([radii[:, None] * direction, np.ones(len(radii))])
            plane = (camera.project(points) - MATRIX[:2, 2]) / [601, 597]
            assert (np.diff(plane @ direction) > 0).all()


def test_fold_radius_is_not_short_of_it():
    """A radial lens stops growing there and not before, by OpenCV's own projection."""
    random = np.random.default_rng(2)
    checked = 0
    for _ in range(100):
        k1, k2, k3, k4, k5, k6 = random.normal(size=6) * [0.5, 0.4, 0.3, 0.3, 0.2, 0.1]
        distortion = np.array([k1, k2, 0, 0, k3, k4, k5, k6])
        camera = Camera(640, 480, MATRIX, distortion, 'rational_polynomial')
        if camera.max_radius > 3:
            continue
        radii = np.linspace(0, 1.1 * camera.max_radius, 2000)
        rays = np.column_stack([radii, 0 * radii, np.ones(2000)])[:, None]
        x = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), np.eye(3), distortion)[0][:, 0, 0]
        stops = radii[np.flatnonzero(np.diff(x) <= 0)[0]]
        assert stops == pytest.approx(camera.max_radius, rel=2e-3)
        checked += 1
    assert checked > 30


@pytest.mark.parametrize('coefficients', [(-0.4, 0.1, 0, 0), (0.9, 0, 0, 0), (-0.1, -0.2, 0, 0.01)])
def test_fisheye_fold(coefficients):
    camera = Camera(640, 480, MATRIX, coefficients, 'equidistant')
    theta = np.linspace(1e-4, camera.max_radius - 1e-6, 2000)
    rays = np.column_stack([np.sin(theta), 0 * theta, np.cos(theta)])
    x = camera.project(rays)[:, 0]
    assert (np.diff(x) > 0).all()
    np.testing.assert_allclose(camera.unproject(camera.project(rays))[:-5], rays[:-5], atol=1e-6)
    assert np.isnan(camera.unproject([x[-1] + 1, MATRIX[1, 2]])).all()


def test_canonical_camera_is_the_one_of_the_training_renders():
    camera = Camera.canonical(256)
    assert camera.matrix[0, 0] == 280
    assert camera.matrix[0, 2] == camera.matrix[1, 2] == 127.5
    edges = camera.unproject([[-0.5, 127.5], [255.5, 127.5]])
    assert math.degrees(math.acos(edges[0] @ edges[1])) == pytest.approx(49.134, abs=1e-3)
    assert Camera.canonical(64).matrix[0, 0] == 70


def test_matrix_is_copied_and_kept():
    matrix = MATRIX.copy()
    camera = Camera(640, 480, matrix)
    matrix[0, 0] = 1
    assert camera.matrix[0, 0] == 601
    with pytest.raises(ValueError, match='read-only'):
        camera.matrix[0, 0] = 1


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((0, 480, MATRIX), 'width: expected 1'),
        ((640, -1, MATRIX), 'height: expected 1'),
        ((640, 1 << 40, MATRIX), 'height: expected 1'),
        ((640, 480, np.zeros((3, 3))), 'positive focal lengths'),
        ((640, 480, -MATRIX), 'positive focal lengths'),
        ((640, 480, MATRIX * np.nan), 'finite'),
        ((640, 480, MATRIX[:2]), '3x3'),
        ((640, 480, 2 * MATRIX), r'\[fx 0 cx'),
        ((640, 480, MATRIX + [[0, 1, 0], [0, 0, 0], [0, 0, 0]]), r'\[fx 0 cx'),
        ((640, 480, MATRIX, (1, 2, 3)), 'takes'),
        ((640, 480, MATRIX, (0, 0, 0, math.inf)), 'finite coefficients'),
        ((640, 480, MATRIX, (0, 0, 0, 0), 'brown'), 'distortion_model: expected one of'),
        ((640, 480, MATRIX, (0,) * 13 + (0.1,)), 'not tilted'),
    ],
)
def test_refuses_what_no_camera_has(arguments, message):
    with pytest.raises(ValueError, match=message):
        Camera(*arguments)
