"""Learning a filter of attention maps."""

import json

import numpy as np
import pytest
import torch

from nvs_ros.errors import UserError
from nvs_ros.hero.learned_filter import LearnedPolicy
from nvs_ros.synthesizer import Synthesizer
from nvs_ros.training.filter_card import filter_card
from nvs_ros.training.filter_fit import fit_stage
from nvs_ros.training.filter_recipe import FilterRecipe
from nvs_ros.training.learned_filter import learn_filter


def test_fit_finds_the_weights_that_made_the_truth():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 400, 16, 4, generator=generator)
    weights = torch.tensor([[0.6, 0.2, -0.3, 0.4], [1.5, -0.5, 0.0, 0.1]])
    truth = torch.einsum('hnkf,hf->hnk', features, weights).softmax(-1)
    fit = fit_stage(features, truth)
    torch.testing.assert_close(fit.weights, weights, rtol=0, atol=0.02)
    assert fit.learned < 1e-3 < fit.temperature < fit.untouched


def test_features_that_say_nothing_new_keep_weight_zero():
    present = torch.randn(1, 100, 8, generator=torch.Generator().manual_seed(1))
    features = torch.stack([present, present, torch.zeros_like(present), present], -1)
    fit = fit_stage(features, (present / 2).softmax(-1))
    assert fit.weights[0, 0] == pytest.approx(0.5, abs=0.01)
    assert not fit.weights[0, 1:].any()


def test_a_fit_needs_rows():
    with pytest.raises(ValueError, match='expected at least 8 rows, got 2'):
        fit_stage(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4))


RECIPE = FilterRecipe(
    preset='learned:early_steps=2:middle_steps=2:late_steps=2',
    layers='up_blocks.2.attentions.1',
    objects=2,
    judged=2,
    strengths=(0.0, 1.0),
)


@pytest.fixture(scope='module')
def learned(tmp_path_factory):
    folder = tmp_path_factory.mktemp('filter')
    return learn_filter('embedded', RECIPE, folder), folder


def test_a_filter_is_learned_from_recordings(learned):
    policy, folder = learned
    report = json.loads((folder / 'fit.json').read_text())
    assert [each['strength'] for each in report['views']] == [0, 1]
    assert all(10 < each['psnr'] < 40 for each in report['views'])
    assert report['strength'] == max(report['views'], key=lambda each: each['psnr'])['strength']
    noisy = [each for each in report['divergence'] if each['stage'] >= 8]
    assert noisy and all(0 < each['learned'] < each['untouched'] for each in noisy)
    policy.check(Synthesizer.from_pretrained().components.unet)
    saved = LearnedPolicy.load(folder / 'filter.safetensors')
    assert saved.trained_on and saved.trained_on == policy.trained_on
    assert all(torch.equal(saved.weights[n], w) for n, w in policy.weights.items())


def test_the_card_says_what_the_filter_was_learned_on(learned):
    policy, folder = learned
    card = (folder / 'README.md').read_text()
    report = json.loads((folder / 'fit.json').read_text())
    assert f'| `{policy.trained_on}` |' in card
    assert '2 objects of the set `household`' in card
    for layer in policy.weights:
        assert f'`{layer}`' in card
    for each in report['views']:
        assert f'| {each["strength"]:g} | {each["psnr"]:.2f} | {each["fg_psnr"]:.2f} |' in card
    last = [each for each in report['divergence'] if each['stage'] == 0]
    means = [np.mean([each[k] for each in last]) for k in ('untouched', 'temperature', 'learned')]
    assert '| from 0, first | ' + ' | '.join(f'{mean:.3f}' for mean in means) + ' |' in card
    for part in ('What it cannot do.', 'Licence.'):
        assert f'**{part}**' in card


@pytest.mark.parametrize(
    ('strength', 'strengths', 'verdict'),
    [
        (0.0, (0.0, 0.5), 'this filter changes nothing'),
        (0.5, (0.0, 0.5), 'It gains 0.25 dB of PSNR over untouched maps'),
        (0.5, (0.5,), 'its gain is not known'),
    ],
)
def test_the_card_says_whether_views_are_better(strength, strengths, verdict):
    psnr = {0.0: 20.0, 0.5: 20.25 if strength else 19.0}
    views = [{'strength': s, 'psnr': psnr[s], 'fg_psnr': 14.0, 'iou': 0.8} for s in strengths]
    report = {'strength': strength, 'views': views, 'divergence': []}
    assert verdict in filter_card(RECIPE, '0' * 64, 4, report)


def test_a_stopped_run_goes_on(learned):
    policy, folder = learned
    first = folder / 'recordings' / 'object_00000.safetensors'
    made = first.stat().st_mtime_ns
    (folder / 'recordings' / 'object_00001.safetensors').unlink()
    (folder / 'filter.safetensors').unlink()
    again = learn_filter('embedded', RECIPE, folder)
    assert first.stat().st_mtime_ns == made
    assert all(torch.equal(again.weights[n], w) for n, w in policy.weights.items())


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        ({'objects': 3}, 'expected objects 2 as in its recipe.json, got 3'),
        ({'layers': 'elsewhere'}, "layers: expected the beginning of one of .*, got 'elsewhere'"),
        ({'preset': 'amf'}, 'preset: expected one with a learned filter'),
    ],
)
def test_what_does_not_fit_is_refused(changed, message, learned, tmp_path):
    folder = learned[1] if 'objects' in changed else tmp_path
    recipe = FilterRecipe(**{**vars(RECIPE), **changed})
    with pytest.raises(UserError, match=message):
        learn_filter('embedded', recipe, folder)
