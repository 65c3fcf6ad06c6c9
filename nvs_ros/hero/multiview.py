"""MVDream on a plain diffusers UNet: views of one object that attend to each other (section 5.3).

MVDream (Shi et al., 2023) is Stable Diffusion 2.1 whose self-attention spans the tokens of all
views and whose time embedding knows the camera. Both fit :class:`diffusers.UNet2DConditionModel`:
the camera is its class embedding, and hooks join the views around each self-attention layer. The
hooks leave the attention processors alone, so map filtering works on it like on any other UNet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from nvs_ros.errors import UserError
from nvs_ros.hero.attention import self_attention_layers
from nvs_ros.zero123.files import fill
from nvs_ros.zero123.ldm import unet_config, unet_name
from nvs_ros.zero123.weights import open_weights

PREFIX = 'model.diffusion_model.'
CAMERA_NAMES = {
    'camera_embed.0': 'class_embedding.linear_1',
    'camera_embed.2': 'class_embedding.linear_2',
}
HEAD_WIDTH = 64


@contextmanager
def multi_view_self_attention(unet: nn.Module, views: int) -> Iterator[None]:
    """Let the views of an object attend to each other inside a ``with`` block.

    Each self-attention layer sees ``(rows, tokens, width)`` as ``(rows / views, views * tokens,
    width)``; all other layers see single views.

    Parameters
    ----------
    unet : torch.nn.Module
        A diffusers UNet; the views of an object must be neighbours in its batch.
    views : int
        Number of views of an object, 4 in MVDream.

    Raises
    ------
    ValueError
        `views` is below 1, or, in a call of the UNet, does not divide the number of rows.
    """
    if views < 1:
        raise ValueError(f'views: expected at least 1, got {views}')

    def join(_attn: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        rows = args[0]
        if len(rows) % views:
            raise ValueError(f'views: expected a divisor of {len(rows)} rows, got {views}')
        return rows.reshape(len(rows) // views, -1, rows.shape[-1]), *args[1:]

    def part(_attn: nn.Module, _args: tuple[Any, ...], joined: torch.Tensor) -> torch.Tensor:
        return joined.reshape(len(joined) * views, -1, joined.shape[-1])

    with ExitStack() as hooks:
        for attn in self_attention_layers(unet).values():
            hooks.callback(attn.register_forward_pre_hook(join).remove)
            hooks.callback(attn.register_forward_hook(part).remove)
        yield


def load_mvdream_unet(
    path: Path, *, device: torch.device | str = 'cpu', dtype: torch.dtype = torch.float32
) -> UNet2DConditionModel:
    """Read the UNet of an original MVDream checkpoint.

    Parameters
    ----------
    path : Path
        ``sd-v2.1-base-4view.pt`` or safetensors of the same names.
    device, dtype
        Where the parameters go.

    Returns
    -------
    UNet2DConditionModel
        Takes the camera of each row, (rows, 16), the flattened camera-to-object matrix in Blender's
        axes with its position on the unit sphere, as ``class_labels``.

    Raises
    ------
    UserError
        The file is not such a checkpoint.
    """
    file = open_weights(path)
    shapes = {
        name.removeprefix(PREFIX): shape
        for name, shape in file.shapes.items()
        if name.startswith(PREFIX)
    }
    if 'camera_embed.0.weight' not in shapes:
        raise UserError(f'{path}: expected an MVDream checkpoint, found no {PREFIX}camera_embed')
    config = unet_config(shapes)
    config |= {
        'attention_head_dim': tuple(width // HEAD_WIDTH for width in config['block_out_channels']),
        'class_embed_type': 'projection',
        'projection_class_embeddings_input_dim': shapes['camera_embed.0.weight'][1],
        'sample_size': 32,
    }
    with torch.device('meta'):
        unet = UNet2DConditionModel(**config)
    readers = {
        _unet_name(name, config['layers_per_block']): partial(file.read, PREFIX + name)
        for name in shapes
    }
    fill(unet, readers, device=device, dtype=dtype, name='unet')
    return unet


def _unet_name(name: str, layers_per_block: int) -> str:
    stem, leaf = name.rsplit('.', 1)
    if stem in CAMERA_NAMES:
        return f'{CAMERA_NAMES[stem]}.{leaf}'
    return unet_name(name, layers_per_block)
