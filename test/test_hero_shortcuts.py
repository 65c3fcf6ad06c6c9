"""Shortcuts change nothing beyond rounding, on any diffusers UNet that they fit."""

from contextlib import ExitStack

import pytest
import torch
from hero_models import SHORT, TOKEN_WIDTH, generator, original_scheduler, request, tiny_unet

from nvs_ros.hero import preset, sample
from nvs_ros.hero.shortcuts import single_token_context, timestep_table

SPECIES = {
    'Zero-1-to-3': {},
    'several layers a block': {'transformer_layers_per_block': 2},
    'linear projection': {'use_linear_projection': True},
    'scale and shift': {'resnet_time_scale_shift': 'scale_shift'},
    'time before activation': {'resnet_skip_time_act': True},
    'no cross-attention at the top': {
        'down_block_types': ('DownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'),
        'up_block_types': ('CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'),
    },
    'classes': {'class_embed_type': 'projection', 'projection_class_embeddings_input_dim': 6},
}


def calls(unet, timesteps, tokens=1):
    """Answers of a UNet to one context at some timesteps, and to another one."""
    rows = torch.randn(3, 8, 8, 8, generator=generator(0))
    contexts = [torch.randn(3, tokens, TOKEN_WIDTH, generator=generator(i)) for i in (1, 2)]
    labels = {} if unet.class_embedding is None else {'class_labels': torch.ones(3, 6)}
    with torch.inference_mode(), ExitStack() as stack:
        table = yield stack
        for index, t in enumerate(timesteps):
            if table is not None:
                table.turn_to(index)
            for context in (contexts[0], contexts[1], contexts[0]):
                yield unet(rows, t, context, **labels).sample


def answers(unet, timesteps, shortcut=None, tokens=1):
    running = calls(unet, timesteps, tokens)
    stack = next(running)
    entered = stack.enter_context(shortcut) if shortcut is not None else None
    return torch.stack([running.send(entered), *running])


@pytest.mark.parametrize('species', SPECIES)
@pytest.mark.parametrize('shortcut', ['context', 'timesteps'])
def test_answers_are_the_same(species, shortcut):
    unet, timesteps = tiny_unet(**SPECIES[species]), [981, 981, 501, 1]
    expected = answers(unet, timesteps)
    installed = {
        'context': lambda: single_token_context(unet),
        'timesteps': lambda: timestep_table(unet, timesteps),
    }[shortcut]
    actual = answers(unet, timesteps, installed())
    assert (actual - expected).abs().max() < 1e-5 * expected.std()
    assert (expected[0] - expected[1]).abs().max() > 1e-2 * expected.std()
    assert (expected[0] - expected[6]).abs().max() > 1e-2 * expected.std()


def test_longer_contexts_are_attended_to():
    unet = tiny_unet()
    expected = answers(unet, [501], tokens=5)
    assert torch.equal(answers(unet, [501], single_token_context(unet), tokens=5), expected)


def test_shortcuts_spare_what_they_promise_and_leave_the_unet_as_it_was():
    unet, timesteps = tiny_unet(), [981, 501]
    before = dict(unet.named_modules())
    counts = {'to_q': 0, 'to_v': 0, 'norm2': 0, 'linear_1': 0, 'time_emb_proj': 0}
    spared = {
        name: module
        for name, module in before.items()
        if name.rpartition('.')[2] in counts and '.attn1.' not in name and '.resnets' not in name
    } | {name: module for name, module in before.items() if name.endswith('time_emb_proj')}

    def count(name):
        def hook(*_):
            counts[name.rpartition('.')[2]] += 1

        return hook

    for name, module in spared.items():
        module.register_forward_hook(count(name))
    layers = sum(name.endswith('attn2.to_q') for name in spared)
    resnets = sum(name.endswith('time_emb_proj') for name in spared)
    answers(unet, timesteps, single_token_context(unet))
    assert counts['to_q'] == counts['norm2'] == 0
    assert counts['to_v'] == 5 * layers, 'of six calls five bring another context'
    counts['time_emb_proj'] = counts['linear_1'] = 0
    answers(unet, timesteps, timestep_table(unet, timesteps))
    assert counts['time_emb_proj'] == resnets and counts['linear_1'] == 1
    after = dict(unet.named_modules())
    assert list(after) == list(before)
    assert all(after[name] is module for name, module in before.items())


def test_the_sampler_takes_them():
    """A bias for each context: one with source rows, one without."""
    unet = tiny_unet()
    attention = unet.mid_block.attentions[0].transformer_blocks[0].attn2
    counts = {'to_q': 0, 'to_v': 0}
    for name in counts:
        getattr(attention, name).register_forward_hook(
            lambda *_, name=name: counts.__setitem__(name, counts[name] + 1)
        )
    sample(unet, original_scheduler(), settings=preset(**SHORT), **request(2))
    assert counts == {'to_q': 0, 'to_v': 2}
