"""Attention map filtering and mutual self-attention, against the paper's recurrences in float64."""

import dataclasses
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hero_models import SHORT, only, original_scheduler, request, tiny_unet, zero_snr_scheduler
from hero_reference import Attention, mutual_context, refined_maps
from hypothesis import given, settings
from hypothesis import strategies as st

from nvs_ros.hero import attention_map_filtering, preset, sample
from nvs_ros.hero.attention import PART_ELEMENTS, Part, fine_decoder_layers, self_attention_layers
from nvs_ros.hero.map_filter import Evaluation, MapFilter
from nvs_ros.settings import SamplerSettings

WINDOW = st.tuples(st.integers(0, 1000), st.integers(0, 1000)).map(sorted).map(tuple)
WEIGHT = st.floats(0, 1)
WHOLE = Part((2, 3, 3), slice(0, 2), slice(0, 3))


def filter_arguments(chosen):
    names = ('pooling', 'alpha_i', 'alpha_c', 'alpha_h', 'in_step_window', 'cross_step_window')
    return {name: getattr(chosen, name) for name in names}


@settings(max_examples=100, deadline=None)
@given(
    pooling=st.sampled_from(['min', 'mean', 'ema']),
    alphas=st.tuples(WEIGHT, WEIGHT, WEIGHT),
    in_step_window=WINDOW,
    cross_step_window=WINDOW,
    passes=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
)
def test_recurrences(pooling, alphas, in_step_window, cross_step_window, passes, seed):
    """The recursive form with two buffers equals the paper's sets of all refined maps."""
    chosen = SamplerSettings(
        pooling=pooling,
        alpha_i=alphas[0],
        alpha_c=alphas[1],
        alpha_h=alphas[2],
        in_step_window=in_step_window,
        cross_step_window=cross_step_window,
    )
    evaluations = [
        Evaluation(900 - 200 * step, number, count)
        for step, count in enumerate(passes)
        for number in range(1, count + 1)
    ]
    maps = np.random.default_rng(seed).normal(size=(len(evaluations), 2, 3, 3))
    timesteps = [evaluation.timestep for evaluation in evaluations]
    expected = refined_maps(timesteps, list(maps), **filter_arguments(chosen))
    map_filter = MapFilter(chosen, torch.float64)
    for i, evaluation in enumerate(evaluations):
        actual = map_filter(torch.tensor(maps[i]), WHOLE, evaluation)
        np.testing.assert_allclose(actual.numpy(), expected[i], rtol=0, atol=1e-12)
        assert not (map_filter.pooled and evaluation.last)


class Watch:
    """Inputs and outputs of each self-attention layer, and timestep and rows of each UNet call."""

    def __init__(self, unet):
        self.calls, self.inputs, self.outputs = [], {}, {}
        unet.register_forward_pre_hook(
            lambda _, args: self.calls.append((int(args[1]), len(args[0])))
        )
        for name, attn in self_attention_layers(unet).items():
            attn.register_forward_hook(self.keeper(name))

    def keeper(self, name):
        def keep(_attn, args, output):
            self.inputs.setdefault(name, []).append(args[0].double().numpy())
            self.outputs.setdefault(name, []).append(output.double().numpy())

        return keep


def reference_outputs(layer, inputs, timesteps, rows, chosen, mutual):
    """What a self-attention layer should answer to a run's inputs; `rows` are its batch sizes.

    The batch shrinks once, when the source branch is dropped. Source rows are not filtered.
    """
    reference = Attention(layer)
    groups = 2 if chosen.guidance_scale > 1 else 1
    with_source = [count == rows[0] and chosen.mutual_self_attention for count in rows]
    contexts, maps = [], []
    for t, hidden, source in zip(timesteps, inputs, with_source, strict=True):
        inject = source and mutual and chosen.msa_window[0] <= t < chosen.msa_window[1]
        contexts.append(mutual_context(hidden, groups) if inject else hidden)
        maps.append(reference.maps(hidden, contexts[-1]))

    def target_rows(x, source):
        grouped = x.reshape(groups, -1, *x.shape[1:])
        return grouped[:, 1:] if source else grouped

    targets = [target_rows(m, source) for m, source in zip(maps, with_source, strict=True)]
    if chosen.filtering:
        targets = refined_maps(timesteps, targets, **filter_arguments(chosen))
    for i, source in enumerate(with_source):
        own = maps[i].reshape(groups, -1, *maps[i].shape[1:])[:, : int(source)]
        refined = np.concatenate([own, targets[i]], axis=1).reshape(maps[i].shape)
        yield reference.output(refined, contexts[i])


CASES = {
    'min': {},
    'mean': {'pooling': 'mean'},
    'ema': {'pooling': 'ema', 'alpha_i': 0.3},
    'without guidance': {'guidance_scale': 1.0},
    'without source': {'mutual_self_attention': False},
    'msa alone': {'filtering': False},
    'msa ends first': {'msa_window': (700, 1000)},
    'msa ends last': {'cross_step_window': (800, 1000)},
    'other weights': {'alpha_c': 0.7, 'alpha_h': 0.2},
}


@pytest.mark.parametrize('targets', [1, 3])
@pytest.mark.parametrize('case', CASES)
def test_processors_agree_with_the_reference(case, targets):
    check_against_the_reference(preset(**SHORT, **CASES[case]), targets)


@pytest.mark.parametrize('elements', [1, 1000, 9000])
def test_maps_may_be_made_in_parts(elements, monkeypatch):
    """Single queries, a few queries of one head, a few heads."""
    monkeypatch.setitem(PART_ELEMENTS, 'cpu', elements)
    check_against_the_reference(preset(**SHORT), 2)


def check_against_the_reference(chosen, targets):
    unet = tiny_unet()
    watch = Watch(unet)
    sample(unet, original_scheduler(), settings=chosen, **request(targets))
    timesteps, rows = zip(*watch.calls, strict=True)
    assert len(timesteps) == 13
    mutual = fine_decoder_layers(unet)
    for name, layer in self_attention_layers(unet).items():
        expected = reference_outputs(
            layer, watch.inputs[name], timesteps, rows, chosen, mutual(name)
        )
        for actual, wanted in zip(watch.outputs[name], expected, strict=True):
            assert np.abs(actual - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_filtering_and_injection_are_felt():
    """The cases above would pass with flat maps; these differ by far more than rounding."""
    unet = tiny_unet()
    views = {}
    for case in ('min', 'mean', 'without source', 'msa alone', 'other weights'):
        chosen = preset(**SHORT, **CASES[case])
        views[case] = sample(unet, original_scheduler(), settings=chosen, **request(1))
    for case in set(views) - {'min'}:
        assert (views[case] - views['min']).abs().max() > 1e-3 * views['min'].std()


def test_mutual_layers_are_the_two_finest_of_the_decoder():
    original = {
        'sample_size': 32,
        'block_out_channels': (8, 8, 8, 8),
        'layers_per_block': 2,
        'down_block_types': ('CrossAttnDownBlock2D',) * 3 + ('DownBlock2D',),
        'up_block_types': ('UpBlock2D',) + ('CrossAttnUpBlock2D',) * 3,
    }
    for overrides, stages, count in ((original, ('2', '3'), 16), ({}, ('1', '2'), 10)):
        unet = tiny_unet(**overrides)
        names = list(self_attention_layers(unet))
        assert len(names) == count
        chosen = set(filter(fine_decoder_layers(unet), names))
        assert chosen == {
            name for name in names if name.startswith('up_blocks.') and name.split('.')[1] in stages
        }


def test_source_may_be_filtered_too():
    unet, chosen = tiny_unet(), preset(**SHORT, filter_source=True)
    watch = Watch(unet)
    sample(unet, original_scheduler(), settings=chosen, **request(2))
    timesteps, rows = zip(*watch.calls, strict=True)
    name = 'down_blocks.0.attentions.0.transformer_blocks.0.attn1'
    layer = Attention(self_attention_layers(unet)[name])
    inputs = [
        hidden.reshape(2, -1, *hidden.shape[1:])[:, 0]
        for hidden, count in zip(watch.inputs[name], rows, strict=True)
        if count == rows[0]
    ]
    maps = [layer.maps(hidden, hidden) for hidden in inputs]
    refined = refined_maps(timesteps[: len(maps)], maps, **filter_arguments(chosen))
    for i, hidden in enumerate(inputs):
        expected = layer.output(refined[i], hidden)
        actual = watch.outputs[name][i].reshape(2, -1, *hidden.shape[1:])[:, 0]
        assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()


def test_layer_predicate_limits_filtering():
    unet, chosen = tiny_unet(), preset('amf', **SHORT)

    def decoder(name):
        return name.startswith('up_blocks')

    originals = {name: attn.processor for name, attn in self_attention_layers(unet).items()}
    with attention_map_filtering(unet, chosen, layers=decoder):
        for name, attn in self_attention_layers(unet).items():
            assert (attn.processor is originals[name]) != decoder(name)


@pytest.mark.parametrize('in_step_window', [(800, 1000), (0, 0)])
def test_buffers_are_two_per_layer_and_freed_when_the_window_closes(in_step_window):
    unet = tiny_unet()
    chosen = preset('amf', map_dtype='float16', in_step_window=in_step_window)
    kept = []
    with attention_map_filtering(unet, chosen) as control:

        def look(progress):
            filters = control._filters.values()
            buffers = [m for f in filters for kept in (f.pooled, f.history) for m in kept.values()]
            assert all(m.dtype == torch.float16 for m in buffers)
            kept.append((progress['timestep'], len(buffers)))

        sample(
            unet,
            original_scheduler(),
            settings=chosen,
            callback=look,
            attention=nullcontext(control),
            **request(1),
        )
    layers = len(self_attention_layers(unet))
    for i, (t, buffers) in enumerate(kept):
        if t < 600:
            assert buffers == 0
        else:
            pooling = t >= 800 and i % 5 < 4 and in_step_window[1] > 0
            assert buffers == layers * (pooling + (t < 981 or i == 4))
    assert not control._filters


def test_half_precision_maps_are_close():
    unet = tiny_unet()
    views = [
        sample(unet, zero_snr_scheduler(), settings=preset(**SHORT, map_dtype=kind), **request(1))
        for kind in ('float32', 'float16')
    ]
    assert 0 < (views[0] - views[1]).abs().max() < 0.02 * views[0].std()


@settings(max_examples=12, deadline=None)
@given(
    passes=st.integers(1, 3),
    pooling=st.sampled_from(['min', 'mean', 'ema']),
    windows=st.tuples(WINDOW, WINDOW, WINDOW, WINDOW),
    targets=st.integers(1, 3),
    guidance_scale=st.sampled_from([1.0, 3.0]),
    mutual=st.booleans(),
)
def test_a_view_does_not_depend_on_its_batch(
    passes, pooling, windows, targets, guidance_scale, mutual
):
    unet = tiny_unet(sample_size=4)
    chosen = dataclasses.replace(
        preset(**SHORT),
        resampling_passes=passes,
        pooling=pooling,
        resampling_window=windows[0],
        in_step_window=windows[1],
        cross_step_window=windows[2],
        msa_window=windows[3],
        guidance_scale=guidance_scale,
        mutual_self_attention=mutual,
    )
    together = sample(unet, zero_snr_scheduler(), settings=chosen, **request(targets, size=4))
    index = targets - 1
    alone = sample(
        unet, zero_snr_scheduler(), settings=chosen, **only(request(targets, size=4), index)
    )
    assert (together[index] - alone[0]).abs().max() <= 1e-4 * alone.abs().max()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_networks_are_close(dtype):
    """Latents stay in the precision of the noise; maps are never made in bfloat16."""
    chosen = preset(**SHORT)
    expected = sample(tiny_unet(), zero_snr_scheduler(), settings=chosen, **request(1))
    actual = sample(tiny_unet().to(dtype), zero_snr_scheduler(), settings=chosen, **request(1))
    assert actual.dtype == torch.float32
    assert (actual - expected).abs().max() < 0.1 * expected.std()
