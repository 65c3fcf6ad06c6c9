"""The hourglass scheduler: its timesteps, its arithmetic, its place in diffusers."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler
from hero_models import generator, original_scheduler, zero_snr_scheduler
from hero_reference import alphas_bar, ddim_step, renoise
from hypothesis import given, settings
from hypothesis import strategies as st

from nvs_ros.hero import HourglassDDIMScheduler

EARLY, MIDDLE, LATE = range(981, 800, -20), range(701, 200, -100), range(181, 0, -20)
SHAPE = (2, 4, 3, 5)


def hourglass(base=None, **fields):
    made = HourglassDDIMScheduler.from_config((base or original_scheduler()).config, **fields)
    made.set_timesteps()
    return made


def outputs(count, seed=0):
    """Network outputs that do not depend on the sample: any numbers will do."""
    return list(torch.randn(count, *SHAPE, generator=generator(seed)))


def run(scheduler, predictions, **kwargs):
    """Latents after each step from a fixed start."""
    sample = torch.randn(SHAPE, generator=generator(1)) * scheduler.init_noise_sigma
    samples = []
    for t, prediction in zip(scheduler.timesteps, predictions, strict=True):
        sample = scheduler.step(prediction, t, sample, **kwargs).prev_sample
        samples.append(sample)
    return samples


def test_all_of_the_noise_is_new_from_zero_terminal_snr_on():
    """With eta = 1 nothing remains of the predicted noise at first, and no root of less."""
    scheduler = hourglass(zero_snr_scheduler())
    predictions = outputs(len(scheduler.timesteps))
    samples = run(scheduler, predictions, eta=1.0, generator=generator(2))
    assert all(torch.isfinite(sample).all() for sample in samples)


def test_default_timesteps_are_those_of_the_paper():
    scheduler = hourglass(resampling_passes=1)
    assert scheduler.timesteps.tolist() == [*EARLY, *MIDDLE, *LATE]
    assert scheduler.num_inference_steps == 26


def test_early_timesteps_stand_five_times():
    expected = [t for t in EARLY for _ in range(5)] + [*MIDDLE, *LATE]
    assert hourglass().timesteps.tolist() == expected
    assert len(expected) == 66


def test_trailing_stages_end_at_their_upper_ends():
    scheduler = hourglass(zero_snr_scheduler(), resampling_passes=1)
    expected = [*range(999, 800, -20), *range(799, 200, -100), *range(199, 0, -20)]
    assert scheduler.timesteps.tolist() == expected
    assert len(hourglass(zero_snr_scheduler()).timesteps) == 66


@pytest.mark.parametrize('spacing', ['leading', 'trailing', 'linspace'])
@pytest.mark.parametrize('steps', [1, 7, 25, 50, 1000])
def test_uniform_timesteps_are_those_of_ddim(spacing, steps):
    ddim = DDIMScheduler.from_config(original_scheduler().config, timestep_spacing=spacing)
    if spacing == 'leading':
        ddim.register_to_config(steps_offset=0)
    ddim.set_timesteps(steps)
    scheduler = HourglassDDIMScheduler.from_config(
        ddim.config, schedule='uniform', resampling_passes=1
    )
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == ddim.timesteps.tolist()


@pytest.mark.parametrize('eta', [0.0, 0.7])
@pytest.mark.parametrize('clip', [False, True])
@pytest.mark.parametrize('prediction_type', ['epsilon', 'sample', 'v_prediction'])
def test_uniform_without_resampling_equals_ddim_bit_for_bit(prediction_type, clip, eta):
    ddim = DDIMScheduler.from_config(
        original_scheduler().config, prediction_type=prediction_type, clip_sample=clip
    )
    scheduler = HourglassDDIMScheduler.from_config(
        ddim.config, schedule='uniform', resampling_passes=1
    )
    ddim.set_timesteps(30)
    scheduler.set_timesteps(30)
    predictions = outputs(30)
    kwargs = {'eta': eta, 'use_clipped_model_output': clip}
    expected = run(ddim, predictions, generator=generator(3), **kwargs)
    actual = run(scheduler, predictions, generator=generator(3), **kwargs)
    for a, b in zip(actual, expected, strict=True):
        assert torch.equal(a, b)


def test_uniform_trailing_timesteps_equal_ddim_bit_for_bit():
    ddim = zero_snr_scheduler()
    scheduler = HourglassDDIMScheduler.from_config(
        ddim.config, schedule='uniform', resampling_passes=1
    )
    ddim.set_timesteps(25)
    scheduler.set_timesteps(25)
    predictions = outputs(25)
    for a, b in zip(run(scheduler, predictions), run(ddim, predictions), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize('base', [original_scheduler, zero_snr_scheduler])
def test_hourglass_agrees_with_a_float64_computation(base):
    """Including re-noising, and with nothing infinite where there is no signal."""
    config = base().config
    zero_snr = config.rescale_betas_zero_snr
    bars = alphas_bar(zero_terminal_snr=zero_snr)
    final = 1.0 if zero_snr else bars[0]
    scheduler = hourglass(base())
    timesteps = scheduler.timesteps.tolist()
    predictions = outputs(len(timesteps))
    noises = generator(3)
    z = torch.randn(SHAPE, generator=generator(1)).double().numpy()
    actual = run(scheduler, predictions, generator=generator(3))
    distinct = sorted(set(timesteps), reverse=True)
    previous = dict(zip(distinct, [*distinct[1:], None], strict=True))
    for i, t in enumerate(timesteps):
        bar_previous = final if previous[t] is None else bars[previous[t]]
        output = predictions[i].double().numpy()
        z, _ = ddim_step(z, output, bars[t], bar_previous, config.prediction_type)
        if i + 1 < len(timesteps) and timesteps[i + 1] == t:
            noise = torch.randn(SHAPE, generator=noises).double().numpy()
            z = renoise(z, noise, bars[t], bar_previous)
        np.testing.assert_allclose(actual[i].numpy(), z, rtol=0, atol=2e-5 * np.abs(z).max())


def test_diffusers_own_step_would_be_wrong_on_these_timesteps():
    """The reason for a step of its own: should this fail, diffusers learned irregular timesteps."""
    scheduler = hourglass(resampling_passes=1)
    ddim = original_scheduler()
    ddim.set_timesteps(26)
    ddim.timesteps = scheduler.timesteps
    predictions = outputs(26)
    assert (run(ddim, predictions)[-1] - run(scheduler, predictions)[-1]).abs().max() > 0.1


def test_re_noising_keeps_the_marginal_of_the_forward_process():
    """z_{t-1} distributed as q(z_{t-1} | z_0) must come back distributed as q(z_t | z_0)."""
    scheduler = hourglass()
    t, previous = 981, 961
    z_0, bars = 0.7, scheduler.alphas_cumprod
    epsilon = torch.randn(400_000, generator=generator(0))
    z_previous = bars[previous] ** 0.5 * z_0 + (1 - bars[previous]) ** 0.5 * epsilon
    z_t = scheduler._renoise(z_previous, t, previous, generator(1))
    assert z_t.mean() == pytest.approx(float(bars[t] ** 0.5 * z_0), abs=0.01)
    assert z_t.std() == pytest.approx(float((1 - bars[t]) ** 0.5), abs=0.01)


def test_a_generator_for_each_sample_makes_samples_independent_of_their_batch():
    predictions = outputs(66)
    both = run(hourglass(), predictions, generator=[generator(5), generator(6)])[-1]
    scheduler, alone = hourglass(), [generator(6)]
    sample = torch.randn(SHAPE, generator=generator(1))[1:]
    for t, prediction in zip(scheduler.timesteps, predictions, strict=True):
        sample = scheduler.step(prediction[1:], t, sample, generator=alone).prev_sample
    assert torch.equal(sample, both[1:])


def test_a_finished_or_broken_run_leaves_nothing_for_the_next():
    predictions = outputs(66)
    scheduler = hourglass()
    first = run(scheduler, predictions, generator=generator(3))[-1]
    assert torch.equal(run(scheduler, predictions, generator=generator(3))[-1], first)
    scheduler.step(predictions[0], 981, predictions[1], generator=generator(9))
    scheduler.set_timesteps()
    assert torch.equal(run(scheduler, predictions, generator=generator(3))[-1], first)


def test_step_refuses_a_timestep_out_of_turn():
    scheduler = hourglass()
    sample = torch.zeros(SHAPE)
    scheduler.step(sample, 981, sample)
    with pytest.raises(ValueError, match='expected 981.* got 961'):
        scheduler.step(sample, 961, sample)
    with pytest.raises(ValueError, match='got 500'):
        hourglass().step(sample, 500, sample)
    with pytest.raises(ValueError, match='set_timesteps'):
        HourglassDDIMScheduler().step(sample, 981, sample)


def test_config_survives_saving(tmp_path):
    scheduler = hourglass(resampling_passes=3, resampling_window=(700, 1000), early_steps=20)
    scheduler.save_pretrained(tmp_path)
    loaded = HourglassDDIMScheduler.from_pretrained(tmp_path)
    loaded.set_timesteps()
    assert loaded.timesteps.tolist() == scheduler.timesteps.tolist()
    assert torch.equal(loaded.alphas_cumprod, scheduler.alphas_cumprod)


def test_config_of_the_models_scheduler_carries_over():
    scheduler = hourglass(zero_snr_scheduler())
    for name, value in zero_snr_scheduler().config.items():
        if not name.startswith('_'):
            assert scheduler.config[name] == value, name
    pndm = PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule='scaled_linear')
    made = HourglassDDIMScheduler.from_config(pndm.config, steps_offset=1)
    assert torch.equal(made.alphas_cumprod, pndm.alphas_cumprod)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'resampling_passes': 0}, 'resampling_passes.*got 0'),
        ({'resampling_passes': 2.5}, 'resampling_passes.*got 2.5'),
        ({'resampling_window': (900, 800)}, r'resampling_window.*\(900, 800\)'),
        ({'schedule': 'sandglass'}, 'sandglass'),
        ({'prediction_type': 'x0'}, 'x0'),
        ({'stage_boundaries': (800, 200)}, 'middle_steps'),
        ({'early_steps': 201}, 'early_steps.*got 201'),
        ({'middle_steps': 0}, 'middle_steps.*got 0'),
        ({'timestep_spacing': 'linspace'}, 'linspace'),
        ({'steps_offset': 20}, 'steps_offset'),
        ({'schedule': 'uniform'}, 'num_inference_steps'),
    ],
)
def test_bad_values_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        hourglass(**fields)


def test_a_first_timestep_that_does_not_exist_is_refused():
    scheduler = HourglassDDIMScheduler.from_config(original_scheduler().config, schedule='uniform')
    with pytest.raises(ValueError, match='steps_offset: 1 .* 1000 timesteps at 1000'):
        scheduler.set_timesteps(1000)
    scheduler.set_timesteps(999)
    assert scheduler.timesteps[0] == 999


def test_a_uniform_schedule_without_steps_is_refused():
    with pytest.raises(ValueError, match='num_inference_steps.*got 0'):
        HourglassDDIMScheduler(schedule='uniform').set_timesteps(0)


def test_epsilon_is_refused_where_there_is_no_signal():
    with pytest.raises(ValueError, match='epsilon.*t=999'):
        hourglass(zero_snr_scheduler(), prediction_type='epsilon')


@settings(max_examples=60, deadline=None)
@given(
    steps=st.tuples(*[st.integers(1, 60)] * 3),
    boundaries=st.tuples(st.integers(60, 400), st.integers(460, 930)),
    passes=st.integers(1, 6),
    window=st.tuples(st.integers(0, 1000), st.integers(0, 1000)).map(sorted),
    trailing=st.booleans(),
)
def test_stages_hold_their_timesteps(steps, boundaries, passes, window, trailing):
    base = zero_snr_scheduler() if trailing else original_scheduler()
    base.register_to_config(steps_offset=0)
    scheduler = hourglass(
        base,
        early_steps=steps[0],
        middle_steps=steps[1],
        late_steps=steps[2],
        stage_boundaries=boundaries,
        resampling_passes=passes,
        resampling_window=window,
    )
    timesteps = scheduler.timesteps.tolist()
    low, high = boundaries
    distinct = sorted(set(timesteps), reverse=True)
    assert sum(t >= high for t in distinct) == steps[0]
    assert sum(low <= t < high for t in distinct) == steps[1]
    assert sum(t < low for t in distinct) == steps[2]
    assert timesteps == sorted(timesteps, reverse=True)
    assert timesteps[-1] >= 0 and timesteps[0] < 1000
    for t in distinct:
        assert timesteps.count(t) == (passes if window[0] <= t < window[1] else 1)
