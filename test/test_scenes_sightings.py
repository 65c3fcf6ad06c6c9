"""What is kept of a depth camera's view for the training: enough to make the same guide again."""

import numpy as np
import pytest

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.guide import Measurement, guide
from nvs_ros.geometry.spherical import Spherical, pose_from_spherical
from nvs_ros.scenes.categories import make_object
from nvs_ros.scenes.dataset import DatasetSettings, draw_object, make_dataset
from nvs_ros.scenes.lighting import Lighting
from nvs_ros.scenes.render import LIGHT_IN_CAMERA, render
from nvs_ros.scenes.sensor import sighting
from nvs_ros.scenes.sightings import see

CAMERA = np.array([0.4, 0.5, 1.8])
TARGET = np.array([1.0, 0.3, 1.7])
SETTINGS = DatasetSettings(objects=3, views=3, size=32, categories=('mug', 'can'), guide=True)


@pytest.fixture(scope='module')
def mesh():
    return make_object('teapot', np.random.default_rng(3))


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    return make_dataset(SETTINGS, tmp_path_factory.mktemp('data'), workers=1)


def pose(camera):
    return pose_from_spherical(Spherical(*map(float, camera)))


def test_the_guide_of_what_is_kept_is_that_of_the_frame(mesh):
    lens, target = Camera.canonical(128), Camera.canonical(64)
    made = render(mesh, pose(CAMERA), lens.matrix, 128, 128)
    frame = Measurement.of_picture(
        made.image, made.mask >= 128, lens, pose(CAMERA), 1.0, made.depth_m
    )
    wanted = guide(frame, target, pose(TARGET))
    kept = guide(see(mesh, CAMERA, 64, None).measurement(), target, pose(TARGET))
    assert (wanted[3] != kept[3]).mean() < 0.01 and np.array_equal(wanted[4], kept[4])
    both = (wanted[3] > 0) & (kept[3] > 0)
    assert both.sum() > 100
    assert np.abs(wanted[:3, both] - kept[:3, both]).mean() < 0.02


def test_a_dataset_keeps_each_view_and_joins_them(dataset):
    drawn = draw_object(SETTINGS, 1)
    sightings = dataset.sightings
    assert np.array_equal(dataset.images[1], drawn.images)
    assert np.array_equal(dataset.sources[1], [seen.source for seen in drawn.seen])
    camera = drawn.cameras[2]
    single = sightings.guide(1, [0], camera, depth=True)
    wanted = guide(drawn.seen[0].measurement(), Camera.canonical(32), pose(camera))
    assert np.array_equal(single, wanted)
    both = sightings.guide(1, [0, 1], camera, depth=True)
    assert both[3].sum() >= single[3].sum() and both[4].sum() <= single[4].sum()
    alone = sightings.guide(1, [0], camera, depth=False)
    assert not alone[:4].any() and alone[4].sum() >= single[4].sum()


def test_a_dataset_is_the_same_each_time(dataset, tmp_path):
    again = make_dataset(SETTINGS, tmp_path, workers=2)
    for name in ('sources', 'points', 'offsets', 'cells'):
        assert np.array_equal(getattr(again.sightings, name), getattr(dataset.sightings, name))


def test_sensors_have_faults_but_see_the_object(mesh):
    made = render(mesh, pose(CAMERA), Camera.canonical(128).matrix, 128, 128)
    solid = made.mask >= 128
    wrong_masks = holes = occluded = moved = 0
    for seed in range(60):
        seen = sighting(made, pose(CAMERA), np.random.default_rng(seed))
        assert seen.solid.sum() > 0.25 * solid.sum()
        assert not (seen.solid & seen.unknown).any()
        holes += bool((np.isnan(seen.depth) & solid & ~seen.unknown).any())
        occluded += bool(seen.unknown.any())
        wrong_masks += bool((seen.solid != (solid & ~seen.unknown)).any())
        moved += not np.array_equal(seen.object_from_camera, pose(CAMERA))
        error = np.abs(seen.depth - made.depth_m)[solid & ~seen.unknown]
        assert np.nanmedian(error) < 0.03
    assert 10 < wrong_masks < 40 and 15 < holes < 55 and 2 < occluded < 25 and 5 < moved < 30


def test_light_stands_in_the_world_or_turns_with_the_camera():
    assert np.array_equal(Lighting().seen_from(pose(CAMERA))['light'], LIGHT_IN_CAMERA)
    kinds = set()
    for seed in range(20):
        lighting = Lighting.random(np.random.default_rng(seed))
        kinds.add(lighting.with_camera)
        assert np.linalg.norm(lighting.towards) == pytest.approx(1)
        lights = [lighting.seen_from(pose(c))['light'] for c in (CAMERA, TARGET)]
        if lighting.with_camera:
            assert np.array_equal(*lights)
        else:
            in_world = [
                pose(c)[:3, :3] @ light for c, light in zip((CAMERA, TARGET), lights, strict=True)
            ]
            assert np.allclose(*in_world) and in_world[0][2] > 0
    assert kinds == {True, False}
