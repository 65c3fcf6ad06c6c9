"""Layout and compilation change nothing but time."""

import dataclasses

import numpy as np
import pytest
import torch

from nvs_ros.geometry.canonical import photograph_view
from nvs_ros.geometry.target import target_from_angles
from nvs_ros.hero.presets import preset, shortened
from nvs_ros.synthesizer import Synthesizer
from nvs_ros.zero123 import random_weights
from nvs_ros.zero123.acceleration import COMPILED, accelerate, is_slow_at_first
from nvs_ros.zero123.components import empty_components

SETTINGS = dataclasses.replace(shortened(preset()), middle_steps=1)


def picture(synthesizer):
    image = np.full((64, 64, 3), 90, np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    image[20:50, 20:50], mask[20:50, 20:50] = (200, 40, 40), 255
    size = synthesizer.components.image_size
    return synthesizer.observe(photograph_view(image, mask, image_size=size))


def view(synthesizer, observation, seed=0):
    target = target_from_angles(observation.source, 1.0, 0.1)
    return synthesizer.synthesize(observation, [target], SETTINGS, seed=seed)[0].image.astype(int)


@pytest.fixture
def small(monkeypatch):
    """The embedded model with a UNet of two levels and random weights, as a function."""
    embedded = Synthesizer.from_pretrained('embedded', device='cpu').components
    configs = {
        name: dict(getattr(embedded, name).config) for name in ('unet', 'vae', 'scheduler')
    } | {
        'image_encoder': embedded.image_encoder.config.to_dict(),
        'cc_projection': {
            'in_features': embedded.cc_projection.in_features,
            'out_features': embedded.cc_projection.out_features,
        },
    }
    configs['unet'] |= {
        'block_out_channels': (16, 32),
        'down_block_types': ('CrossAttnDownBlock2D',) * 2,
        'up_block_types': ('CrossAttnUpBlock2D',) * 2,
    }
    profile = dataclasses.asdict(embedded.profile)
    files = dataclasses.replace(random_weights.FILES, configs=configs, profile=profile)
    monkeypatch.setattr(random_weights, 'FILES', files)
    return random_weights.full_random


def test_compiled_blocks_give_the_same_views_and_are_compiled_once(small):
    """Tracing, guards and warm-up are those of a real compilation; only its backend is left out."""
    plain, components = Synthesizer(small()), small()
    assert not is_slow_at_first(components)
    graphs = []

    def backend(module, _inputs):
        graphs.append(module)
        return module

    accelerate(components, compiled=True, backend=backend)
    assert is_slow_at_first(components)
    blocks = [block for block in components.unet.modules() if isinstance(block, COMPILED)]
    compiled = Synthesizer(components)
    compiled.warm_up(SETTINGS)
    warm = len(graphs)
    assert warm >= len({type(block) for block in blocks})
    observation = picture(plain)
    for seed in range(2):
        difference = view(plain, observation, seed) - view(compiled, observation, seed)
        assert np.abs(difference).max() <= 1
    assert len(graphs) == warm, 'a request had to compile'


def test_there_is_nothing_to_warm_up_on_a_cpu():
    synthesizer = Synthesizer.from_pretrained('embedded', device='cpu')
    calls = []
    synthesizer.components.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    synthesizer.warm_up()
    assert not calls


def test_the_random_model_has_the_real_size():
    components = empty_components(random_weights.FILES)
    counts = {
        name: sum(parameter.numel() for parameter in getattr(components, name).parameters())
        for name in ('unet', 'vae', 'image_encoder')
    }
    assert counts == {'unet': 859_532_484, 'vae': 83_653_863, 'image_encoder': 303_966_208}
    assert (components.latent_size, components.image_size) == (32, 256)


def test_random_weights_are_finite_and_always_the_same(small):
    first, again = Synthesizer(small()), Synthesizer(small())
    for one, other in zip(
        first.components.unet.parameters(), again.components.unet.parameters(), strict=True
    ):
        assert torch.equal(one, other) and torch.isfinite(one).all()
    assert np.ptp(view(first, picture(first))) > 0
