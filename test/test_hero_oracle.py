"""The oracle of section 4.1: maps of the true target, recorded and injected."""

import numpy as np
import pytest
import torch
from hero_models import (
    SHORT,
    generator,
    original_scheduler,
    request,
    tiny_unet,
    zero_snr_scheduler,
)
from hero_reference import Attention

from nvs_ros.hero import preset, sample
from nvs_ros.hero.attention import self_attention_layers
from nvs_ros.hero.oracle import injected_attention_maps, record_attention_maps

LADDER = preset('hourglass', **SHORT | {'resampling_passes': 1})
CONDITION = ('tokens', 'cond_latents', 'noise')


def truth(targets):
    return torch.randn(targets, 4, 8, 8, generator=generator(77))


def record(unet, scheduler, arguments, settings=LADDER, **options):
    condition = {name: arguments[name] for name in CONDITION}
    latents = truth(len(arguments['noise']))
    return record_attention_maps(
        unet, scheduler, latents=latents, settings=settings, **condition, **options
    )


def watch_inputs(unet):
    inputs = {name: [] for name in self_attention_layers(unet)}
    for name, attn in self_attention_layers(unet).items():
        attn.register_forward_hook(
            lambda _, args, output, kept=inputs[name]: kept.append((args[0], output))
        )
    return inputs


def test_maps_of_the_true_target_are_recorded_at_t_5():
    unet = tiny_unet()
    inputs, calls = watch_inputs(unet), []
    unet.register_forward_pre_hook(lambda _, args: calls.append(args))
    maps = record(unet, original_scheduler(), request(2))
    ((rows, timestep, _context),) = calls
    bar = float(original_scheduler().alphas_cumprod[5])
    noised = bar**0.5 * truth(2) + (1 - bar) ** 0.5 * request(2)['noise']
    assert int(timestep) == 5
    assert torch.allclose(rows[:, :4], noised.repeat(2, 1, 1, 1), atol=1e-6)
    assert maps.keys() == inputs.keys()
    for name, layer in self_attention_layers(unet).items():
        hidden = inputs[name][0][0].double().numpy()
        expected = Attention(layer).maps(hidden, hidden).reshape(maps[name].shape)
        np.testing.assert_allclose(maps[name], expected, rtol=0, atol=1e-5 * expected.max())


def test_injected_maps_replace_those_of_every_step():
    unet = tiny_unet()
    maps = record(unet, zero_snr_scheduler(), request(1))
    inputs = watch_inputs(unet)
    attention = injected_attention_maps(unet, maps)
    arguments = request(1) | {'attention': attention}
    sample(unet, zero_snr_scheduler(), settings=LADDER, **arguments)
    for name, layer in self_attention_layers(unet).items():
        reference = Attention(layer)
        known = maps[name].double().numpy().reshape(2, layer.heads, *maps[name].shape[1:])
        assert len(inputs[name]) == 7
        for hidden, output in inputs[name]:
            expected = reference.output(known, hidden.double().numpy())
            np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5 * abs(expected).max())


def test_maps_of_the_same_evaluation_change_nothing():
    unet, arguments = tiny_unet(), request(1)
    maps = record(unet, zero_snr_scheduler(), arguments, timestep=400)
    latents = truth(1) * zero_snr_scheduler().alphas_cumprod[400] ** 0.5
    latents = latents + arguments['noise'] * (1 - zero_snr_scheduler().alphas_cumprod[400]) ** 0.5
    cond = arguments['cond_latents']
    rows = torch.cat([torch.cat([latents, half * cond], 1) for half in (0, 1)])
    context = torch.cat([half * arguments['tokens'] for half in (0, 1)])
    expected = unet(rows, 400, context).sample
    with injected_attention_maps(unet, maps):
        assert torch.allclose(unet(rows, 400, context).sample, expected, atol=1e-5)
    with injected_attention_maps(unet, {name: -m for name, m in maps.items()}):
        assert not torch.allclose(unet(rows, 400, context).sample, expected, atol=1e-2)


def test_window_and_layers_limit_the_injection():
    unet = tiny_unet()
    plain = sample(unet, zero_snr_scheduler(), settings=LADDER, **request(1))
    maps = record(unet, zero_snr_scheduler(), request(1), layers=lambda name: 'mid' in name)
    assert len(maps) == 1
    views = [
        sample(
            unet,
            zero_snr_scheduler(),
            settings=LADDER,
            **request(1) | {'attention': injected_attention_maps(unet, maps, window)},
        )
        for window in ((0, 1000), (600, 1000), (300, 300))
    ]
    assert torch.equal(views[2], plain)
    assert not torch.equal(views[0], views[1]) and not torch.equal(views[1], plain)


def test_injection_and_a_source_branch_exclude_each_other():
    unet = tiny_unet()
    maps = record(unet, original_scheduler(), request(1), settings=preset())
    arguments = request(1) | {'attention': injected_attention_maps(unet, maps)}
    with pytest.raises(ValueError, match='mutual_self_attention'):
        sample(unet, original_scheduler(), settings=preset(), **arguments)


def test_maps_of_another_batch_are_refused():
    unet = tiny_unet()
    maps = record(unet, original_scheduler(), request(1))
    arguments = request(2) | {'attention': injected_attention_maps(unet, maps)}
    with pytest.raises(ValueError, match=r'expected recorded maps of shape \(8,.* got \(4,'):
        sample(unet, original_scheduler(), settings=LADDER, **arguments)
    assert not unet._forward_pre_hooks
