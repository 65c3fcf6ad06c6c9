"""The original checkpoint layout (latent-diffusion): names, configurations, moving average.

Nothing but the tensors describes an original checkpoint, so every width and depth is taken from
their shapes. What shapes cannot tell is the same for all Zero-1-to-3 checkpoints: 8 attention
heads in the UNet, 64 channels for each head of the image tower, 256-pixel pictures, the noise
schedule, the scaling of the latent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from nvs_ros.errors import UserError
from nvs_ros.zero123.layout import ModelFiles, Readers, kind_from_name
from nvs_ros.zero123.weights import WeightFile, open_weights

PREFIXES = {
    'unet': 'model.diffusion_model.',
    'vae': 'first_stage_model.',
    'image_encoder': 'cond_stage_model.model.visual.',
    'cc_projection': 'cc_projection.',
}
EMA_PREFIX = 'model_ema.'
IMAGE_SIZE = 256
SCHEDULER = {
    'num_train_timesteps': 1000,
    'beta_schedule': 'scaled_linear',
    'beta_start': 0.00085,
    'beta_end': 0.012,
    'prediction_type': 'epsilon',
    'clip_sample': False,
    'set_alpha_to_one': False,
    'steps_offset': 1,
    'timestep_spacing': 'leading',
}

Shapes = dict[str, tuple[int, ...]]


def open_checkpoint(path: Path, *, kind: str | None = None, use_ema: bool = True) -> ModelFiles:
    """Find the networks in an original ``.ckpt`` or ``.safetensors``.

    Parameters
    ----------
    path : Path
    kind : str, optional
        One of ``KINDS``; guessed from the name of the file when omitted.
    use_ema : bool
        Take the moving average of the UNet where the file has one, as the original demo does.

    Raises
    ------
    UserError
        If the file is not such a checkpoint.
    """
    file = open_weights(path)
    shapes = {network: _below(file.shapes, prefix) for network, prefix in PREFIXES.items()}
    absent = [PREFIXES[network] for network, found in shapes.items() if not found]
    if absent:
        raise UserError(
            f'{path}: expected tensors below {", ".join(PREFIXES.values())}; none below '
            f'{", ".join(absent)}; found {len(file.shapes)} tensors below '
            f'{", ".join(sorted({name.split(".")[0] for name in file.shapes})) or "nothing"}'
        )
    averages = any(name.startswith(f'{EMA_PREFIX}diffusion_model') for name in file.shapes)
    try:
        configs = {
            'unet': unet_config(shapes['unet']),
            'vae': vae_config(shapes['vae']),
            'image_encoder': image_encoder_config(shapes['image_encoder']),
            'cc_projection': dict(
                zip(('out_features', 'in_features'), shapes['cc_projection']['weight'], strict=True)
            ),
            'scheduler': _scheduler_config(file),
        }
        configs['unet']['sample_size'] = IMAGE_SIZE // 2 ** (
            len(configs['vae']['block_out_channels']) - 1
        )
        readers = {
            'unet': _unet_readers(file, shapes['unet'], configs['unet'], use_ema and averages),
            'vae': _vae_readers(file, shapes['vae'], configs['vae']),
            'image_encoder': _image_encoder_readers(file, shapes['image_encoder']),
            'cc_projection': {
                name: partial(file.read, PREFIXES['cc_projection'] + name)
                for name in shapes['cc_projection']
            },
        }
    except (KeyError, IndexError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        found = f'no {error.args[0]}' if isinstance(error, KeyError) else str(error)
        raise UserError(f'{path}: expected the Zero-1-to-3 architecture, found {found}') from error
    return ModelFiles(
        model_id=path.name,
        kind=kind or kind_from_name(path.name),
        configs=configs,
        readers=readers,
        weight_paths=(path,),
        ema=use_ema and averages,
    )


def _below(shapes: Shapes, prefix: str) -> Shapes:
    return {
        name.removeprefix(prefix): shape
        for name, shape in shapes.items()
        if name.startswith(prefix)
    }


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers stand where the pattern has its group."""
    found = (re.match(pattern, name) for name in shapes)
    return len({match[1] for match in found if match})


# -- UNet ------------------------------------------------------------------------------------

UNET_NAMES = {
    'time_embed.0': 'time_embedding.linear_1',
    'time_embed.2': 'time_embedding.linear_2',
    'input_blocks.0.0': 'conv_in',
    'out.0': 'conv_norm_out',
    'out.2': 'conv_out',
}
RESNET_NAMES = {
    'in_layers.0': 'norm1',
    'in_layers.2': 'conv1',
    'emb_layers.1': 'time_emb_proj',
    'out_layers.0': 'norm2',
    'out_layers.3': 'conv2',
    'skip_connection': 'conv_shortcut',
}


def unet_config(shapes: Shapes) -> dict:
    """Configuration of UNet2DConditionModel from the shapes of an original UNet."""
    levels = [[]]
    for index in range(1, _count(shapes, r'input_blocks\.(\d+)\.')):
        if f'input_blocks.{index}.0.op.weight' in shapes:
            levels.append([])
        else:
            channels = shapes[f'input_blocks.{index}.0.out_layers.3.weight'][0]
            levels[-1].append((channels, f'input_blocks.{index}.1.norm.weight' in shapes))
    if len({len(level) for level in levels}) != 1 or any(len(set(level)) != 1 for level in levels):
        raise ValueError(f'blocks (channels, attention) that differ within a level: {levels}')
    channels, attends = zip(*(level[0] for level in levels), strict=True)
    attention = min(name for name in shapes if name.endswith('.1.proj_in.weight'))
    stem = attention.removesuffix('proj_in.weight')
    return {
        'in_channels': shapes['input_blocks.0.0.weight'][1],
        'out_channels': shapes['out.2.weight'][0],
        'block_out_channels': channels,
        'layers_per_block': len(levels[0]),
        'down_block_types': tuple(
            'CrossAttnDownBlock2D' if attend else 'DownBlock2D' for attend in attends
        ),
        'up_block_types': tuple(
            'CrossAttnUpBlock2D' if attend else 'UpBlock2D' for attend in reversed(attends)
        ),
        'cross_attention_dim': shapes[f'{stem}transformer_blocks.0.attn2.to_k.weight'][1],
        'transformer_layers_per_block': _count(
            shapes, re.escape(stem) + r'transformer_blocks\.(\d+)\.'
        ),
        'use_linear_projection': len(shapes[attention]) == 2,
        'attention_head_dim': 8,  # the name is diffusers'; it is the number of heads
    }


def unet_name(name: str, layers_per_block: int) -> str:
    """Name of an original UNet parameter in UNet2DConditionModel."""
    for old, new in UNET_NAMES.items():
        if name.startswith(old + '.'):
            return name.replace(old, new, 1)
    group, index, rest = name.split('.', 2)
    if group == 'middle_block':
        block = 'mid_block.attentions.0' if index == '1' else f'mid_block.resnets.{int(index) // 2}'
        return f'{block}.{_resnet_name(rest)}'
    down = group == 'input_blocks'
    # The first input block is conv_in; each level ends with a block for the change of size.
    level, layer = divmod(int(index) - down, layers_per_block + 1)
    part, rest = rest.split('.', 1)
    level = f'{"down" if down else "up"}_blocks.{level}'
    if rest.startswith(('op.', 'conv.')):
        sampler = 'downsamplers' if down else 'upsamplers'
        return f'{level}.{sampler}.0.conv.{rest.split(".")[1]}'
    if part == '0':
        return f'{level}.resnets.{layer}.{_resnet_name(rest)}'
    return f'{level}.attentions.{layer}.{rest}'


def _resnet_name(name: str) -> str:
    stem, _, leaf = name.rpartition('.')
    return f'{RESNET_NAMES.get(stem, stem)}.{leaf}'


def _unet_readers(file: WeightFile, shapes: Shapes, config: dict, use_ema: bool) -> Readers:
    prefix = PREFIXES['unet']
    sources = {name: prefix + name for name in shapes}
    if use_ema:
        # The averages are named without dots, and without the first word of the name.
        sources = {
            name: EMA_PREFIX + (prefix.removeprefix('model.') + name).replace('.', '')
            for name in shapes
        }
        absent = [name for name in sources.values() if name not in file.shapes]
        if absent:
            raise UserError(
                f'{file.path}: expected {len(sources)} tensors of the moving average, '
                f'{len(absent)} are missing ({absent[0]}, ...); it can be read without the average'
            )
    return {
        unet_name(name, config['layers_per_block']): partial(file.read, source)
        for name, source in sources.items()
    }


# -- VAE -------------------------------------------------------------------------------------

VAE_NAMES = (
    (r'\.down\.(\d+)\.block\.', r'.down_blocks.\1.resnets.'),
    (r'\.down\.(\d+)\.downsample\.', r'.down_blocks.\1.downsamplers.0.'),
    (r'\.up\.(\d+)\.block\.', r'.up_blocks.\1.resnets.'),
    (r'\.up\.(\d+)\.upsample\.', r'.up_blocks.\1.upsamplers.0.'),
    (r'\.mid\.block_1\.', '.mid_block.resnets.0.'),
    (r'\.mid\.block_2\.', '.mid_block.resnets.1.'),
    (r'\.mid\.attn_1\.norm\.', '.mid_block.attentions.0.group_norm.'),
    (r'\.mid\.attn_1\.([qkv])\.', r'.mid_block.attentions.0.to_\1.'),
    (r'\.mid\.attn_1\.proj_out\.', '.mid_block.attentions.0.to_out.0.'),
    (r'\.nin_shortcut\.', '.conv_shortcut.'),
    (r'\.norm_out\.', '.conv_norm_out.'),
)


def vae_config(shapes: Shapes) -> dict:
    """Configuration of AutoencoderKL from the shapes of an original autoencoder."""
    levels = _count(shapes, r'encoder\.down\.(\d+)\.')
    return {
        'in_channels': shapes['encoder.conv_in.weight'][1],
        'out_channels': shapes['decoder.conv_out.weight'][0],
        'block_out_channels': tuple(
            shapes[f'encoder.down.{level}.block.0.conv2.weight'][0] for level in range(levels)
        ),
        'layers_per_block': _count(shapes, r'encoder\.down\.0\.block\.(\d+)\.'),
        'down_block_types': ('DownEncoderBlock2D',) * levels,
        'up_block_types': ('UpDecoderBlock2D',) * levels,
        'latent_channels': shapes['decoder.conv_in.weight'][1],
        'sample_size': IMAGE_SIZE,
        'scaling_factor': 0.18215,
    }


def vae_name(name: str, levels: int) -> str:
    """Name of an original autoencoder parameter in AutoencoderKL."""
    # The original counts the levels of the decoder from the picture, diffusers from the latent.
    name = re.sub(r'(?<=\.up\.)\d+', lambda match: str(levels - 1 - int(match[0])), name)
    for pattern, replacement in VAE_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _vae_readers(file: WeightFile, shapes: Shapes, config: dict) -> Readers:
    readers = {}
    for name in shapes:
        if name.startswith('loss.'):  # the discriminator of its training
            continue
        read = partial(file.read, PREFIXES['vae'] + name)
        if re.search(r'\.attn_1\.(q|k|v|proj_out)\.weight', name):
            read = _then(read, lambda tensor: tensor.flatten(1))  # a 1x1 convolution is a matrix
        readers[vae_name(name, len(config['block_out_channels']))] = read
    return readers


# -- CLIP image tower ------------------------------------------------------------------------

CLIP_NAMES = {
    'class_embedding': 'vision_model.embeddings.class_embedding',
    'positional_embedding': 'vision_model.embeddings.position_embedding.weight',
    'conv1.weight': 'vision_model.embeddings.patch_embedding.weight',
    'proj': 'visual_projection.weight',
}
CLIP_PARTS = {
    'ln_pre.': 'pre_layrnorm.',  # sic
    'ln_post.': 'post_layernorm.',
    'transformer.resblocks.': 'encoder.layers.',
    '.attn.': '.self_attn.',
    '.ln_1.': '.layer_norm1.',
    '.ln_2.': '.layer_norm2.',
    '.mlp.c_fc.': '.mlp.fc1.',
    '.mlp.c_proj.': '.mlp.fc2.',
}


def image_encoder_config(shapes: Shapes) -> dict:
    """Configuration of CLIPVisionModelWithProjection from the shapes of an original tower."""
    width, projection = shapes['proj']
    patch = shapes['conv1.weight'][-1]
    return {
        'hidden_size': width,
        'intermediate_size': shapes['transformer.resblocks.0.mlp.c_fc.weight'][0],
        'num_hidden_layers': _count(shapes, r'transformer\.resblocks\.(\d+)\.'),
        'num_attention_heads': width // 64,
        'patch_size': patch,
        'image_size': patch * math.isqrt(shapes['positional_embedding'][0] - 1),
        'projection_dim': projection,
        'hidden_act': 'quick_gelu',
        'layer_norm_eps': 1e-5,
    }


def _image_encoder_readers(file: WeightFile, shapes: Shapes) -> Readers:
    readers = {}
    for name in shapes:
        read = partial(file.read, PREFIXES['image_encoder'] + name)
        new = CLIP_NAMES.get(name)
        if name == 'proj':
            read = _then(read, lambda tensor: tensor.T.contiguous())
        if new is None:
            new = f'vision_model.{name}'
            for old, part in CLIP_PARTS.items():
                new = new.replace(old, part)
        if '.in_proj_' not in new:
            readers[new] = read
            continue
        for index, letter in enumerate('qkv'):  # stacked in the original
            third = _then(read, lambda tensor, index=index: tensor.chunk(3)[index].clone())
            readers[new.replace('in_proj_', f'{letter}_proj.')] = third
    return readers


def _then(read: Callable[[], torch.Tensor], change: Callable) -> Callable[[], torch.Tensor]:
    return lambda: change(read())


# -- Noise schedule --------------------------------------------------------------------------


def _scheduler_config(file: WeightFile) -> dict:
    """The schedule of Zero-1-to-3, or the file's own where it carries another."""
    if 'betas' not in file.shapes:
        return dict(SCHEDULER)
    betas = file.read('betas')
    if not betas.is_floating_point():
        raise UserError(f'{file.path}: expected floating-point numbers as betas, got {betas.dtype}')
    steps = SCHEDULER['num_train_timesteps']
    ends = SCHEDULER['beta_start'] ** 0.5, SCHEDULER['beta_end'] ** 0.5
    usual = torch.linspace(*ends, steps, dtype=torch.float64) ** 2
    # The usual ones may have been rounded to whatever format the weights were saved in.
    rounded, betas = usual.float().to(betas.dtype).double(), betas.double()
    if betas.shape == usual.shape and torch.allclose(betas, rounded, rtol=1e-4, atol=0):
        return dict(SCHEDULER)
    return SCHEDULER | {'num_train_timesteps': len(betas), 'trained_betas': betas.tolist()}
