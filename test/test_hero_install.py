"""Putting the method into a UNet and taking it out: runs are told apart, nothing stays behind."""

import copy

import pytest
import torch
from diffusers.models.attention_processor import (
    AttnProcessor,
    AttnProcessor2_0,
    CustomDiffusionAttnProcessor,
    SlicedAttnProcessor,
)
from hero_models import generator, tiny_unet

from nvs_ros.hero import attention_map_filtering, preset
from nvs_ros.hero.attention import self_attention_layers
from nvs_ros.hero.map_filter import Evaluation


def call(unet, timestep, rows=2):
    latents = torch.randn(rows, 8, 8, 8, generator=generator(timestep))
    with torch.no_grad():
        return unet(latents, timestep, torch.zeros(rows, 1, 16)).sample


def test_a_higher_timestep_starts_a_new_run():
    unet, chosen = tiny_unet(), preset('amf', resampling_passes=1)
    with attention_map_filtering(unet, chosen):
        first = [call(unet, t) for t in (981, 801, 701)]
        again = [call(unet, t) for t in (981, 801, 701)]
    assert all(map(torch.equal, first, again))
    assert not torch.equal(call(unet, 801), first[1])


@pytest.mark.parametrize('as_tensor', [False, True])
@pytest.mark.parametrize('by_name', [False, True])
def test_timestep_is_learned_however_the_unet_is_called(as_tensor, by_name):
    unet = tiny_unet()
    latents, context = torch.zeros(2, 8, 8, 8), torch.zeros(2, 1, 16)
    with attention_map_filtering(unet, preset('amf')) as control:
        for number in (1, 2):
            timestep = torch.tensor([981, 981]) if as_tensor else 981
            if by_name:
                unet(latents, timestep=timestep, encoder_hidden_states=context)
            else:
                unet(latents, timestep, context)
            assert control.evaluation == Evaluation(981, number, 5)


def test_a_scheduler_that_does_not_resample_is_noticed():
    unet = tiny_unet()
    with attention_map_filtering(unet, preset('amf')) as control:
        call(unet, 981)
        with pytest.raises(RuntimeError, match='expected 5 evaluations at t=981, got 1'):
            call(unet, 961)
        for _ in range(5):
            call(unet, 981)
        with pytest.raises(RuntimeError, match='expected 5 evaluations at t=981, got 6'):
            call(unet, 981)
        control.reset()
        call(unet, 981)


def test_a_batch_that_changes_during_a_run_is_noticed():
    unet = tiny_unet()
    with attention_map_filtering(unet, preset('amf')):
        call(unet, 981)
        with pytest.raises(RuntimeError, match=r'shape \(4, 64, 64\).* got \(2, 64, 64\)'):
            call(unet, 981, rows=1)


def test_mutual_self_attention_without_a_source_is_noticed():
    unet = tiny_unet()
    with attention_map_filtering(unet, preset()), pytest.raises(RuntimeError, match='source rows'):
        call(unet, 981)


def test_unet_is_given_back_as_it_was():
    unet = tiny_unet()
    processors, before = dict(unet.attn_processors), call(unet, 981)
    hooks = len(unet._forward_pre_hooks)
    with pytest.raises(KeyError), attention_map_filtering(unet, preset('amf')):
        call(unet, 981)
        raise KeyError
    assert all(unet.attn_processors[name] is kept for name, kept in processors.items())
    assert len(unet._forward_pre_hooks) == hooks
    assert torch.equal(call(unet, 981), before)


def test_second_installation_is_refused_and_the_first_stays():
    unet = tiny_unet()
    with attention_map_filtering(unet, preset('amf')):
        with (
            pytest.raises(RuntimeError, match='already'),
            attention_map_filtering(unet, preset('amf')),
        ):
            pass
        inside = [call(unet, 981) for _ in range(5)]
    assert not torch.equal(call(unet, 981), inside[-1])


@pytest.mark.parametrize('argument', ['layers', 'msa_layers'])
def test_predicate_that_matches_no_layer_is_refused(argument):
    unet = tiny_unet()
    with (
        pytest.raises(ValueError, match=rf'^{argument}: .*up_blocks\.2'),
        attention_map_filtering(unet, preset(), **{argument: lambda name: 'attn3' in name}),
    ):
        pass
    assert not unet._forward_pre_hooks


def test_a_mask_is_refused_while_filtering():
    unet = tiny_unet()
    with (
        attention_map_filtering(unet, preset('amf')),
        pytest.raises(ValueError, match='without a mask'),
    ):
        unet(torch.zeros(2, 8, 8, 8), 981, torch.zeros(2, 1, 16), attention_mask=torch.ones(2, 64))


def test_outside_the_windows_the_original_processor_runs():
    """Whatever it was; here one that counts."""
    unet = tiny_unet()
    counts = []

    class Counting(type(next(iter(unet.attn_processors.values())))):
        def __call__(self, *args, **kwargs):
            counts.append(1)
            return super().__call__(*args, **kwargs)

    layers = self_attention_layers(unet)
    for attn in layers.values():
        attn.set_processor(Counting())
    with attention_map_filtering(unet, preset('amf', resampling_passes=1)):
        call(unet, 601)
        assert not counts
        filtered = call(unet, 501)
    assert len(counts) == len(layers)
    assert torch.equal(filtered, call(unet, 501))


class WithoutTemb:
    """Takes the least that diffusers documents."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None):
        return AttnProcessor2_0()(attn, hidden_states, encoder_hidden_states, attention_mask)


class AllByName:
    def __call__(self, attn, hidden_states, *, attention_mask=None, encoder_hidden_states=None):
        return AttnProcessor2_0()(attn, hidden_states, encoder_hidden_states, attention_mask)


def function(attn, hidden_states, encoder_hidden_states=None, attention_mask=None):
    return AttnProcessor2_0()(attn, hidden_states, encoder_hidden_states, attention_mask)


@pytest.mark.parametrize(
    'make',
    [
        WithoutTemb,
        AllByName,
        lambda: function,
        lambda: SlicedAttnProcessor(1),
        AttnProcessor,
        lambda: CustomDiffusionAttnProcessor(train_kv=False, train_q_out=False),
    ],
    ids=['least', 'by name', 'function', 'sliced', 'plain', 'module'],
)
def test_a_processor_of_any_signature_works_in_and_outside_the_windows(make):
    expected, outside = filtered_and_not(tiny_unet())
    unet = tiny_unet()
    for attn in self_attention_layers(unet).values():
        attn.set_processor(make())
    kept = dict(unet.attn_processors)
    for actual, wanted in zip(filtered_and_not(unet), (expected, outside), strict=True):
        assert (actual - wanted).abs().max() < 1e-5 * wanted.std()
    assert all(unet.attn_processors[name] is processor for name, processor in kept.items())


def filtered_and_not(unet):
    """Evaluations inside and outside the windows of filtering."""
    with attention_map_filtering(unet, preset('amf', resampling_passes=1)):
        return [call(unet, t) for t in (981, 881, 501)][1:]


def test_a_processor_gets_the_keyword_arguments_that_it_names():
    unet, seen = tiny_unet(), []

    class Scaled(WithoutTemb):
        def __call__(self, attn, hidden_states, encoder_hidden_states=None, *, strength=1, **_):
            seen.append(strength)
            return super().__call__(attn, hidden_states, encoder_hidden_states)

    for attn in self_attention_layers(unet).values():
        attn.set_processor(Scaled())
    with attention_map_filtering(unet, preset('amf')):
        arguments = torch.zeros(2, 8, 8, 8), 501, torch.zeros(2, 1, 16)
        unet(*arguments, cross_attention_kwargs={'strength': 3})
    assert seen and set(seen) == {3}


def one_layer(unet):
    list(self_attention_layers(unet).values())[2].set_processor(AttnProcessor2_0())


def another_module(unet):
    block = unet.mid_block.attentions[0].transformer_blocks[0]
    block.attn1 = copy.deepcopy(block.attn1)


@pytest.mark.parametrize(
    'change',
    [
        lambda unet: unet.set_attention_slice(1),
        lambda unet: unet.set_attn_processor(AttnProcessor2_0()),
        lambda unet: unet.fuse_qkv_projections(),
        one_layer,
        another_module,
    ],
    ids=['slicing', 'all', 'fused', 'one layer', 'another module'],
)
@pytest.mark.parametrize('timestep', [981, 501])
def test_processors_that_are_replaced_inside_are_noticed(change, timestep):
    unet = tiny_unet()
    with attention_map_filtering(unet, preset('amf')):
        change(unet)
        with pytest.raises(RuntimeError, match=r'attn1: expected Controlled.*before the `with`'):
            call(unet, timestep)
    call(unet, timestep)
    with attention_map_filtering(unet, preset('amf')):
        call(unet, timestep)


def test_what_was_chosen_inside_stays():
    unet = tiny_unet()
    unet.fuse_qkv_projections()
    with attention_map_filtering(unet, preset('amf')):
        unet.unfuse_qkv_projections()
    assert set(map(type, unet.attn_processors.values())) == {AttnProcessor2_0}


def test_processors_saved_inside_and_set_afterwards_bring_no_control_back():
    """As diffusers does when projections are fused inside and parted afterwards."""
    unet = tiny_unet()
    expected = call(unet, 981)
    with attention_map_filtering(unet, preset('amf')):
        saved = unet.attn_processors
    unet.set_attn_processor(dict(saved))
    assert torch.equal(call(unet, 981), expected)
    filtered, again = filtered_and_not(unet), filtered_and_not(tiny_unet())
    assert all(map(torch.equal, filtered, again))
    assert set(map(type, unet.attn_processors.values())) == {AttnProcessor2_0}


def test_a_copy_made_inside_is_under_no_control():
    unet = tiny_unet()
    expected = call(unet, 981)
    with attention_map_filtering(unet, preset('amf')) as control:
        copied = copy.deepcopy(unet)
        call(unet, 981)
        assert torch.equal(call(copied, 961), expected_at(961))
        assert control.evaluation == Evaluation(981, 1, 5)
    assert torch.equal(call(copied, 981), expected)
    assert set(map(type, copied.attn_processors.values())) == {AttnProcessor2_0}


def expected_at(timestep):
    return call(tiny_unet(), timestep)
