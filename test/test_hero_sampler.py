"""The sampler: what the network is asked, in what order, and what comes out."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from hero_models import (
    SHORT,
    generator,
    only,
    original_scheduler,
    request,
    smallest_unet,
    tiny_unet,
    zero_snr_scheduler,
)
from hero_reference import alphas_bar, ddim_step, renoise

from nvs_ros.hero import PRESETS, attention_map_filtering, preset, sample
from nvs_ros.hero.learned_filter import LearnedPolicy
from nvs_ros.hero.shortcuts import without

EVALUATIONS = {
    'zero123': 25,
    'hourglass': 26,
    'resample': 66,
    'amf': 66,
    'msa': 26,
    'zero-to-hero': 66,
    'learned': 26,
    'fast': 8,
}


class Calls:
    """Every call of a UNet: timestep, rows, context and output."""

    def __init__(self, unet):
        self.timesteps, self.rows, self.contexts, self.outputs = [], [], [], []
        unet.register_forward_hook(self.keep)

    def keep(self, _unet, args, output):
        rows, timestep, context = args
        self.timesteps.append(int(timestep))
        self.rows.append(rows)
        self.contexts.append(context)
        self.outputs.append(output[0])


def filtered(unet, settings):
    """Filtering as the settings say; a learned filter makes maps flatter."""
    neutral = LearnedPolicy.neutral(unet)
    flatter = LearnedPolicy({name: weights / 2 for name, weights in neutral.weights.items()})
    return attention_map_filtering(unet, settings, policy=flatter if settings.learned else None)


@pytest.mark.parametrize('scheduler', [original_scheduler, zero_snr_scheduler])
@pytest.mark.parametrize('name', PRESETS)
def test_number_of_network_evaluations(name, scheduler):
    unet = smallest_unet()
    calls = Calls(unet)
    attention = filtered(unet, preset(name))
    view = sample(
        unet, scheduler(), settings=preset(name), attention=attention, **request(1, size=4)
    )
    assert len(calls.timesteps) == EVALUATIONS[name]
    assert torch.isfinite(view).all()


def plain_ddim(unet, steps, arguments, guidance_scale):
    """Zero-1-to-3 as a loop over diffusers' own scheduler."""
    scheduler = original_scheduler()
    scheduler.set_timesteps(steps)
    latents, cond, tokens = (arguments[name] for name in ('noise', 'cond_latents', 'tokens'))
    for t in scheduler.timesteps:
        rows = torch.cat(
            [torch.cat([latents, torch.zeros_like(cond)], 1), torch.cat([latents, cond], 1)]
        )
        context = torch.cat([torch.zeros_like(tokens), tokens])
        with torch.no_grad():
            uncond, guided = unet(rows, t, context).sample.chunk(2)
        output = uncond + guidance_scale * (guided - uncond)
        latents = scheduler.step(output, t, latents).prev_sample
    return latents


EMPTY_WINDOWS = {
    'resampling_window': (1000, 1000),
    'in_step_window': (0, 0),
    'cross_step_window': (500, 500),
    'msa_window': (0, 0),
}


@pytest.mark.parametrize(
    'settings',
    [
        preset('zero123', num_inference_steps=10),
        preset('zero-to-hero', schedule='uniform', num_inference_steps=10, **EMPTY_WINDOWS),
    ],
    ids=['all parts off', 'all parts on with empty windows'],
)
@pytest.mark.parametrize('shortcuts', [False, True])
def test_without_the_method_it_is_ddim(settings, shortcuts):
    """Bit for bit; what is computed once for all evaluations changes nothing but rounding."""
    unet = tiny_unet()
    expected = plain_ddim(unet, 10, request(2), settings.guidance_scale)
    with without(*([] if shortcuts else ['single_token_context', 'timestep_table'])):
        result = sample(unet, original_scheduler(), settings=settings, **request(2))
    if shortcuts:
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-4 * float(expected.std()))
    else:
        assert torch.equal(result, expected)


@pytest.mark.parametrize('guidance_scale', [1.0, 3.0])
@pytest.mark.parametrize('base', [original_scheduler, zero_snr_scheduler])
def test_every_network_input_follows_from_the_outputs(base, guidance_scale):
    """A float64 computation of guidance, DDIM and re-noising from the network's answers."""
    unet, settings = smallest_unet(), preset(guidance_scale=guidance_scale)
    calls, arguments = Calls(unet), request(2, size=4)
    result = sample(unet, base(), settings=settings, **arguments)
    zero_snr = base().config.rescale_betas_zero_snr
    bars = alphas_bar(zero_terminal_snr=zero_snr)
    arguments = request(2, size=4)
    generators = [arguments['source_generator'], *arguments['generator']]
    source_noise = torch.randn(1, 4, 4, 4, generator=generators[0])
    z = torch.cat([source_noise, arguments['noise']]).double().numpy()
    cond = torch.cat([arguments['source_cond_latent'], arguments['cond_latents']])
    token = torch.cat([arguments['source_token'], arguments['tokens']])
    distinct = sorted(set(calls.timesteps), reverse=True)
    previous = dict(zip(distinct, distinct[1:], strict=False))
    for i, t in enumerate(calls.timesteps):
        if t < 600 and len(z) == 3:  # the source has had its last use
            z, cond, token, generators = z[1:], cond[1:], token[1:], generators[1:]
        halves = [1] if guidance_scale == 1 else [0, 1]
        rows = np.concatenate([np.concatenate([z, half * cond.numpy()], 1) for half in halves])
        np.testing.assert_allclose(calls.rows[i], rows, rtol=0, atol=2e-4 * np.abs(rows).max())
        assert torch.equal(calls.contexts[i], torch.cat([half * token for half in halves]))
        output = calls.outputs[i].double().numpy()
        if guidance_scale > 1:
            uncond, guided = np.split(output, 2)
            output = uncond + guidance_scale * (guided - uncond)
        # From the network's own input, so that rounding does not add up over the run.
        z = calls.rows[i][-len(z) :, :4].double().numpy()
        bar_previous = bars[previous[t]] if t in previous else (1.0 if zero_snr else bars[0])
        z, _ = ddim_step(z, output, bars[t], bar_previous, base().config.prediction_type)
        if calls.timesteps[i + 1 : i + 2] == [t]:
            noise = [torch.randn(1, 4, 4, 4, generator=g) for g in generators]
            z = renoise(z, torch.cat(noise).double().numpy(), bars[t], bar_previous)
    np.testing.assert_allclose(result, z, rtol=0, atol=2e-4 * np.abs(z).max())


def test_source_rows_lead_each_half_until_their_last_use():
    unet = smallest_unet()
    calls = Calls(unet)
    sample(unet, original_scheduler(), settings=preset(), **request(3, size=4))
    sizes = [len(rows) for rows in calls.rows]
    assert sizes == [8 if t >= 600 else 6 for t in calls.timesteps]
    assert sizes.count(8) == 52


def test_source_branch_is_the_same_for_whatever_targets():
    """So one branch, or a cache of it, serves every view of a frame."""
    unet = smallest_unet()
    branches = []
    for arguments in (request(1, size=4), request(3, size=4) | {'generator': generator(5)}):
        calls = Calls(unet)
        sample(unet, original_scheduler(), settings=preset(), **arguments)
        branches.append([rows[0] for rows in calls.rows[:52]])
    for first, second in zip(*branches, strict=True):
        assert (first - second).abs().max() < 1e-4 * first.abs().max()


def test_source_noise_may_be_given():
    unet, settings = smallest_unet(), preset()
    arguments = request(1, size=4)
    calls = Calls(unet)
    sample(
        unet, original_scheduler(), settings=settings, source_noise=arguments['noise'], **arguments
    )
    assert torch.equal(calls.rows[0][0], calls.rows[0][1])


@pytest.mark.parametrize('name', PRESETS)
def test_single_views_equal_those_of_a_batch(name):
    unet, settings = tiny_unet(), preset(name, **SHORT)

    def views(**arguments):
        attention = filtered(unet, settings)
        scheduler = zero_snr_scheduler()
        return sample(unet, scheduler, settings=settings, attention=attention, **arguments)

    together, alone = views(**request(3)), views(**only(request(3), 1))
    assert (together[1] - alone[0]).abs().max() < 1e-4 * alone.abs().max()


def test_same_seed_same_view_and_other_seed_other_view():
    unet = smallest_unet()
    first, again, other = (
        sample(unet, zero_snr_scheduler(), settings=preset(**SHORT), **request(2, size=4) | changes)
        for changes in ({}, {}, {'generator': [generator(7), generator(8)]})
    )
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.01


@pytest.mark.parametrize('evaluation', [1, 2, 9, 13])
def test_a_cancelled_run_leaves_nothing_behind(evaluation):
    unet, scheduler = smallest_unet(), original_scheduler()
    processors = dict(unet.attn_processors)

    def cancel(progress):
        if progress['evaluation'] == evaluation:
            raise InterruptedError

    expected = sample(unet, scheduler, settings=preset(**SHORT), **request(2, size=4))
    with pytest.raises(InterruptedError):
        sample(unet, scheduler, settings=preset(**SHORT), callback=cancel, **request(2, size=4))
    assert all(unet.attn_processors[name] is kept for name, kept in processors.items())
    assert torch.equal(
        sample(unet, scheduler, settings=preset(**SHORT), **request(2, size=4)), expected
    )


def test_a_run_that_failed_in_the_network_leaves_nothing_behind():
    unet = smallest_unet()
    expected = sample(unet, original_scheduler(), settings=preset(**SHORT), **request(1, size=4))
    count = []

    def fail(*_):
        count.append(1)
        if len(count) == 8:
            raise MemoryError

    hook = unet.mid_block.register_forward_hook(fail)
    with pytest.raises(MemoryError):
        sample(unet, original_scheduler(), settings=preset(**SHORT), **request(1, size=4))
    hook.remove()
    again = sample(unet, original_scheduler(), settings=preset(**SHORT), **request(1, size=4))
    assert torch.equal(again, expected)


def test_callback_sees_every_evaluation():
    unet, seen = smallest_unet(), []
    view = sample(
        unet,
        original_scheduler(),
        settings=preset(**SHORT),
        callback=seen.append,
        **request(2, size=4),
    )
    assert [progress['evaluation'] for progress in seen] == list(range(1, 14))
    assert {progress['evaluations'] for progress in seen} == {13}
    assert torch.equal(seen[-1]['latents'], view)
    assert all(p['latents'].shape == p['denoised'].shape == (2, 4, 4, 4) for p in seen)


def test_models_scheduler_is_not_touched():
    scheduler = original_scheduler()
    scheduler.set_timesteps(7)
    config, timesteps = dict(scheduler.config), scheduler.timesteps.clone()
    sample(smallest_unet(), scheduler, settings=preset(**SHORT), **request(1, size=4))
    assert dict(scheduler.config) == config and torch.equal(scheduler.timesteps, timesteps)
    assert type(scheduler) is DDIMScheduler


def test_settings_of_the_filter_may_choose_layers():
    unet, settings = tiny_unet(), preset('amf', **SHORT)
    everywhere = sample(unet, zero_snr_scheduler(), settings=settings, **request(1))
    somewhere = sample(
        unet,
        zero_snr_scheduler(),
        settings=settings,
        attention=attention_map_filtering(unet, settings, layers=lambda name: 'mid' in name),
        **request(1),
    )
    assert (everywhere - somewhere).abs().max() > 1e-4


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'tokens': torch.zeros(1, 1, 16)}, r'expected 2 tokens.*\(1, 1, 16\)'),
        ({'cond_latents': torch.zeros(2, 4, 8, 8)}, r'\(2, 4, 8, 8\)'),
        ({'generator': [generator(0)]}, 'generator.*2 targets, got 1'),
        ({'source_token': None}, 'source_token'),
        ({'source_cond_latent': None}, 'source_cond_latent'),
    ],
)
def test_wrong_inputs_are_named(changes, message):
    unet = smallest_unet()
    with pytest.raises(ValueError, match=message):
        sample(unet, original_scheduler(), settings=preset(), **request(2, size=4) | changes)
    assert not unet._forward_pre_hooks


def test_each_evaluation_takes_the_condition_of_a_random_frame():
    """Each row draws for itself, with its own generator."""
    settings = preset('zero123', num_inference_steps=12)
    arguments = request(2)
    more = [(arguments['tokens'] + shift, arguments['cond_latents'] + shift) for shift in (1, 2)]
    calls = Calls(unet := tiny_unet())
    together = sample(
        unet, original_scheduler(), settings=settings, further_conditions=more, **arguments
    )
    drawn = []
    for context, rows in zip(calls.contexts, calls.rows, strict=True):
        assert not context[:2].any() and not rows[:2, 4:].any(), 'unconditional'
        of_tokens = (context[2:] - arguments['tokens']).mean((1, 2))
        of_latents = (rows[2:, 4:] - arguments['cond_latents']).mean((1, 2, 3))
        torch.testing.assert_close(of_tokens, of_latents, atol=1e-4, rtol=0)
        drawn.append(of_tokens.round().int().tolist())
    assert {row[0] for row in drawn} == {row[1] for row in drawn} == {0, 1, 2}
    assert any(first != second for first, second in drawn)
    arguments = only(request(2), 1)
    more = [(arguments['tokens'] + shift, arguments['cond_latents'] + shift) for shift in (1, 2)]
    alone = sample(
        unet, original_scheduler(), settings=settings, further_conditions=more, **arguments
    )
    torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=1e-4)


def test_conditions_of_further_frames_have_the_shapes_of_the_first():
    arguments = request(2)
    more = [(arguments['tokens'][:1], arguments['cond_latents'])]
    with pytest.raises(ValueError, match='expected 2 tokens'):
        sample(
            tiny_unet(), original_scheduler(), settings=SHORT, further_conditions=more, **arguments
        )
