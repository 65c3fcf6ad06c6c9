"""The conventions proven against a renderer, for 200 random pairs of cameras.

Source: the ray-traced picture of a real camera (lens, window, binning, roll, off-centre aim,
clutter behind the object, a mask of yes and no) becomes the canonical view and is compared with the
picture traced for the canonical camera. Target: the true canonical picture stands in for the
network, goes back to an asked camera, and is compared with the picture traced for that one.
"""

import math

import cv2
import numpy as np
import pytest
from analytic_renderer import Lens, Solid, pixels_of, rays_of, render
from scipy.spatial.transform import Rotation

from nvs_ros.geometry import (
    Camera,
    camera_from_info,
    canonical_pose,
    canonical_view,
    look_at,
    target_from_pose,
)

PAIRS = 200
SOURCE_SIZE, TARGET_SIZE = 128, 256
LENSES = (
    ('plumb_bob', (0, 0, 0, 0, 0)),
    ('plumb_bob', (0.3, 0.1, 0.003, 0.003, 0.02)),
    ('rational_polynomial', (0.3, 0.1, 0.003, 0.003, 0.02, 0.2, 0.05, 0.01)),
    ('equidistant', (0.05, 0.02, 0.01, 0.003)),
)
"""Model and the largest coefficients that are drawn."""


def lens_of(camera):
    return Lens(
        camera.width,
        camera.height,
        camera.matrix,
        camera.distortion,
        camera.distortion_model == 'equidistant',
    )


def random_camera(random, model, scale, binning):
    focal_x, ratio = random.uniform(420, 620), random.uniform(0.97, 1.03)
    centre = random.uniform((300, 220), (340, 260))
    window = (*random.integers((0, 0), (80, 60)), *random.integers((480, 360), (560, 420)))
    return camera_from_info(
        640,
        480,
        [focal_x, 0, centre[0], 0, focal_x * ratio, centre[1], 0, 0, 1],
        (random.uniform(-1, 1, len(scale)) * scale).tolist(),
        model,
        binning_x=binning,
        binning_y=binning,
        roi=window if random.random() < 0.5 else (0, 0, 0, 0),
    )


def random_pose(random, solid, camera, size):
    """Any direction, roll and aim for which the object is in this picture and in the canonical."""
    lens, canonical = lens_of(camera), Camera.canonical(size)
    while True:
        direction = random.normal(size=3)
        position = solid.size_m * random.uniform(1.5, 2.2) * direction / np.linalg.norm(direction)
        level = look_at(position, random.normal(size=3))
        aim = rays_of(lens, random.uniform(0.35, 0.65, (1, 2)) * camera.size)
        roll = Rotation.from_euler('z', random.uniform(-math.pi, math.pi))
        turn = roll * Rotation.align_vectors([[0, 0, 1.0]], aim)[0]
        pose = level.copy()
        pose[:3, :3] = level[:3, :3] @ turn.as_matrix()
        if (
            camera.contains(pixels_of(lens, pose, solid.corners)).all()
            and canonical.contains(
                pixels_of(lens_of(canonical), canonical_pose(pose), solid.corners)
            ).all()
        ):
            return pose


def psnr(image, true):
    """Inside the true mask, decibels."""
    error = (image.astype(float) - true.image)[true.mask >= 128]
    return 10 * math.log10(255**2 / (error**2).mean())


def dots(camera, pose, points):
    """A picture with a soft dark dot at each of 4 points, one for each channel."""
    y, x = np.mgrid[: camera.height, : camera.width]
    centres = pixels_of(lens_of(camera), pose, points)
    squared = (x[..., None] - centres[:, 0]) ** 2 + (y[..., None] - centres[:, 1]) ** 2
    darkness = 200 * np.exp(-squared / (2 * 2.5**2))
    darkness[..., 3] *= -1
    return np.rint(np.array([255, 255, 255, 0]) - darkness).astype(np.uint8)


def dot_errors(image, mask, camera, pose, points):
    """Distance in pixels of the dots' centroids from where the points are; dots in the picture."""
    darkness = np.dstack([255.0 - image, mask])
    y, x = np.mgrid[: camera.height, : camera.width]
    weight = darkness.sum(axis=(0, 1))
    found = np.stack([(x[..., None] * darkness).sum((0, 1)), (y[..., None] * darkness).sum((0, 1))])
    return np.linalg.norm((found / weight).T - pixels_of(lens_of(camera), pose, points), axis=1)


@pytest.fixture(scope='module')
def measured():
    """Of each pair: PSNR of source and target, errors of the corners in pixels."""
    random = np.random.default_rng(20)
    clutter = random.integers(0, 256, (480, 640, 3)).astype(np.uint8)
    clutter = cv2.GaussianBlur(clutter, (0, 0), 1.5)
    result = {'source': [], 'target': [], 'overlap': [], 'corners': []}
    for index in range(PAIRS):
        half = random.uniform(0.3, 1, 3)
        half *= random.uniform(0.05, 0.2) / half.max()
        solid = Solid(tuple(half), ('box', 'ellipsoid')[index % 2], index)
        source = random_camera(random, *LENSES[index % 4], 1 + index % 2)
        pose = random_pose(random, solid, source, SOURCE_SIZE)
        background = clutter[: source.height, : source.width]
        picture = render(solid, lens_of(source), pose, background)
        view = canonical_view(
            picture.image,
            picture.mask >= 128,
            source,
            pose,
            object_size_m=solid.size_m,
            image_size=SOURCE_SIZE,
        )
        true = render(solid, lens_of(view.camera), view.object_from_camera)
        result['source'].append(psnr(view.image, true))
        solid_view, solid_true = view.mask >= 128, true.mask >= 128
        result['overlap'].append((solid_view & solid_true).sum() / (solid_view | solid_true).sum())
        asked = random_camera(random, *LENSES[index // 4 % 4], 3)
        asked_pose = random_pose(random, solid, asked, TARGET_SIZE)
        view = canonical_view(
            picture.image,
            picture.mask >= 128,
            source,
            pose,
            object_size_m=solid.size_m,
            image_size=TARGET_SIZE,
        )
        target = target_from_pose(view, asked, asked_pose)
        canonical = target.canonical_camera, target.object_from_canonical
        network = render(solid, lens_of(canonical[0]), canonical[1])
        image, mask = target.warp_back(network.image, network.mask)
        true = render(solid, lens_of(asked), asked_pose)
        result['target'].append(psnr(image, true))
        points = 0.6 * solid.corners[[0, 3, 5, 6]]
        drawn = dots(*canonical, points)
        warped = target.warp_back(np.ascontiguousarray(drawn[..., :3]), drawn[..., 3].copy())
        result['corners'].append(dot_errors(*warped, asked, asked_pose, points))
    return {name: np.array(values) for name, values in result.items()}


def test_source_to_canonical(measured):
    print(f'source PSNR: min {measured["source"].min():.1f} median', np.median(measured['source']))
    assert measured['source'].min() > 35
    assert np.median(measured['source']) > 39
    assert measured['overlap'].min() > 0.97
    assert np.median(measured['overlap']) > 0.99


def test_canonical_to_asked(measured):
    print(f'target PSNR: min {measured["target"].min():.1f} median', np.median(measured['target']))
    assert measured['target'].min() > 35
    assert np.median(measured['target']) > 42


def test_object_points_land_where_the_asked_camera_has_them(measured):
    print(f'corners: max {measured["corners"].max():.3f} median', np.median(measured['corners']))
    assert np.median(measured['corners']) < 0.05
    assert measured['corners'].max() < 0.5
