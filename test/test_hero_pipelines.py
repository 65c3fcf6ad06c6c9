"""The method on pipelines of diffusers that know nothing of it: ControlNet."""

import runpy
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionControlNetPipeline
from hero_models import generator, sharpen
from PIL import Image

from nvs_ros.hero import BEYOND_NVS, attention_map_filtering, make_scheduler, preset
from nvs_ros.hero.attention import self_attention_layers

TINY_MODELS = runpy.run_path(Path(__file__).parents[1] / 'examples' / 'tiny_models.py')


@pytest.fixture
def pipe():
    torch.manual_seed(0)
    pipe = TINY_MODELS['controlnet']()
    pipe.set_progress_bar_config(disable=True)
    sharpen(pipe.unet, 9)
    for parameter in pipe.controlnet.parameters():  # its last layers start at zero
        parameter.data += 0.02 * torch.randn(parameter.shape)
    return pipe


def count(module):
    calls = []
    module.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append(int(kwargs.get('timestep', args[1:2] and args[1]))),
        with_kwargs=True,
    )
    return calls


def latents(pipe, condition='white', **kwargs):
    condition = Image.new('RGB', (32, 32), condition)
    arguments = {'num_inference_steps': 66, 'output_type': 'latent', 'generator': generator(4)}
    return pipe('a duck', condition, **arguments | kwargs).images


@pytest.mark.parametrize('guidance_scale', [1.0, 7.5])
def test_controlnet_with_resampling_and_filtering(pipe, guidance_scale):
    settings = preset('amf')
    plain = pipe.unet.attn_processors
    pipe.scheduler = make_scheduler(pipe.scheduler, settings)
    unet_calls, controlnet_calls = count(pipe.unet), count(pipe.controlnet)
    unfiltered = latents(pipe, guidance_scale=guidance_scale)
    with attention_map_filtering(pipe.unet, settings):
        filtered = latents(pipe, guidance_scale=guidance_scale)
        again = latents(pipe, guidance_scale=guidance_scale)
        other = latents(pipe, 'black', guidance_scale=guidance_scale)
    assert unet_calls == controlnet_calls and len(unet_calls) == 4 * 66
    assert torch.isfinite(filtered).all()
    assert torch.equal(filtered, again)
    assert (filtered - unfiltered).abs().max() > 1e-3
    assert (filtered - other).abs().max() > 1e-3
    assert all(pipe.unet.attn_processors[name] is kept for name, kept in plain.items())
    assert torch.equal(latents(pipe, guidance_scale=guidance_scale), unfiltered)


def test_controlnet_settings_of_section_5_3(pipe):
    settings = preset('amf', **BEYOND_NVS)
    pipe.scheduler = make_scheduler(pipe.scheduler, settings)
    calls = count(pipe.unet)
    with attention_map_filtering(pipe.unet, settings):
        latents(pipe)
    early = [t for t in calls if t >= 700]
    assert len(early) == 5 * 15 and set(early) == set(range(701, 1000, 20))
    assert calls[75:] == [601, 501, 401, 301, 201, *range(181, 0, -20)]


def test_all_parts_off_is_the_pipeline_with_ddim_bit_for_bit(pipe):
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    expected = latents(pipe, num_inference_steps=8)
    off = preset('amf', schedule='uniform', num_inference_steps=8, resampling_passes=1)
    windows = {'in_step_window': (0, 0), 'cross_step_window': (0, 0)}
    pipe.scheduler = make_scheduler(pipe.scheduler, off)
    assert torch.equal(latents(pipe, num_inference_steps=8), expected)
    with attention_map_filtering(pipe.unet, preset('amf', resampling_passes=1, **windows)):
        assert torch.equal(latents(pipe, num_inference_steps=8), expected)


def test_a_run_that_failed_may_be_followed_by_another(pipe):
    settings = preset('amf')
    pipe.scheduler = make_scheduler(pipe.scheduler, settings)

    def fail(_pipe, index, _timestep, _tensors):
        if index == 30:
            raise InterruptedError
        return {}

    with attention_map_filtering(pipe.unet, settings):
        expected = latents(pipe)
        with pytest.raises(InterruptedError):
            latents(pipe, callback_on_step_end=fail)
        assert torch.equal(latents(pipe), expected)


def test_pipeline_with_the_scheduler_survives_saving(pipe, tmp_path):
    pipe.scheduler = make_scheduler(pipe.scheduler, preset('amf', resampling_passes=2))
    expected = latents(pipe)
    pipe.save_pretrained(tmp_path)
    loaded = StableDiffusionControlNetPipeline.from_pretrained(tmp_path, safety_checker=None)
    loaded.set_progress_bar_config(disable=True)
    assert torch.equal(latents(loaded), expected)


def test_layers_of_the_controlnet_itself_stay_alone(pipe):
    layers = self_attention_layers(pipe.controlnet).values()
    kept = [attn.processor for attn in layers]
    with attention_map_filtering(pipe.unet, preset('amf')):
        assert kept and [attn.processor for attn in layers] == kept
