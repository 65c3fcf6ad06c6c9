import dataclasses

import numpy as np
import pytest
import torch

from nvs_ros.geometry.camera import Camera
from nvs_ros.geometry.canonical import photograph_view
from nvs_ros.geometry.spherical import Spherical, pose_from_spherical
from nvs_ros.geometry.target import target_from_angles, target_from_pose
from nvs_ros.hero.presets import preset
from nvs_ros.silhouette import silhouette
from nvs_ros.synthesizer import Frame, Synthesizer

QUICK = preset(early_steps=2, middle_steps=2, late_steps=2, resampling_passes=2)


@pytest.fixture(scope='module')
def synthesizer():
    return Synthesizer.from_pretrained('embedded', device='cpu')


@pytest.fixture(scope='module')
def observation(synthesizer):
    image = np.full((120, 160, 3), 90, np.uint8)
    image[30:90, 50:110] = (200, 40, 40)
    mask = np.zeros((120, 160), np.uint8)
    mask[30:90, 50:110] = 255
    size = synthesizer.components.image_size
    return synthesizer.observe(photograph_view(image, mask, image_size=size))


def targets_at(observation, *azimuths_rad):
    return [target_from_angles(observation.source, azimuth, 0.1) for azimuth in azimuths_rad]


def test_further_views_of_a_frame_need_no_source_branch(synthesizer, observation):
    synthesizer = Synthesizer(synthesizer.components)
    sizes = []
    hook = synthesizer.components.unet.register_forward_pre_hook(
        lambda _, args: sizes.append(len(args[0]))
    )
    other = synthesizer.observe(observation.source)
    try:
        for seen, settings, seed, rows in (
            (observation, QUICK, 0, 4),
            (observation, QUICK, 0, 2),
            (observation, QUICK, 1, 4),
            (observation, dataclasses.replace(QUICK, guidance_scale=2.0), 0, 4),
            (observation, QUICK, 0, 2),
            (other, dataclasses.replace(QUICK, mutual_self_attention=False), 0, 2),
            (observation, QUICK, 0, 2),
            (other, QUICK, 0, 4),
        ):
            sizes.clear()
            synthesizer.synthesize(seen, targets_at(observation, 1.0), settings, seed=seed)
            assert sizes[0] == rows
    finally:
        hook.remove()


def test_same_seed_same_view_and_another_seed_another(synthesizer, observation):
    targets = targets_at(observation, 1.0)
    first, again, other = (
        synthesizer.synthesize(observation, targets, QUICK, seed=seed)[0].image
        for seed in (5, 5, 6)
    )
    assert np.abs(first.astype(int) - again).max() <= 1, 'again without a source branch'
    assert not np.array_equal(first, other)


def test_a_view_does_not_depend_on_the_rest_of_its_batch(synthesizer, observation):
    targets = targets_at(observation, 1.0, -2.0, 2.5)
    together = synthesizer.synthesize(observation, targets, QUICK, seed=1)
    alone = synthesizer.synthesize(observation, targets[1:2], QUICK, seed=1)
    difference = together[1].image.astype(int) - alone[0].image.astype(int)
    assert np.abs(difference).max() <= 2
    assert not np.array_equal(together[0].image, together[1].image)


@pytest.mark.parametrize('mutual', [True, False])
def test_each_target_may_have_its_seed(synthesizer, observation, mutual):
    settings = dataclasses.replace(QUICK, mutual_self_attention=mutual)
    targets = targets_at(observation, 1.0, 1.0, -2.0)
    seen = []
    views = synthesizer.synthesize(
        observation,
        targets,
        settings,
        seed=[7, 3, 7],
        callback=lambda state: seen.append((state['evaluation'], state['evaluations'])),
    )
    assert [view.seed for view in views] == [7, 3, 7]
    total = 16 if mutual else 8
    assert seen == [(n, total) for n in range(1, total + 1)]
    for target, view in zip(targets, views, strict=True):
        (alone,) = synthesizer.synthesize(observation, [target], settings, seed=view.seed)
        difference = view.image.astype(int) - alone.image.astype(int)
        assert np.abs(difference).max() <= 2
    assert not np.array_equal(views[0].image, views[1].image)


@pytest.mark.parametrize(
    ('seed', 'message'),
    [(-1, 'got -1'), ([0], '2 targets, got 1'), ([0, 2**63], f'got {2**63}')],
)
def test_wrong_seeds_are_named(synthesizer, observation, seed, message):
    with pytest.raises(ValueError, match=f'seed: .*{message}'):
        synthesizer.synthesize(observation, targets_at(observation, 1.0, 2.0), QUICK, seed=seed)


@pytest.mark.parametrize('error', [MemoryError, torch.OutOfMemoryError, "can't allocate memory"])
def test_a_batch_that_does_not_fit_is_halved(synthesizer, observation, error):
    """At most one target fits, in whatever way a device says so."""
    synthesizer = Synthesizer(synthesizer.components)
    targets = targets_at(observation, 1.0, -2.0, 2.5)
    sizes = []

    def limit(_unet, args):
        sizes.append(len(args[0]))
        if len(args[0]) > 4:
            raise RuntimeError(error) if isinstance(error, str) else error('full')

    hook = synthesizer.components.unet.register_forward_pre_hook(limit)
    try:
        views = synthesizer.synthesize(observation, targets, QUICK)
    finally:
        hook.remove()
    assert [size for size in sizes if size > 4] == [8, 6]
    expected = synthesizer.synthesize(observation, targets, QUICK)
    for one, other in zip(views, expected, strict=True):
        difference = one.image.astype(int) - other.image.astype(int)
        assert np.abs(difference).max() <= 2


def test_a_view_that_does_not_fit_is_an_error_and_the_next_request_is_served(
    synthesizer, observation
):
    targets = targets_at(observation, 1.0, -2.0)

    def full(*_):
        raise torch.OutOfMemoryError('CUDA out of memory')

    hook = synthesizer.components.unet.mid_block.register_forward_pre_hook(full)
    try:
        with pytest.raises(MemoryError, match='one view needs more memory.*CUDA'):
            synthesizer.synthesize(observation, targets, QUICK)
    finally:
        hook.remove()
    assert len(synthesizer.synthesize(observation, targets, QUICK)) == 2


def test_other_errors_of_the_network_are_not_tried_again(synthesizer, observation):
    calls = []

    def fail(*_):
        calls.append(1)
        raise RuntimeError('broken')

    hook = synthesizer.components.unet.register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match='broken'):
            synthesizer.synthesize(observation, targets_at(observation, 1.0, 2.0), QUICK)
    finally:
        hook.remove()
    assert len(calls) == 1


def test_default_takes_66_network_evaluations(synthesizer, observation):
    calls, seen = [], []
    hook = synthesizer.components.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        synthesizer.synthesize(
            observation,
            targets_at(observation, 1.0),
            callback=lambda state: seen.append((state['evaluation'], state['evaluations'])),
        )
    finally:
        hook.remove()
    assert len(calls) == 66
    assert seen == [(n, 66) for n in range(1, 67)]


def test_a_cancelled_request_leaves_nothing_behind(synthesizer, observation):
    targets = targets_at(observation, 0.7)
    expected = Synthesizer(synthesizer.components).synthesize(observation, targets, QUICK, seed=2)

    def cancel(state):
        if state['evaluation'] == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        synthesizer.synthesize(observation, targets, QUICK, seed=2, callback=cancel)
    after = synthesizer.synthesize(observation, targets, QUICK, seed=2)[0].image
    assert np.array_equal(expected[0].image, after)


def test_a_view_is_drawn_for_the_camera_that_was_asked_for(synthesizer):
    source_camera = Camera(160, 120, [[200, 0, 80], [0, 200, 60], [0, 0, 1]])
    pose = pose_from_spherical(Spherical(0.3, 0.4, 0.5))
    image = np.full((120, 160, 3), 255, np.uint8)
    mask = np.zeros((120, 160), np.uint8)
    image[40:80, 60:100], mask[40:80, 60:100] = (30, 90, 200), 255
    observation = synthesizer.observe(Frame(image, mask, source_camera, pose, object_size_m=0.1))
    asked = Camera(90, 70, [[150, 0, 40], [0, 150, 30], [0, 0, 1]])
    target_pose = pose_from_spherical(Spherical(1.0, 0.3, 0.5))
    target = target_from_pose(observation.source, asked, target_pose)
    (view,) = synthesizer.synthesize(observation, [target], QUICK)
    assert view.image.shape == (70, 90, 3) and view.mask.shape == (70, 90)
    assert view.image.dtype == view.mask.dtype == np.uint8
    assert view.camera is asked
    assert np.allclose(view.object_from_camera, target_pose)
    assert view.relative.delta_azimuth_rad == pytest.approx(0.7)
    assert view.relative.delta_polar_rad == pytest.approx(0.1)


def test_nothing_asked_nothing_made(synthesizer, observation):
    assert synthesizer.synthesize(observation, []) == []


def test_the_global_random_state_is_left_alone(synthesizer, observation):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    synthesizer.synthesize(observation, targets_at(observation, 1.0), QUICK, seed=9)
    assert torch.equal(torch.rand(3), expected)


def test_silhouette_keeps_white_parts_inside_and_drops_the_background():
    image = np.full((40, 40, 3), 255, np.uint8)
    image[10:30, 10:30] = (180, 60, 60)
    image[15:20, 15:20] = 255
    mask = silhouette(image)
    assert (mask[10:30, 10:30] == 255).all()
    assert mask.sum() == 255 * 400
