"""A model of the real size with random weights: as fast as the real one, but its views are noise.

Sizes are those of zero123-xl: UNet 859.5 M parameters, VAE 83.7 M, CLIP ViT-L/14 304.0 M.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from nvs_ros.hero.learned_filter import LearnedPolicy
from nvs_ros.zero123.components import Zero123Components, empty_components
from nvs_ros.zero123.layout import NETWORKS, ZERO123_XL, ModelFiles, fill
from nvs_ros.zero123.ldm import SCHEDULER

CONFIGS: dict[str, dict[str, Any]] = {
    'unet': {
        'sample_size': 32,
        'in_channels': 8,
        'out_channels': 4,
        'block_out_channels': (320, 640, 1280, 1280),
        'layers_per_block': 2,
        'cross_attention_dim': 768,
        'attention_head_dim': 8,
        'down_block_types': ('CrossAttnDownBlock2D',) * 3 + ('DownBlock2D',),
        'up_block_types': ('UpBlock2D',) + ('CrossAttnUpBlock2D',) * 3,
    },
    'vae': {
        'sample_size': 256,
        'block_out_channels': (128, 256, 512, 512),
        'layers_per_block': 2,
        'down_block_types': ('DownEncoderBlock2D',) * 4,
        'up_block_types': ('UpDecoderBlock2D',) * 4,
        'scaling_factor': 0.18215,
    },
    'image_encoder': {
        'hidden_size': 1024,
        'intermediate_size': 4096,
        'num_hidden_layers': 24,
        'num_attention_heads': 16,
        'patch_size': 14,
        'image_size': 224,
        'projection_dim': 768,
    },
    'cc_projection': {'in_features': 772, 'out_features': 768},
    'scheduler': SCHEDULER,
}


FULL_RANDOM = 'full-random'
FILES = ModelFiles(FULL_RANDOM, ZERO123_XL, CONFIGS, readers={}, weight_paths=())


def full_random(
    *, device: torch.device | str = 'cpu', dtype: torch.dtype = torch.float32
) -> Zero123Components:
    """Make a model of the size of zero123-xl, 5 GB in float32; always the same on a device.

    Matrices are normal with standard deviation 0.02, which keeps activations finite in half
    precision; weights of norms are one and biases zero. Its learned filter leaves maps as they are.
    """
    components = empty_components(FILES)
    generator = torch.Generator(device).manual_seed(0)
    for name in NETWORKS:
        network = getattr(components, name)
        readers = {
            key: partial(_random, key, tensor.shape, generator)
            for key, tensor in network.state_dict().items()
        }
        fill(network, readers, device=device, dtype=dtype, name=name)
    components.learned_filter = LearnedPolicy.neutral(components.unet)
    return components


def _random(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    if len(shape) == 1:
        return torch.full(shape, float(name.endswith('weight')), device=generator.device)
    return torch.randn(shape, device=generator.device, generator=generator) * 0.02
