"""MVDream on a plain diffusers UNet: views of one object that attend to each other (section 5.3).

MVDream (Shi et al., 2023) is Stable Diffusion 2.1 whose self-attention spans the tokens of all
views and whose time embedding knows the camera. Both fit :class:`diffusers.UNet2DConditionModel`:
the camera is its class embedding, and hooks join the views around each self-attention layer. The
hooks leave the attention processors alone, so map filtering works on it like on any other UNet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from nvs_ros.errors import UserError
from nvs_ros.hero.attention import self_attention_layers
from nvs_ros.zero123.layout import fill
from nvs_ros.zero123.ldm import unet_config, unet_name
from nvs_ros.zero123.weights import open_weights

PREFIX = 'model.diffusion_model.'
CAMERA_NAMES = {
    'camera_embed.0': 'class_embedding.linear_1',
    'camera_embed.2': 'class_embedding.linear_2',
}
HEAD_WIDTH = 64


def orbit_cameras(views: int, elevation_rad: float = math.radians(15)) -> torch.Tensor:
    """Return cameras evenly round the object, as MVDream is told of them.

    Parameters
    ----------
    views : int
        Number of cameras; the first stands at azimuth 90 degrees, +x.
    elevation_rad : float
        Above the horizon, all of them.

    Returns
    -------
    torch.Tensor
        (views, 16), flattened world-from-camera matrices: z is up in the world, the camera looks
        along its -z with y up, at the origin from distance 1.
    """
    cameras = []
    for azimuth in math.pi / 2 + 2 * math.pi * np.arange(views) / views:
        horizontal = math.cos(elevation_rad)
        position = np.array(
            [
                horizontal * math.sin(azimuth),
                -horizontal * math.cos(azimuth),
                math.sin(elevation_rad),
            ]
        )
        right = np.array([math.cos(azimuth), math.sin(azimuth), 0])
        world_from_camera = np.eye(4)
        world_from_camera[:3] = np.stack(
            [right, np.cross(position, right), position, position], axis=1
        )
        cameras.append(world_from_camera.ravel())
    return torch.tensor(np.array(cameras), dtype=torch.float32)


@contextmanager
def multi_view_attention(unet: nn.Module, cameras: torch.Tensor) -> Iterator[None]:
    """Make a UNet see views of one object together inside a ``with`` block.

    Each self-attention layer sees ``(rows, tokens, width)`` as ``(rows / views, views * tokens,
    width)``; all other layers see single views. Each view's camera goes in as ``class_labels``, so
    that a pipeline need not know of cameras.

    Parameters
    ----------
    unet : torch.nn.Module
        A diffusers UNet; the views of an object must be neighbours in its batch.
    cameras : torch.Tensor
        (views, 16), a camera of each view; MVDream has 4.

    Raises
    ------
    ValueError
        In a call of the UNet: the number of views does not divide the number of rows.
    """
    views = len(cameras)

    def see(_unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple:
        rows = args[0]
        if len(rows) % views:
            raise ValueError(f'expected a multiple of {views} views as rows, got {len(rows)}')
        labels = cameras.to(rows.device, rows.dtype).repeat(len(rows) // views, 1)
        return args, kwargs | {'class_labels': labels}

    def join(_attn: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        rows = args[0]
        return rows.reshape(len(rows) // views, -1, rows.shape[-1]), *args[1:]

    def part(_attn: nn.Module, _args: tuple[Any, ...], joined: torch.Tensor) -> torch.Tensor:
        return joined.reshape(len(joined) * views, -1, joined.shape[-1])

    with ExitStack() as hooks:
        hooks.callback(unet.register_forward_pre_hook(see, with_kwargs=True).remove)
        for attn in self_attention_layers(unet).values():
            hooks.callback(attn.register_forward_pre_hook(join).remove)
            hooks.callback(attn.register_forward_hook(part).remove)
        yield


def load_mvdream_unet(
    path: str | Path, *, device: torch.device | str = 'cpu', dtype: torch.dtype = torch.float32
) -> UNet2DConditionModel:
    """Read the UNet of an original MVDream checkpoint.

    Parameters
    ----------
    path : str or Path
        ``sd-v2.1-base-4view.pt`` or safetensors of the same names.
    device, dtype
        Where the parameters go.

    Returns
    -------
    UNet2DConditionModel
        Takes the camera of each row as ``class_labels``, (rows, 16), see :func:`orbit_cameras`.

    Raises
    ------
    UserError
        The file is not such a checkpoint.
    """
    file = open_weights(Path(path))
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
        'upcast_attention': True,  # Stable Diffusion 2.1's maps do not fit half precision
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
