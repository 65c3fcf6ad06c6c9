"""CameraInfo: windows, binning, rectified pictures and stereo pairs."""

import math

import cv2
import numpy as np
import pytest
from analytic_renderer import Lens, Solid, pixels_of, render

from nvs_ros.geometry import (
    Camera,
    camera_from_info,
    frame_from_camera,
    info_from_camera,
    look_at,
)

K = [520.0, 0, 330.0, 0, 515.0, 235.0, 0, 0, 1]
D = (-0.25, 0.08, 0.001, -0.002, 0.01)
WHOLE = (640, 480, K, D, 'plumb_bob')


def lens(camera):
    return Lens(camera.width, camera.height, camera.matrix, camera.distortion)


def binned(image, factor):
    height, width = (side // factor for side in image.shape[:2])
    blocks = image[: height * factor, : width * factor].astype(float)
    return blocks.reshape(height, factor, width, factor, -1).mean(axis=(1, 3))


@pytest.mark.parametrize(('factor', 'roi'), [(2, (0, 0, 0, 0)), (3, (101, 53, 425, 331))])
def test_picture_of_a_binned_window(factor, roi):
    """Averaging the full picture's pixels gives the picture of the camera that is returned."""
    solid = Solid((0.2, 0.15, 0.1))
    pose = look_at([0.5, 0.3, 0.2])
    full = render(solid, lens(camera_from_info(*WHOLE)), pose).image
    camera = camera_from_info(*WHOLE, binning_x=factor, binning_y=factor, roi=roi)
    x, y, width, height = roi if roi[2] else (0, 0, 640, 480)
    expected = binned(full[y : y + height, x : x + width], factor)
    assert expected.shape[:2] == (camera.height, camera.width)
    error = render(solid, lens(camera), pose).image - expected
    assert math.sqrt((error**2).mean()) < 1.0
    half_pixel = camera.matrix.copy()
    half_pixel[:2, 2] += 0.5 - 0.5 / factor
    shifted = lens(camera)._replace(matrix=half_pixel)
    assert math.sqrt(((render(solid, shifted, pose).image - expected) ** 2).mean()) > 2.0


def test_use_case_6_of_rep_104():
    """752x480 imager, 2x2 binning, 200x300 window at (106, 70) of the imager."""
    k = [450.0, 0, 375.5, 0, 450.0, 239.5, 0, 0, 1]
    camera = camera_from_info(
        752, 480, k, D, 'plumb_bob', binning_x=2, binning_y=2, roi=(106, 70, 200, 300)
    )
    assert camera.size == (100, 150)
    expected = [[225, 0, (375.5 - 106 + 0.5) / 2 - 0.5], [0, 225, 84.5], [0, 0, 1]]
    np.testing.assert_allclose(camera.matrix, expected)
    assert camera.distortion == D


def test_binning_of_zero_is_one():
    for binning in (0, 1):
        camera = camera_from_info(*WHOLE, binning_x=binning, binning_y=binning)
        np.testing.assert_array_equal(camera.matrix, np.reshape(K, (3, 3)))


def rectification(tx=0.0):
    r = cv2.Rodrigues(np.array([0.02, -0.05, 0.01]))[0]
    p = np.array([[480.0, 0, 310, 480 * tx], [0, 480, 228, 0], [0, 0, 1, 0]])
    return r, p


def test_rectified_picture_has_p_and_no_distortion():
    r, p = rectification()
    camera = camera_from_info(*WHOLE, r.ravel(), p.ravel(), rectified=True)
    np.testing.assert_array_equal(camera.matrix, p[:, :3])
    assert camera.is_pinhole
    fisheye = camera_from_info(
        640, 480, K, (0.1, 0, 0, 0), 'equidistant', r.ravel(), p.ravel(), rectified=True
    )
    assert fisheye.is_pinhole, 'a rectified fisheye picture is an ordinary one'


@pytest.mark.parametrize('tx', [0.0, -0.12])
def test_raw_and_rectified_picture_show_the_same_point(tx):
    """What OpenCV's rectification maps onto each other is one point of the messages' frame."""
    r, p = rectification(tx)
    raw = camera_from_info(*WHOLE, r.ravel(), p.ravel())
    rectified = camera_from_info(*WHOLE, r.ravel(), p.ravel(), rectified=True)
    frame_from_raw = frame_from_camera(r.ravel(), p.ravel())
    frame_from_rectified = frame_from_camera(r.ravel(), p.ravel(), rectified=True)
    point = np.array([0.3, -0.2, 1.7])
    in_raw = np.linalg.inv(frame_from_raw) @ [*point, 1]
    in_rectified = np.linalg.inv(frame_from_rectified) @ [*point, 1]
    raw_pixel = raw.project(in_raw[:3])
    rectified_pixel = rectified.project(in_rectified[:3])
    homogeneous = p @ [*point, 1]
    np.testing.assert_allclose(rectified_pixel, homogeneous[:2] / homogeneous[2], atol=1e-9)
    mapped = cv2.undistortPoints(raw_pixel[None, None], raw.matrix, np.array(D), R=r, P=p)[0, 0]
    np.testing.assert_allclose(rectified_pixel, mapped, atol=0.01)
    assert frame_from_rectified[0, 3] == pytest.approx(-tx)


def test_a_frame_without_rectification_is_the_camera():
    np.testing.assert_array_equal(frame_from_camera(), np.eye(4))
    np.testing.assert_array_equal(frame_from_camera([0.0] * 9, [0.0] * 12), np.eye(4))


@pytest.mark.parametrize(
    ('model', 'distortion'), [('plumb_bob', ()), ('plumb_bob', D), ('equidistant', (0.1, 0, 0, 0))]
)
def test_there_and_back(model, distortion):
    camera = Camera(640, 480, np.reshape(K, (3, 3)), distortion, model)
    info = info_from_camera(camera)
    again = camera_from_info(**info)
    np.testing.assert_array_equal(again.matrix, camera.matrix)
    pixels = np.random.default_rng(0).uniform(0, 400, (20, 2))
    np.testing.assert_array_equal(again.unproject(pixels), camera.unproject(pixels))
    assert again.size == camera.size
    for name in ('d', 'k', 'r', 'p'):
        assert all(type(value) is float for value in info[name])
    assert type(info['width']) is int
    assert (len(info['k']), len(info['r']), len(info['p'])) == (9, 9, 12)


def test_simulators_leave_the_model_empty():
    assert camera_from_info(640, 480, K).is_pinhole
    assert camera_from_info(640, 480, K, [0.0] * 5).is_pinhole
    with pytest.raises(ValueError, match='distortion_model'):
        camera_from_info(640, 480, K, D)


FISHEYE = (-0.0014, 0.0424, -0.0395, 0.0067)


@pytest.mark.parametrize(
    ('model', 'd', 'meant'),
    [
        ('equidistant', (*FISHEYE, 0.0), FISHEYE),
        ('equidistant', (*FISHEYE, *[0.0] * 10), FISHEYE),
        ('equidistant', FISHEYE[:2], (*FISHEYE[:2], 0.0, 0.0)),
        ('equidistant', [0.0] * 5, ()),
        ('plumb_bob', (*D, 0.0), D),
        ('plumb_bob', (*D[:4], *[0.0] * 20), D[:4]),
        ('plumb_bob', D[:2], (*D[:2], 0.0, 0.0)),
        ('plumb_bob', (0.0,), ()),
        ('rational_polynomial', (*D, 0.01, 0.02), (*D, 0.01, 0.02, 0.0)),
        ('none', (), ()),
        ('None', [0.0] * 5, ()),
        ('Inverse Brown Conrady', [0.0] * 5, ()),
        ('inverse_brown_conrady', [0.0] * 4, ()),
    ],
)
def test_zeros_at_the_end_of_the_coefficients_mean_nothing(model, d, meant):
    camera = camera_from_info(640, 480, K, d, model)
    expected = Camera(640, 480, np.reshape(K, (3, 3)), meant, camera.distortion_model)
    assert (camera.distortion_model == 'equidistant') == (model == 'equidistant')
    pixels = np.random.default_rng(0).uniform(0, 400, (20, 2))
    np.testing.assert_array_equal(camera.unproject(pixels), expected.unproject(pixels))


@pytest.mark.parametrize(
    ('model', 'd'),
    [
        ('equidistant', (*FISHEYE, 0.1)),
        ('equidistant', (*FISHEYE, 0.0, 1e-9)),
        ('equidistant', (*FISHEYE, math.nan)),
        ('plumb_bob', (*[0.0] * 14, 0.1)),
        ('Inverse Brown Conrady', D),
    ],
)
def test_coefficients_that_have_no_meaning_are_refused(model, d):
    with pytest.raises(ValueError, match='distortion'):
        camera_from_info(640, 480, K, d, model)


@pytest.mark.parametrize(
    ('zero', 'in_p', 'in_r'), [(0.0, 10, 8), (-0.0, 10, 8), (0.0, 0, 0), (0.0, 3, 4)]
)
def test_a_projection_or_rotation_of_one_entry_is_not_set(zero, in_p, in_r):
    p, r = [zero] * 12, [zero] * 9
    p[in_p] = r[in_r] = 1.0
    camera = camera_from_info(*WHOLE, r, p)
    np.testing.assert_array_equal(camera.matrix, np.reshape(K, (3, 3)))
    np.testing.assert_array_equal(frame_from_camera(r, p), np.eye(4))
    np.testing.assert_array_equal(frame_from_camera(r, p, rectified=True), np.eye(4))
    with pytest.raises(ValueError, match='p: expected the 12 numbers of a calibrated'):
        camera_from_info(*WHOLE, r, p, rectified=True)
    with pytest.raises(ValueError, match='k: expected the 9 numbers of a calibrated'):
        camera_from_info(640, 480, r)


@pytest.mark.parametrize('place', [2, 3, 5, 7])
def test_a_projection_of_which_a_part_is_missing_is_refused(place):
    p = [0.0] * 10 + [1.0, 0.0]
    p[place] = 60.0
    with pytest.raises(ValueError, match='positive focal'):
        frame_from_camera((), p)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'k': [0.0] * 9}, 'k: expected the 9 numbers of a calibrated'),
        ({'k': [1.0] * 8}, 'k: expected the 9'),
        ({'k': [math.nan] * 9}, 'finite'),
        ({'k': [-520.0, *K[1:]]}, 'positive focal'),
        ({'p': [0.0] * 12, 'rectified': True}, 'p: expected the 12 numbers of a calibrated'),
        ({'r': [2.0, 0, 0, 0, 1, 0, 0, 0, 1]}, 'r: expected a rotation'),
        ({'r': [1.0, 0, 0, 0, 1, 0, 0, 0, -1]}, 'r: expected a rotation'),
        ({'r': [math.nan] * 9}, 'r: expected 3x3 finite'),
        ({'r': [1.0] * 4}, 'r: expected 9'),
        ({'d': [math.inf] * 5}, 'finite coefficients'),
        ({'distortion_model': 'fov'}, 'distortion_model'),
        ({'width': 0}, 'width'),
        ({'binning_x': 4_000_000_000}, 'binning_x'),
        ({'roi': (600, 0, 100, 100)}, 'roi: expected a window of 640x480'),
        ({'roi': (0, 0, 100, 0)}, 'roi'),
        ({'roi': (10, 10, 0, 0)}, 'roi'),
        ({'roi': (0, 0, 1, 1), 'binning_x': 2}, 'width'),
    ],
)
def test_refuses(change, message):
    good = {'width': 640, 'height': 480, 'k': K, 'd': D, 'distortion_model': 'plumb_bob'}
    with pytest.raises(ValueError, match=message):
        camera_from_info(**(good | change))


@pytest.mark.parametrize(
    'p',
    [
        [math.nan] * 12,
        [*[0.0] * 5, math.nan, *[0.0] * 6],
        [480.0, 0, 1, math.inf, 0, 480, 1, 0, 0, 0, 1, 0],
    ],
)
def test_refuses_a_frame_of_no_numbers(p):
    with pytest.raises(ValueError, match='finite'):
        frame_from_camera((), p)


def test_any_numbers_give_a_camera_or_a_reason():
    random = np.random.default_rng(3)
    odd = [0.0, -1.0, 1e-300, 1e300, math.nan, math.inf, 1.0, 500.0]
    cameras = 0
    for _ in range(2000):
        numbers = {
            'width': int(random.choice([0, 640, 640, 640, 2**32 - 1])),
            'height': 480,
            'k': np.where(random.random(9) < 0.04, random.choice(odd, 9), K).tolist(),
            'd': np.where(random.random(5) < 0.04, random.choice(odd, 5), D).tolist(),
            'distortion_model': str(random.choice(['plumb_bob', 'rational_polynomial', '', 'x'])),
            'r': np.where(random.random(9) < 0.05, random.choice(odd, 9), np.eye(3).ravel()),
            'binning_x': int(random.choice([0, 2, 2**32 - 1])),
            'roi': tuple(random.choice([0, 0, 0, 5, 300, 2**32 - 1], 4)),
        }
        try:
            camera = camera_from_info(**numbers)
        except ValueError as error:
            assert str(error)
            continue
        cameras += 1
        camera.project(np.array([[0, 0, 1.0], [5, 0, 1], [1e200, 1, 1]]))
        camera.unproject(np.array([[0.0, 0], [1e9, 3]]))
    assert cameras > 20


def test_projection_of_a_window_by_hand():
    camera = camera_from_info(*WHOLE, roi=(100, 50, 400, 300))
    pose = look_at([1.0, 0, 0.5])
    point = np.array([[0.05, 0.02, 0.1]])
    full = pixels_of(Lens(640, 480, np.reshape(K, (3, 3)), D), pose, point)
    np.testing.assert_allclose(pixels_of(lens(camera), pose, point), full - (100, 50), atol=1e-9)
