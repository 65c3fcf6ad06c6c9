"""Putting the method into a UNet and taking it out: runs are told apart, nothing stays behind."""

import pytest
import torch
from hero_models import generator, tiny_unet

from nvs_ros.hero import attention_map_filtering, preset
from nvs_ros.hero.attention import self_attention_layers
from nvs_ros.hero.maps import Evaluation


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
