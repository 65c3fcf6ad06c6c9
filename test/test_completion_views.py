"""Views with several seeds, and back again, by the embedded model."""

import dataclasses

import cv2
import numpy as np
import pytest
from completion_scene import Seen

from nvs_ros.completion.cycle import cycle_check
from nvs_ros.completion.pipeline import NOT_CALIBRATED, assess_views
from nvs_ros.completion.uncertainty import estimate_views
from nvs_ros.geometry import Spherical, target_from_angles
from nvs_ros.scenes.categories import make_object
from nvs_ros.settings import CompletionSettings
from nvs_ros.synthesizer import Synthesizer


@pytest.fixture(scope='module')
def synthesizer():
    return Synthesizer.from_pretrained('embedded', device='cpu')


@pytest.fixture(scope='module')
def carton():
    """A carton of 0.2 m, with the true view from its right."""
    mesh = make_object('carton', np.random.default_rng(3)).transformed(0.2 * np.eye(3))
    return Seen(mesh, [np.radians(60)], Spherical(0.4, 0.4, 0.36))


@pytest.fixture(scope='module')
def fast(synthesizer):
    return synthesizer.preset('fast')


def test_the_seeds_of_a_view_are_those_of_synthesize(synthesizer, carton, fast):
    observation = synthesizer.observe(carton.source)
    targets = [target_from_angles(carton.source, azimuth, 0.1) for azimuth in (0.5, 2.5)]
    estimates = estimate_views(synthesizer, observation, targets, fast, seeds=2, seed=5)
    for i, seed in enumerate((5, 6)):
        views = synthesizer.synthesize(observation, targets, fast, seed=seed)
        for estimate, view in zip(estimates, views, strict=True):
            difference = np.abs(estimate.images[i].astype(int) - view.image)
            assert difference.mean() < 0.5 and (difference > 8).mean() < 0.01
    for estimate in estimates:
        assert estimate.seeds == (5, 6)
        assert estimate.std.max() > 0.05 and estimate.agreement < 1


def test_one_seed_cannot_agree(synthesizer, carton, fast):
    observation = synthesizer.observe(carton.source)
    with pytest.raises(ValueError, match='2 or more'):
        estimate_views(synthesizer, observation, [], fast, seeds=1)


def test_the_true_view_leads_back_and_a_wrong_one_does_not(synthesizer, carton, fast):
    (true,) = carton.estimates
    good = cycle_check(synthesizer, carton.source, true, fast)
    (image, _), (mask, _) = true.images, true.masks
    small = cv2.resize(mask, (24, 24), interpolation=cv2.INTER_AREA)
    small = cv2.copyMakeBorder(small, 20, 20, 20, 20, cv2.BORDER_CONSTANT, value=0)
    inside = small[..., None] > 127
    shrunk = changed(true, np.where(inside, image, 255).astype(np.uint8), small)
    assert good.iou > cycle_check(synthesizer, carton.source, shrunk, fast).iou + 0.2
    recoloured = changed(true, np.where(mask[..., None] > 127, 255 - image, 255), mask)
    assert good.error < cycle_check(synthesizer, carton.source, recoloured, fast).error


def changed(estimate, image, mask):
    return dataclasses.replace(estimate, images=np.stack([image] * 2), masks=np.stack([mask] * 2))


@pytest.mark.parametrize('preset', ['fast', 'msa'])
def test_what_is_remembered_of_the_frame_outlasts_its_trusted_views(
    synthesizer, carton, preset, monkeypatch
):
    """Neither views without a source branch nor those of an imagined frame drop it."""
    plain = Synthesizer(synthesizer.components)
    short = dict.fromkeys(('early_steps', 'middle_steps', 'late_steps'), 1)
    monkeypatch.setattr(plain, 'preset', lambda name: synthesizer.preset(name, **short))
    observation = plain.observe(carton.source)
    targets = [target_from_angles(carton.source, 1.0, 0.0)]
    rows = []
    unet = plain.components.unet
    hook = unet.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    try:
        first, again = [], []
        for found in (first, again):
            rows.clear()
            plain.synthesize(observation, targets, plain.preset('msa'), seed=5)
            found.extend(rows)
            chosen = CompletionSettings(seeds=2, preset=preset)
            assess_views(plain, observation, targets, chosen, seed=8)
    finally:
        hook.remove()
    assert first == [4, 2, 2] and again == [2, 2, 2]


def test_an_empty_view_leads_nowhere(synthesizer, carton, fast):
    (true,) = carton.estimates
    nothing = dataclasses.replace(true, masks=np.zeros_like(true.masks))
    assert cycle_check(synthesizer, carton.source, nothing, fast) == (0.0, 1.0)


def test_without_calibration_it_is_said_so(synthesizer, carton):
    components = dataclasses.replace(
        synthesizer.components,
        profile=dataclasses.replace(synthesizer.components.profile, confidence={}),
    )
    plain = Synthesizer(components)
    observation = plain.observe(carton.source)
    targets = [target_from_angles(carton.source, 1.0, 0.0)]
    (view,) = assess_views(plain, observation, targets, CompletionSettings(seeds=2))
    assert view.warnings == (NOT_CALIBRATED,)
    assert view.confidence == view.estimate.agreement == view.evidence.agreement
