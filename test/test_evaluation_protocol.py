import dataclasses
import json

import numpy as np
import pytest
from short_model import EVALUATIONS, make_short_model

from nvs_ros.errors import UserError
from nvs_ros.evaluation.methods import DETERMINISTIC, parse_preset, pictures_of, references
from nvs_ros.evaluation.protocol import (
    Evaluation,
    ProtocolSettings,
    evaluate,
    measure_object,
    open_folder,
    read_results,
)
from nvs_ros.evaluation.sets import Known, open_set
from nvs_ros.evaluation.statistics import object_scores, seed_deviation
from nvs_ros.geometry import target_from_pose
from nvs_ros.geometry.keep_measured import keep_measured
from nvs_ros.hero.learned_filter import LearnedPolicy
from nvs_ros.scenes.categories import HOUSEHOLD
from nvs_ros.synthesizer import Synthesizer
from nvs_ros.zero123.components import load_filter

CAN = HOUSEHOLD.index('can')


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return make_short_model(tmp_path_factory.mktemp('models') / 'short')


@pytest.fixture(scope='module')
def synthesizer(model):
    return Synthesizer.from_pretrained(model, device='cpu')


def prepare(synthesizer, *presets, **settings):
    settings = ProtocolSettings(**{'objects': 1, 'views': 3, 'sources': 1, 'seeds': 1} | settings)
    size = synthesizer.components.image_size
    objects = open_set('household', split='test', views=settings.views, size=size)
    methods = [parse_preset(synthesizer, text) for text in presets]
    return Evaluation(synthesizer, objects, methods, settings)


def psnr_of(result, **where):
    chosen = (r for r in result['records'] if all(r[k] == v for k, v in where.items()))
    return [record['psnr'] for record in chosen]


def test_every_pair_is_measured_with_every_seed(synthesizer):
    settings = ProtocolSettings()
    assert (settings.views, settings.pairs, settings.seeds) == (8, 56, 3)  # the paper's
    evaluation = prepare(synthesizer, 'hourglass', sources=0, seeds=2)
    result, strip = measure_object(evaluation, 0)
    pairs = {(r['source'], r['target']) for r in result['records']}
    assert pairs == {(a, b) for a in range(3) for b in range(3) if a != b}
    assert len(psnr_of(result, method='hourglass')) == len(pairs) * 2
    for name in DETERMINISTIC:
        assert len(psnr_of(result, method=name)) == len(pairs)
    assert strip.shape == (64, 64 * (2 + len(DETERMINISTIC) + 1), 3)


def test_methods_share_their_noise_and_seeds_do_not(synthesizer):
    """Resampling once is the hourglass, bit for bit; another seed is another picture."""
    once = 'resample:resampling_passes=1'
    result, _ = measure_object(prepare(synthesizer, 'hourglass', once, seeds=2), 0)
    first, second = (psnr_of(result, method='hourglass', seed=seed) for seed in (0, 1))
    assert psnr_of(result, method=once, seed=0) == first != second


def test_references_cost_what_they_should(synthesizer):
    cost = {m.name: m.evaluations(synthesizer) for m in references(synthesizer)}
    assert cost == {
        'one_step': 1,
        'uniform_equal': EVALUATIONS,
        'mean_pooling': EVALUATIONS,
        'oracle': 4 + 1,
    }


@pytest.fixture(scope='module')
def full_run():
    """A can with the embedded model as it is: hourglass, first prediction and oracle."""
    synthesizer = Synthesizer.from_pretrained(device='cpu')
    evaluation = prepare(synthesizer, 'hourglass', seeds=2)
    one_step, _, _, oracle = references(synthesizer)
    methods = [one_step, oracle, *evaluation.methods]
    return measure_object(dataclasses.replace(evaluation, methods=methods), CAN)[0]


def test_the_oracle_and_the_codec_know_the_truth(full_run):
    """With the true maps the model comes much closer; nothing beats the codec."""
    means = {name: metrics['psnr'][0] for name, metrics in object_scores([full_run]).items()}
    assert means['hourglass'] + 0.5 < means['oracle'] < means['codec']


def test_the_first_prediction_hardly_depends_on_the_noise(full_run):
    """At zero terminal SNR the input is noise alone: what is predicted is about the mean view."""
    deviation = {
        name: seed_deviation([full_run], name)['psnr'] for name in ('one_step', 'hourglass')
    }
    assert 0 < deviation['one_step'] < deviation['hourglass']


def test_an_oracle_of_no_timestep_is_the_hourglass(synthesizer):
    """And the maps of one part of the network change less than those of all."""
    texts = [
        'hourglass:keep=false',
        'oracle:window=0..0',
        'oracle:layers=down_blocks.1',
        'oracle:window=0..1000',
    ]
    records = measure_object(prepare(synthesizer, *texts), CAN)[0]
    plain, never, some, always = (np.array(psnr_of(records, method=text)) for text in texts)
    np.testing.assert_allclose(never, plain, atol=0.05)
    assert 0.01 < np.abs(some - plain).max() < np.abs(always - plain).max()


def test_views_with_a_learned_filter(synthesizer, tmp_path):
    unet = synthesizer.components.unet
    neutral = LearnedPolicy.neutral(unet)
    flat = LearnedPolicy({name: weights / 4 for name, weights in neutral.weights.items()})
    made = {}
    for name, policy in {'neutral': neutral, 'flat': flat}.items():
        policy.save(tmp_path / 'filter.safetensors')
        learned_filter = load_filter(tmp_path / 'filter.safetensors', unet)
        filtered = Synthesizer(
            dataclasses.replace(synthesizer.components, learned_filter=learned_filter)
        )
        records = measure_object(prepare(filtered, 'hourglass', 'learned'), CAN)[0]
        made[name] = np.array(psnr_of(records, method='learned'))
        plain = np.array(psnr_of(records, method='hourglass'))
    np.testing.assert_allclose(made['neutral'], plain, atol=0.05)
    assert np.abs(made['flat'] - plain).max() > 0.1
    (tmp_path / 'filter.safetensors').write_bytes(b'none')
    with pytest.raises(UserError, match='expected a learned filter'):
        load_filter(tmp_path / 'filter.safetensors', unet)


def test_a_run_goes_on_and_workers_change_nothing(synthesizer, model, tmp_path):
    whole = prepare(synthesizer, 'hourglass', objects=3)
    part = dataclasses.replace(whole, settings=dataclasses.replace(whole.settings, objects=1))
    folder, alone = tmp_path / 'parts', tmp_path / 'alone'
    arguments = {'source': model, 'device': 'cpu'}
    for place in (folder, alone):
        place.mkdir()
    evaluate(part, folder, arguments)
    written = (folder / 'object_00000.json').stat().st_mtime_ns
    evaluate(whole, folder, arguments, workers=2)
    assert (folder / 'object_00000.json').stat().st_mtime_ns == written
    evaluate(whole, alone, arguments)
    for ours, theirs in zip(read_results(folder, 3), read_results(alone, 3), strict=True):
        assert ours['sha256'] == theirs['sha256']
        np.testing.assert_allclose(
            psnr_of(ours, method='hourglass'), psnr_of(theirs, method='hourglass'), atol=0.05
        )


def test_results_of_another_configuration_are_not_mixed_in(tmp_path):
    folder = tmp_path / 'run'
    open_folder(folder, {'seeds': 1, 'views': (3, 4)})
    open_folder(folder, {'seeds': 1, 'views': (3, 4)})
    with pytest.raises(UserError, match='seeds'):
        open_folder(folder, {'seeds': 2, 'views': (3, 4)})
    assert json.loads((folder / 'config.json').read_text())['seeds'] == 1


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('best', 'best'),
        ('hourglass:alpha', 'FIELD=VALUE'),
        ('hourglass:alpha=1', 'alpha'),
        ('hourglass:alpha_c=2', 'alpha_c'),
        ('learned', 'expected a model with a learned filter'),
        ('oracle:layers=elsewhere', "expected the beginning of one of .*, got 'elsewhere'"),
        ('oracle:window=200', 'window: expected LOW..HIGH, got 200'),
    ],
)
def test_a_preset_that_cannot_be_is_named(synthesizer, text, words):
    with pytest.raises(UserError, match=words):
        parse_preset(synthesizer, text)


def test_a_preset_takes_fields_of_any_type(synthesizer):
    text = 'zero-to-hero:alpha_c=0.5:pooling=mean:msa_window=700..1000:filtering=false'
    settings = parse_preset(synthesizer, text).settings
    assert (settings.alpha_c, settings.pooling) == (0.5, 'mean')
    assert (settings.msa_window, settings.filtering) == ((700, 1000), False)


def test_kept_pixels_alone_change_what_was_measured_or_seen_empty_and_nothing_else(synthesizer):
    """The network is told nothing: beside the measured pixels the view is that of no depth."""
    texts = ('fast@nothing', 'fast@depth:guide=false', 'fast@depth:guide=false:keep=false')
    methods = [parse_preset(synthesizer, text) for text in texts]
    views = open_set('household', split='validation', views=2, size=64).views(1)
    trained = synthesizer.components.profile.trained
    source = views.canonical(0, trained)
    pose = views.canonical(1, trained).object_from_camera
    targets = [target_from_pose(source, source.camera, pose)]
    made = []
    for method in methods:
        observation = synthesizer.observe(source, views.measurement(0, method.known))
        made.append(pictures_of(method, synthesizer, observation, targets, views.images[1:], 3)[0])
    surface = views.measurement(0, Known('depth')).surface
    _, _, measured = keep_measured(made[0], views.masks[1], surface, targets[0])
    differs = (made[0] != made[1]).any(-1)
    assert differs[measured > 0].any()
    assert (made[1][differs & (measured == 0)] == 255).all()  # seen empty
    assert np.array_equal(made[0], made[2])
