"""From pictures to the canonical view: background, resolution, size, zoom, photographs."""

import math

import cv2
import numpy as np
import pytest
from analytic_renderer import Lens, Solid, render

from nvs_ros.geometry import (
    Camera,
    Spherical,
    canonical_view,
    look_at,
    photograph_view,
    pose_from_spherical,
    spherical_from_pose,
)


def pinhole(width, height, focal):
    matrix = [[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]]
    return Camera(width, height, matrix)


def lens(camera):
    return Lens(camera.width, camera.height, camera.matrix, camera.distortion)


CAMERA = pinhole(320, 240, 300)
BOX = Solid((0.1, 0.08, 0.06))
POSE = look_at([0.3, 0.2, 0.12])


def view_of(picture, **options):
    options = {'object_size_m': BOX.size_m, 'image_size': 128} | options
    return canonical_view(picture.image, picture.mask >= 128, CAMERA, POSE, **options)


@pytest.mark.parametrize('colour', [(255, 0, 255), (0, 0, 0)])
def test_background_does_not_come_in(colour):
    """A green background, an object without green: no greenish pixel in the canonical picture."""
    picture = render(BOX, lens(CAMERA), POSE)
    solid = picture.mask >= 128
    image = np.where(solid[..., None], np.uint8(colour), np.uint8((0, 255, 0)))
    view = canonical_view(image, solid, CAMERA, POSE, object_size_m=BOX.size_m, image_size=128)
    red, green, blue = (view.image[..., i].astype(int) for i in range(3))
    assert (green - np.minimum(red, blue) <= 1).all()
    alpha = view.mask / 255.0
    expected = alpha[..., None] * colour + 255 * (1 - alpha[..., None])
    assert np.abs(view.image - expected).max() < 6, 'edge pixels are object over white'
    assert ((view.mask > 20) & (view.mask < 235)).sum() > 30, 'the edge is soft'
    assert (view.image[view.mask == 0] == 255).all()


def test_soft_mask_is_taken_as_coverage():
    picture = render(BOX, lens(CAMERA), POSE)
    view = canonical_view(
        picture.image, picture.mask, CAMERA, POSE, object_size_m=BOX.size_m, image_size=128
    )
    true = render(BOX, lens(view.camera), view.object_from_camera)
    assert np.abs(view.mask.astype(int) - true.mask).mean() < 1


@pytest.mark.parametrize('scale', [1, 2, 4])
def test_fine_stripes_are_averaged_not_aliased(scale):
    """One-pixel stripes of a large picture become their mean, at any reduction."""
    camera = pinhole(320 * scale, 240 * scale, 300 * scale)
    image = np.zeros((240 * scale, 320 * scale, 3), np.uint8)
    image[:, ::2] = 200
    mask = np.ones(image.shape[:2], bool)
    view = canonical_view(image, mask, camera, POSE, object_size_m=0.2, image_size=32)
    middle = view.image[8:24, 8:24].astype(float)
    assert middle.mean() == pytest.approx(100, abs=2)
    assert middle.std() < 6


def test_rays_beyond_the_fold_of_the_lens_are_white():
    """r (1 - 0.3 r^2): the canonical picture reaches beyond r = 1.054, where the lens ends."""
    camera = Camera(240, 240, [[150, 0, 119.5], [0, 150, 119.5], [0, 0, 1]], (-0.3, 0, 0, 0))
    aim = cv2.Rodrigues(np.array([0, -math.atan(0.9), 0]))[0]
    pose = look_at([0.36, 0, 0])
    pose[:3, :3] = pose[:3, :3] @ aim
    image, mask = np.full((240, 240, 3), 100, np.uint8), np.ones((240, 240), bool)
    view = canonical_view(image, mask, camera, pose, object_size_m=0.2, image_size=64)
    y, x = np.mgrid[:64, :64]
    slopes = np.stack([x - 31.5, y - 31.5, np.full(x.shape, 70.0)], axis=-1)
    slopes = slopes @ (pose[:3, :3].T @ view.object_from_camera[:3, :3]).T
    radius = np.hypot(slopes[..., 0], slopes[..., 1]) / slopes[..., 2]
    beyond = (radius > 1.07) | (slopes[..., 2] <= 0)
    assert beyond.sum() > 500
    assert (view.mask[beyond] == 0).all()
    assert (view.image[beyond] == 255).all()
    assert (view.mask[radius < 0.9] > 200).any()


def test_within_the_range_nothing_is_zoomed():
    view = view_of(render(BOX, lens(CAMERA), POSE))
    distance = np.linalg.norm(POSE[:3, 3])
    assert view.radius == pytest.approx(distance / 0.2)
    assert view.unit_m == 0.2
    np.testing.assert_allclose(view.camera.matrix, Camera.canonical(128).matrix)
    assert view.assumptions == ()
    assert view.spherical.radius == pytest.approx(distance)


@pytest.mark.parametrize('distance', [0.24, 0.9])
def test_digital_zoom_out_of_the_range(distance):
    """The object has the size in the picture that it has for the network at the stated radius."""
    ball = Solid((0.1, 0.1, 0.1), 'ellipsoid')
    camera = pinhole(640, 480, 420)
    pose = look_at(distance * np.array([0.8, 0, 0.6]))
    picture = render(ball, lens(camera), pose)
    view = canonical_view(
        picture.image, picture.mask >= 128, camera, pose, object_size_m=0.2, image_size=128
    )
    assert view.radius == pytest.approx(1.85)
    slope = math.tan(math.asin(0.1 / distance)) * (distance / 0.2) / view.radius
    width = (view.mask[64] / 255).sum()
    assert width == pytest.approx(2 * slope * 140, abs=0.5)
    assert 'zoomed digitally' in view.assumptions[0]


def test_size_given_beats_everything():
    picture = render(BOX, lens(CAMERA), POSE)
    view = view_of(picture, object_size_m=0.19, depth_m=picture.depth_m)
    assert view.unit_m == 0.19


@pytest.mark.parametrize('kind', ['box', 'ellipsoid'])
def test_size_from_depth(kind):
    random = np.random.default_rng(0)
    for _ in range(20):
        solid = Solid(tuple(random.uniform(0.04, 0.12, 3)), kind)
        direction = random.normal(size=3)
        pose = look_at(direction / np.linalg.norm(direction) * solid.size_m * 1.9)
        picture = render(solid, lens(CAMERA), pose)
        depth = picture.depth_m + random.normal(0, 0.001, picture.depth_m.shape)
        depth[np.isnan(depth)] = 2.5
        depth[random.random(depth.shape) < 0.2] = 0
        depth[random.random(depth.shape) < 0.1] = np.nan
        view = view_of_pose(solid, picture, pose, depth_m=depth)
        assert view.unit_m == pytest.approx(solid.size_m, rel=0.1)
        assert 'from the depth' in view.assumptions[0]


def view_of_pose(solid, picture, pose, **options):
    return canonical_view(
        picture.image, picture.mask >= 128, CAMERA, pose, image_size=64, **options
    )


def test_size_from_the_mask_says_so():
    ball = Solid((0.1, 0.1, 0.1), 'ellipsoid')
    picture = render(ball, lens(CAMERA), POSE)
    view = view_of_pose(ball, picture, POSE)
    assert view.unit_m == pytest.approx(0.2, rel=0.06)
    assert 'extent of the mask' in view.assumptions[0]
    unknown = np.full(picture.depth_m.shape, np.nan)
    again = view_of_pose(ball, picture, POSE, depth_m=unknown)
    assert again.unit_m == view.unit_m
    assert 'extent of the mask' in again.assumptions[0]


def test_depth_that_contradicts_the_pose_is_mentioned():
    picture = render(BOX, lens(CAMERA), POSE)
    view = view_of_pose(BOX, picture, POSE, depth_m=picture.depth_m + 1.0)
    assert 'no depth' in ' '.join(view.assumptions)
    assert 'extent of the mask' in ' '.join(view.assumptions)


def test_object_that_is_cut_off_is_mentioned():
    pose = POSE.copy()
    pose[:3, :3] = pose[:3, :3] @ cv2.Rodrigues(np.array([0, 0.42, 0]))[0]
    picture = render(BOX, lens(CAMERA), pose)
    assert picture.mask[:, [0, -1]].any()
    view = view_of_pose(BOX, picture, pose, object_size_m=0.2)
    assert any('cut off' in text for text in view.assumptions)
    small = view_of_pose(BOX, render(BOX, lens(CAMERA), POSE), POSE, object_size_m=0.12)
    assert any('larger than the canonical' in text for text in small.assumptions)


def test_straight_down():
    """A wrist camera over the object: its own up stays up, whatever way it is turned."""
    for angle in (0.0, 1.0, 2.5, -2.0):
        up = np.array([math.cos(angle), math.sin(angle), 0])
        pose = look_at([0.004, -0.003, 0.4], up)
        picture = render(BOX, lens(CAMERA), pose)
        view = view_of_pose(BOX, picture, pose, object_size_m=0.2)
        assert (pose[:3, :3].T @ view.object_from_camera[:3, :3])[1, 1] > 0.999
        true = render(BOX, lens(view.camera), view.object_from_camera)
        assert np.abs(view.image.astype(int) - true.image).mean() < 2
        assert math.remainder(view.spherical.azimuth_rad - angle - math.pi, 2 * math.pi) == (
            pytest.approx(0, abs=0.02)
        )


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'image': np.zeros((240, 320), np.uint8)}, r'image: expected uint8 \(H, W, 3\)'),
        ({'image': np.zeros((240, 320, 3), float)}, 'image: expected uint8'),
        ({'image': np.zeros((24, 32, 3), np.uint8)}, 'mask: expected bool or uint8'),
        ({'mask': np.zeros((240, 320), bool)}, 'mask: expected some object pixels'),
        ({'mask': np.zeros((240, 320), np.uint8)}, 'mask: expected some object pixels'),
        ({'mask': np.ones((240, 320), np.int32)}, 'mask: expected bool or uint8'),
        ({'camera': pinhole(640, 480, 300)}, 'expected 640x480 as the camera says'),
        ({'pose': np.full((4, 4), np.nan)}, 'object_from_camera: expected 4x4 finite'),
        ({'pose': look_at([0.3, 0.2, 0.12]) @ np.diag([-1, 1, -1, 1])}, 'got one behind'),
        ({'pose': look_at([0.05, 0, 0])}, 'camera outside the object'),
        ({'pose': np.eye(4)}, 'off the origin'),
        ({'object_size_m': 0.0}, 'object_size_m: expected a positive'),
        ({'object_size_m': math.nan}, 'object_size_m'),
        ({'object_size_m': None, 'depth_m': np.zeros((2, 2))}, 'depth_m: expected'),
        ({'image_size': 0}, 'width'),
    ],
)
def test_refuses(change, message):
    arguments = {
        'image': np.zeros((240, 320, 3), np.uint8),
        'mask': np.pad(np.ones((20, 20), bool), ((110, 110), (150, 150))),
        'camera': CAMERA,
        'pose': POSE,
        'object_size_m': 0.2,
    } | change
    positional = [arguments.pop(name) for name in ('image', 'mask', 'camera', 'pose')]
    with pytest.raises(ValueError, match=message):
        canonical_view(*positional, **arguments)


def test_mask_nowhere_near_the_pose():
    """The pose says ahead, the mask is 100 degrees to the side of it."""
    camera = Camera(400, 400, [[100, 0, 199.5], [0, 100, 199.5], [0, 0, 1]], (), 'equidistant')
    mask = np.zeros((400, 400), bool)
    mask[190:210, 375:385] = True
    image = np.zeros((400, 400, 3), np.uint8)
    with pytest.raises(ValueError, match='mask: expected it near the object'):
        canonical_view(image, mask, camera, look_at([1.0, 0, 0]))


def photograph():
    image = np.full((200, 300, 3), 90, np.uint8)
    mask = np.zeros((200, 300), bool)
    mask[50:90, 100:180] = True
    image[mask] = (200, 30, 30)
    return image, mask


def test_photograph_is_cropped_scaled_and_centred():
    view = photograph_view(*photograph(), image_size=256, elevation_rad=0.3)
    rows, columns = np.nonzero(view.mask >= 128)
    assert (columns.min(), columns.max()) == (28, 227)
    assert (rows.min(), rows.max()) == (78, 177)
    assert view.radius == pytest.approx(1.4)
    assert spherical_from_pose(view.object_from_camera) == Spherical(
        pytest.approx(0), pytest.approx(0.3), pytest.approx(1.4)
    )
    assert view.unit_m == 1
    assert any('17 degrees' in text for text in view.assumptions)
    assert (view.image[0] == 255).all()


@pytest.mark.parametrize('value', [1, 7, 127])
def test_a_mask_of_any_value_above_0_is_that_of_yes_and_no(value):
    image, mask = photograph()
    expected = photograph_view(image, mask)
    found = photograph_view(image, mask.astype(np.uint8) * value)
    assert np.array_equal(found.mask, expected.mask)
    assert np.array_equal(found.image, expected.image)


def test_a_photograph_that_is_all_object_is_said_so():
    image, mask = photograph()
    assert not any('edge' in said for said in photograph_view(image, mask).assumptions)
    mask[:, :40] = 255
    (said,) = (said for said in photograph_view(image, mask).assumptions if 'edge' in said)
    assert said == 'the mask touches the edge of the picture: the object may be cut off'


def test_photograph_like_the_original_demo_is_not_enlarged():
    view = photograph_view(*photograph(), image_size=256, enlarge=False)
    columns = np.nonzero(view.mask >= 128)[1]
    assert np.ptp(columns) + 1 == 80
    assert view.radius == pytest.approx(280 / 80)


def test_large_photograph_is_reduced_smoothly():
    image = np.zeros((1500, 2000, 3), np.uint8)
    image[::2] = 160
    view = photograph_view(image, np.ones((1500, 2000), bool), image_size=64)
    assert view.image[24:40, 16:48].astype(float).std() < 3


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'fill': 0}, 'fill'),
        ({'fill': math.nan}, 'fill'),
        ({'elevation_rad': 2.0}, 'elevation_rad'),
        ({'image_size': -3}, 'width'),
    ],
)
def test_photograph_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        photograph_view(*photograph(), **options)


def test_pose_of_the_view_is_that_of_the_camera():
    view = view_of(render(BOX, lens(CAMERA), POSE))
    np.testing.assert_array_equal(view.object_from_camera[:3, 3], POSE[:3, 3])
    np.testing.assert_allclose(
        pose_from_spherical(view.spherical), view.object_from_camera, atol=1e-9
    )


@pytest.mark.parametrize('focal', [1e8, 1e150, 1e300])
def test_a_focal_length_beyond_all_reason_is_an_object_too_small(focal):
    image, mask = np.zeros((240, 320, 3), np.uint8), np.full((240, 320), 255, np.uint8)
    with pytest.raises(ValueError, match='too small'):
        canonical_view(image, mask, pinhole(320, 240, focal), POSE, object_size_m=BOX.size_m)
