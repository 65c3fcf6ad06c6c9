"""MVDream on a plain UNet: against the original's answers, and with map filtering."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hero_models import SHORT, TOKEN_WIDTH, generator, original_scheduler, sharpen, tiny_unet
from hero_reference import Attention, refined_maps

from nvs_ros.errors import UserError
from nvs_ros.hero import attention_map_filtering, make_scheduler, preset
from nvs_ros.hero.attention import self_attention_layers
from nvs_ros.testing.golden import rule_tensor
from nvs_ros.zero123.multiview import load_mvdream_unet, multi_view_attention, orbit_cameras


@pytest.fixture(scope='module')
def golden():
    with np.load(Path(__file__).parent / 'data' / 'mvdream_small.npz') as stored:
        return {name: stored[name] for name in stored.files}


@pytest.fixture(scope='module')
def checkpoint(golden, tmp_path_factory):
    manifest = json.loads(str(golden['manifest']))
    path = tmp_path_factory.mktemp('mvdream') / 'small-4view.pt'
    torch.save({key: rule_tensor(key, shape) for key, shape in manifest.items()}, path)
    return path


def test_original_checkpoint_gives_the_originals_answer(golden, checkpoint):
    """`output` was computed by the original MVDream code, two objects of four views."""
    unet = load_mvdream_unet(checkpoint)
    latents, context, cameras, expected = (
        torch.from_numpy(golden[name]) for name in ('latents', 'context', 'cameras', 'output')
    )
    with multi_view_attention(unet, cameras), torch.inference_mode():
        actual = unet(latents, 501, context).sample
    assert (actual - expected).abs().max() < 1e-4 * expected.std()
    with torch.inference_mode():
        apart = unet(latents, 501, context, class_labels=cameras.repeat(2, 1)).sample
    assert (apart - expected).abs().max() > 0.1 * expected.std()


def test_cameras_are_those_of_the_original(golden):
    np.testing.assert_allclose(orbit_cameras(4), golden['cameras'], atol=1e-6)


def test_another_checkpoint_is_refused(tmp_path):
    path = tmp_path / 'other.pt'
    torch.save({'model.diffusion_model.out.2.bias': torch.zeros(4)}, path)
    with pytest.raises(UserError, match='expected an MVDream checkpoint'):
        load_mvdream_unet(path)


def multi_view_unet():
    unet = tiny_unet(
        in_channels=4, class_embed_type='projection', projection_class_embeddings_input_dim=16
    )
    sharpen(unet)
    return unet


def test_number_of_rows_must_fit():
    unet = multi_view_unet()
    with (
        multi_view_attention(unet, orbit_cameras(4)),
        pytest.raises(ValueError, match='multiple of 4 views as rows, got 6'),
    ):
        unet(torch.zeros(6, 4, 8, 8), 1, torch.zeros(6, 1, TOKEN_WIDTH))
    assert not unet._forward_pre_hooks
    assert not any(attn._forward_hooks for attn in self_attention_layers(unet).values())


@pytest.mark.parametrize('pooling', ['min', 'mean', 'ema'])
def test_filtering_of_joint_maps_agrees_with_the_reference(pooling):
    unet, settings = multi_view_unet(), preset('amf', **SHORT, pooling=pooling)
    scheduler = make_scheduler(original_scheduler(), settings)
    context = torch.randn(8, 3, TOKEN_WIDTH, generator=generator(1))
    latents = torch.randn(4, 4, 8, 8, generator=generator(2))
    layers, inputs, outputs = self_attention_layers(unet), {}, {}
    noises = generator(3)
    with (
        multi_view_attention(unet, orbit_cameras(4)),
        attention_map_filtering(unet, settings),
        torch.inference_mode(),
    ):
        for name, attn in layers.items():
            attn.register_forward_hook(
                lambda _, args, output, name=name: (
                    (
                        inputs.setdefault(name, []).append(args[0].double().numpy()),
                        outputs.setdefault(name, []).append(output.double().numpy()),
                    )[:0]
                    or None
                )
            )
        for t in scheduler.timesteps:
            uncond, cond = unet(torch.cat([latents] * 2), t, context).sample.chunk(2)
            output = uncond + 3 * (cond - uncond)
            latents = scheduler.step(output, t, latents, generator=noises).prev_sample
    timesteps = scheduler.timesteps.tolist()
    for name, attn in layers.items():
        reference = Attention(attn)
        maps = [reference.maps(hidden, hidden) for hidden in inputs[name]]
        assert maps[0].shape[0] == 2 and maps[0].shape[-1] % 4 == 0
        refined = refined_maps(
            timesteps,
            maps,
            pooling=pooling,
            alpha_i=settings.alpha_i,
            alpha_c=settings.alpha_c,
            alpha_h=settings.alpha_h,
            in_step_window=settings.in_step_window,
            cross_step_window=settings.cross_step_window,
        )
        for hidden, actual, m in zip(inputs[name], outputs[name], refined, strict=True):
            expected = reference.output(m, hidden).reshape(actual.shape)
            assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()
