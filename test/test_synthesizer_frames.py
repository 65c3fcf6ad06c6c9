"""Several frames of one object: which one the network is shown, and what all of them say."""

import dataclasses

import numpy as np
import pytest
from completion_scene import SIZE_M, box

from nvs_ros.geometry import Camera, Spherical, pose_from_spherical, target_from_pose
from nvs_ros.hero.presets import preset
from nvs_ros.observation import measurement_of
from nvs_ros.scenes.render import render
from nvs_ros.synthesizer import Frame, Synthesizer

QUICK = preset(early_steps=2, middle_steps=1, late_steps=1, resampling_passes=2)
PLAIN = dataclasses.replace(QUICK, mutual_self_attention=False)
RANDOM = dataclasses.replace(PLAIN, stochastic_conditioning=True)
LENS = Camera(80, 60, [[90.0, 0, 39.5], [0, 90, 29.5], [0, 0, 1]])


def camera_at(azimuth_deg, elevation_deg=20.0, radius=0.36):
    angles = np.radians([azimuth_deg, elevation_deg])
    return pose_from_spherical(Spherical(*angles, radius))


def frame_at(azimuth_deg, depth=True, size_m=SIZE_M):
    """The box from a side."""
    pose = camera_at(azimuth_deg)
    made = render(box(), pose, LENS.matrix, LENS.width, LENS.height)
    return Frame(made.image, made.mask, LENS, pose, size_m, made.depth_m if depth else None)


FRAMES = [frame_at(0), frame_at(120), frame_at(240)]


@pytest.fixture(scope='module')
def synthesizer():
    return Synthesizer.from_pretrained('embedded', device='cpu')


@pytest.fixture(scope='module')
def observation(synthesizer):
    return synthesizer.observe(FRAMES)


def target_at(observation, azimuth_deg, elevation_deg=30.0):
    pose = camera_at(azimuth_deg, elevation_deg, 0.34)
    return target_from_pose(observation.source, observation.source.camera, pose)


def image(synthesizer, observation, target, settings=PLAIN, seed=3):
    (view,) = synthesizer.synthesize(observation, [target], settings, seed=seed, keep=False)
    return view.image


@pytest.mark.parametrize('settings', [PLAIN, QUICK], ids=['plain', 'mutual'])
@pytest.mark.parametrize(('azimuth_deg', 'nearest'), [(-50, 0), (70, 1), (170, 1), (200, 2)])
def test_the_network_is_shown_the_nearest_frame(
    synthesizer, observation, azimuth_deg, nearest, settings
):
    target = target_at(observation, azimuth_deg)
    assert observation.nearest(target) == nearest
    alone = synthesizer.observe(FRAMES[nearest], observation.measurement)
    expected = image(synthesizer, alone, target_at(alone, azimuth_deg), settings)
    made = image(synthesizer, observation, target, settings)
    # Pictures encoded together round otherwise.
    assert np.abs(made.astype(int) - expected).max() <= 1


def test_viewpoints_are_counted_from_the_first_frame(synthesizer, observation):
    (view,) = synthesizer.synthesize(observation, [target_at(observation, 110.0)], PLAIN)
    assert np.degrees(view.relative.delta_azimuth_rad) == pytest.approx(110.0)


def test_all_frames_say_what_the_object_is_like(observation):
    parts = [measurement_of([frame], SIZE_M) for frame in FRAMES]
    together = observation.measurement
    assert len(together.surface.points) == sum(len(part.surface.points) for part in parts)
    assert 0 < together.possible.sum() < min(part.possible.sum() for part in parts)


def test_pixels_of_all_frames_are_kept(synthesizer, observation):
    """From above the middle between two cameras, each of which sees another side."""
    target = target_at(observation, 60.0)
    shares = [
        synthesizer.synthesize(seen, [target], PLAIN)[0].measured_share
        for seen in (observation, synthesizer.observe(FRAMES[0]))
    ]
    assert shares[0] > 1.5 * shares[1] > 0


def test_the_size_is_that_of_the_first_frame(synthesizer):
    frames = [frame_at(0), frame_at(120, size_m=2 * SIZE_M), frame_at(240, size_m=None)]
    observation = synthesizer.observe(frames)
    assert [source.view.unit_m for source in observation.sources] == [SIZE_M] * 3


def test_a_view_does_not_depend_on_the_rest_of_its_batch(synthesizer, observation):
    targets = [target_at(observation, azimuth_deg) for azimuth_deg in (10, 100, 130, 250)]
    for settings in (QUICK, RANDOM):
        views = synthesizer.synthesize(observation, targets, settings, seed=3, keep=False)
        for view, target in zip(views, targets, strict=True):
            alone = image(synthesizer, observation, target, settings)
            assert np.abs(view.image.astype(int) - alone).max() <= 1


def test_the_source_branch_of_each_frame_is_remembered(synthesizer):
    synthesizer = Synthesizer(synthesizer.components)
    observation = synthesizer.observe(FRAMES)
    rows = []
    hook = synthesizer.components.unet.register_forward_pre_hook(
        lambda _, args: rows.append(len(args[0]))
    )
    first = []
    try:
        for azimuth_deg in (10, 130, -10, 110):
            rows.clear()
            image(synthesizer, observation, target_at(observation, azimuth_deg), QUICK)
            first.append(rows[0])
    finally:
        hook.remove()
    assert first == [4, 4, 2, 2]


def test_stochastic_conditioning_shows_all_frames(synthesizer, observation):
    target = target_at(observation, 60.0)
    made = image(synthesizer, observation, target, RANDOM)
    assert np.array_equal(made, image(synthesizer, observation, target, RANDOM))
    assert not np.array_equal(made, image(synthesizer, observation, target, PLAIN))
    shown = []
    hook = synthesizer.components.unet.register_forward_pre_hook(
        lambda _, args: shown.append(args[0][-1, 4:8])
    )
    try:
        image(synthesizer, observation, target, dataclasses.replace(RANDOM, resampling_passes=8))
    finally:
        hook.remove()
    latents = [source.condition.latent[0] for source in observation.sources]
    places = [[i for i, latent in enumerate(latents) if (latent == one).all()] for one in shown]
    assert {place for (place,) in places} == {0, 1, 2}


def test_with_one_frame_nothing_is_drawn(synthesizer):
    observation = synthesizer.observe(FRAMES[0])
    target = target_at(observation, 60.0)
    assert np.array_equal(
        image(synthesizer, observation, target, RANDOM),
        image(synthesizer, observation, target, PLAIN),
    )


def test_no_frame_is_refused(synthesizer):
    with pytest.raises(ValueError, match='frames: expected one or more, got none'):
        synthesizer.observe([])
