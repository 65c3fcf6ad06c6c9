"""A learned filter of attention maps: its recurrences, its file, and how a sampler takes it."""

import dataclasses

import numpy as np
import pytest
import torch
from hero_models import SHORT, original_scheduler, request, tiny_unet

from nvs_ros.hero import attention_map_filtering, preset, sample
from nvs_ros.hero.attention import PART_ELEMENTS, Part, self_attention_layers
from nvs_ros.hero.learned_filter import STAGES, LearnedMapFilter, LearnedPolicy, stage_of
from nvs_ros.hero.map_filter import Evaluation

HEADS = 2
WHOLE = Part((2 * HEADS, 3, 5), slice(0, 2 * HEADS), slice(0, 3))


def random_weights(heads=HEADS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2 * len(STAGES), heads, 4, generator=generator)


def expected_maps(maps, evaluations, weights):
    """The definition, over lists of all maps: (rows * heads, queries, keys) float64 each."""
    history, passes, refined = None, [], []
    for present, evaluation in zip(maps, evaluations, strict=True):
        earlier = np.mean(passes, axis=0) if passes else present
        before = present if history is None else history
        stage = weights[stage_of(evaluation.timestep, evaluation.number)]
        w = np.tile(stage, (len(present) // len(stage), 1))[:, :, None, None]
        refined.append(
            w[:, 0] * present
            + w[:, 1] * earlier
            + w[:, 2] * np.abs(present - earlier)
            + w[:, 3] * before
        )
        passes.append(present)
        if evaluation.last:
            mean = np.mean(passes, axis=0)
            history = mean if history is None else (mean + history) / 2
            passes = []
    return refined


@pytest.mark.parametrize('passes', [[1, 1, 1], [3, 2, 4], [2, 1, 1, 3]])
def test_recurrences(passes):
    evaluations = [
        Evaluation(950 - 250 * step, number, count)
        for step, count in enumerate(passes)
        for number in range(1, count + 1)
    ]
    maps = np.random.default_rng(1).normal(size=(len(evaluations), 2 * HEADS, 3, 5))
    weights = random_weights().double()
    learned = LearnedMapFilter(weights, STAGES, torch.float64)
    expected = expected_maps(maps, evaluations, weights.numpy())
    for i, evaluation in enumerate(evaluations):
        actual = learned(torch.tensor(maps[i]), WHOLE, evaluation)
        np.testing.assert_allclose(actual.numpy(), expected[i], rtol=0, atol=1e-12)
        assert bool(learned.pooled) != evaluation.last


def test_stages():
    assert [stage_of(t, 1) for t in (0, 199, 200, 799, 800, 899, 900, 999)] == [
        *(0, 0, 2, 6, 8, 8, 10, 10)
    ]
    assert stage_of(950, 3) == 11


def views(unet, policy, **overrides):
    settings = preset('learned', **{**SHORT, **overrides})
    attention = attention_map_filtering(unet, settings, policy=policy)
    return sample(unet, original_scheduler(), settings=settings, attention=attention, **request(2))


def random_policy(unet):
    layers = self_attention_layers(unet)
    return LearnedPolicy({n: random_weights(a.heads, i) for i, (n, a) in enumerate(layers.items())})


@pytest.mark.parametrize('passes', [1, 3])
def test_neutral_weights_change_nothing_and_others_are_felt(passes):
    unet = tiny_unet()
    settings = preset('hourglass', **{**SHORT, 'resampling_passes': passes})
    plain = sample(unet, original_scheduler(), settings=settings, **request(2))
    neutral = views(unet, LearnedPolicy.neutral(unet), resampling_passes=passes)
    torch.testing.assert_close(neutral, plain, rtol=0, atol=1e-4 * float(plain.abs().max()))
    felt = views(unet, random_policy(unet), resampling_passes=passes)
    assert (felt - plain).abs().max() > 1e-3 * plain.std()


@pytest.mark.parametrize('elements', [1, 1000])
def test_maps_may_be_made_in_parts(elements, monkeypatch):
    unet = tiny_unet()
    policy = random_policy(unet)
    whole = views(unet, policy, resampling_passes=2)
    monkeypatch.setitem(PART_ELEMENTS, 'cpu', elements)
    parts = views(unet, policy, resampling_passes=2)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-4 * float(whole.abs().max()))


def test_only_layers_with_weights_are_filtered():
    unet = tiny_unet()
    name = next(iter(self_attention_layers(unet)))
    policy = LearnedPolicy.neutral(unet, lambda layer: layer == name)
    with attention_map_filtering(unet, preset('learned'), policy=policy) as control:
        control.begin(900)
        refined = {n for n in self_attention_layers(unet) if control.refiner(n) is not None}
    assert refined == {name}


def test_file(tmp_path):
    unet = tiny_unet()
    policy = dataclasses.replace(random_policy(unet), trained_on='0123')
    policy.save(tmp_path / 'filter.safetensors')
    loaded = LearnedPolicy.load(tmp_path / 'filter.safetensors')
    loaded.check(unet)
    assert (loaded.stages, loaded.trained_on) == (STAGES, '0123')
    assert loaded.weights.keys() == policy.weights.keys()
    for name, weights in policy.weights.items():
        assert torch.equal(loaded.weights[name], weights)


def test_wrong_files_and_weights_are_refused(tmp_path):
    file = tmp_path / 'filter.safetensors'
    file.write_bytes(b'no weights')
    with pytest.raises(ValueError, match=r'filter.safetensors: expected a learned filter'):
        LearnedPolicy.load(file)
    with pytest.raises(
        ValueError, match=r'down: expected weights \(12, heads, 4\), got \(3, 2, 4\)'
    ):
        LearnedPolicy({'down': torch.zeros(3, 2, 4)})
    with pytest.raises(ValueError, match='down: expected finite weights'):
        LearnedPolicy({'down': torch.full((12, 2, 4), torch.nan)})
    with pytest.raises(ValueError, match='stages: expected increasing timesteps from 0'):
        LearnedPolicy({}, (0, 500, 400))
    unet = tiny_unet()
    with pytest.raises(ValueError, match='expected layers of .*, got elsewhere'):
        LearnedPolicy({'elsewhere': torch.zeros(12, 2, 4)}).check(unet)
    name, attn = next(iter(self_attention_layers(unet).items()))
    with pytest.raises(ValueError, match=f'expected weights of {attn.heads} heads'):
        LearnedPolicy({name: torch.zeros(12, attn.heads + 1, 4)}).check(unet)


def test_the_preset_needs_a_learned_filter():
    unet = tiny_unet()
    with pytest.raises(ValueError, match='expected the weights of a learned filter, got none'):
        sample(unet, original_scheduler(), settings=preset('learned', **SHORT), **request(1))
