"""Tiny networks with random weights for the tests of the method; no test of its own."""

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

TOKEN_WIDTH = 16
NOISE_SCHEDULE = {
    'beta_schedule': 'scaled_linear',
    'beta_start': 0.00085,
    'beta_end': 0.012,
    'clip_sample': False,
}

SHORT = {
    'early_steps': 3,
    'middle_steps': 3,
    'late_steps': 1,
    'resampling_passes': 3,
}
"""A run of 13 evaluations that passes through every window."""


def tiny_unet(sample_size=8, in_channels=8, seed=0, **overrides):
    """A UNet of three levels whose attention maps are far from uniform."""
    torch.manual_seed(seed)
    config = {
        'sample_size': sample_size,
        'in_channels': in_channels,
        'out_channels': 4,
        'block_out_channels': (16, 32, 32),
        'layers_per_block': 1,
        'norm_num_groups': 8,
        'cross_attention_dim': TOKEN_WIDTH,
        'attention_head_dim': 2,
        'down_block_types': ('CrossAttnDownBlock2D',) * 3,
        'up_block_types': ('CrossAttnUpBlock2D',) * 3,
    }
    unet = UNet2DConditionModel(**config | overrides).eval().requires_grad_(False)
    sharpen(unet)
    return unet


def smallest_unet():
    """A UNet of two levels, for tests of what is asked of it rather than of what it answers."""
    return tiny_unet(
        sample_size=4,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=('CrossAttnDownBlock2D', 'DownBlock2D'),
        up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D'),
    )


def sharpen(unet, factor=3):
    """Freshly initialised queries and keys give flat maps, on which filtering changes nothing."""
    for name, parameter in unet.named_parameters():
        if name.endswith(('attn1.to_q.weight', 'attn1.to_k.weight')):
            parameter.data.mul_(factor)


def original_scheduler():
    """The noise schedule of the published Zero-1-to-3 weights."""
    return DDIMScheduler(**NOISE_SCHEDULE, set_alpha_to_one=False, steps_offset=1)


def zero_snr_scheduler():
    """A noise schedule without signal at its end, as the embedded model has it."""
    return DDIMScheduler(
        **NOISE_SCHEDULE,
        prediction_type='v_prediction',
        rescale_betas_zero_snr=True,
        timestep_spacing='trailing',
    )


def generator(seed):
    return torch.Generator().manual_seed(seed)


def request(targets, size=8, seed=0):
    """Keyword arguments of `sample` for some targets of one frame.

    Targets differ in token and noise; the first ones do not depend on how many follow.
    """
    cond_latent = torch.randn(1, 4, size, size, generator=generator(seed + 999))
    return {
        'tokens': torch.stack(
            [torch.randn(1, TOKEN_WIDTH, generator=generator(seed + i)) for i in range(targets)]
        ),
        'cond_latents': cond_latent.expand(targets, -1, -1, -1),
        'noise': torch.stack(
            [torch.randn(4, size, size, generator=generator(seed + 50 + i)) for i in range(targets)]
        ),
        'generator': [generator(seed + 100 + i) for i in range(targets)],
        'source_token': torch.randn(1, 1, TOKEN_WIDTH, generator=generator(seed + 998)),
        'source_cond_latent': cond_latent,
        'source_generator': generator(seed + 997),
    }


def only(arguments, index):
    """The same request for one of its targets."""
    kept = slice(index, index + 1)
    per_target = ('tokens', 'cond_latents', 'noise', 'generator')
    return arguments | {name: arguments[name][kept] for name in per_target}
