"""A model as it lies on disk: configurations, and where to read each parameter."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import CLIPVisionModelWithProjection

from nvs_ros.errors import UserError

NETWORKS = ('vae', 'image_encoder', 'cc_projection', 'unet')

ZERO123 = 'zero123'
ZERO123_XL = 'zero123-xl'
STABLE_ZERO123 = 'stable-zero123'
KINDS = (ZERO123, ZERO123_XL, STABLE_ZERO123)
"""What the weights cannot tell. The first checkpoint and XL want different windows of mutual
self-attention; Stable-Zero123 takes the source's polar angle where the others take the radius."""

Readers = Mapping[str, Callable[[], torch.Tensor]]


@dataclass(frozen=True)
class ModelFiles:
    """A model that was found but not read yet.

    Attributes
    ----------
    model_id : str
        What the user asked for.
    kind : str
        One of ``KINDS``.
    configs : mapping of str to dict
        Configuration of ``scheduler`` and of each of ``NETWORKS``.
    readers : mapping of str to Readers
        For each of ``NETWORKS``: name of a parameter in the module -> function that reads it.
    weight_paths : tuple of Path
        The files that the readers read.
    ema : bool or None
        Whether the UNet is the moving average; None where the files do not tell.
    profile : mapping
        What differs from the profile of the kind, see :mod:`nvs_ros.zero123.profile`.
    source : mapping
        What the model says that it was made from.
    """

    model_id: str
    kind: str
    configs: Mapping[str, dict]
    readers: Mapping[str, Readers]
    weight_paths: tuple[Path, ...]
    ema: bool | None = None
    profile: Mapping[str, object] = field(default_factory=dict)
    source: Mapping[str, object] = field(default_factory=dict)


def kind_from_name(name: str) -> str:
    """The kind that the name of a file, folder or repository suggests."""
    name = name.lower()
    if 'stable' in name:
        return STABLE_ZERO123
    return ZERO123_XL if re.search(r'(?<![a-z])xl(?![a-z])', name) else ZERO123


def fill(
    module: torch.nn.Module,
    readers: Readers,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    name: str,
    progress: Callable[[], object] = lambda: None,
) -> None:
    """Give a module on the meta device its parameters, one tensor at a time.

    Parameters
    ----------
    module : torch.nn.Module
    readers : Readers
    device, dtype
        Where the parameters go; each is converted as soon as it is read.
    name : str
        Names the network in messages.
    progress : callable, optional
        Called after each tensor.

    Raises
    ------
    UserError
        If a parameter is missing, too many, of another shape, not a floating-point number, not
        finite, or too large for ``dtype``.
    """
    expected = module.state_dict()
    missing, excess = sorted(expected.keys() - readers), sorted(readers.keys() - expected)
    if missing or excess:
        raise UserError(
            f'{name}: expected {len(expected)} tensors, found {len(readers)}; '
            f'missing {_some(missing)}; not known {_some(excess)}'
        )
    state = {}
    for key, target in expected.items():
        tensor = readers[key]()
        if tensor.shape != target.shape:
            raise UserError(
                f'{name}: expected {key} of shape {tuple(target.shape)}, '
                f'found {tuple(tensor.shape)}'
            )
        tensor = _numbers(tensor, f'{name}: {key}')
        if not _is_finite(tensor):
            raise UserError(f'{name}: expected finite numbers in {key}, found NaN or infinity')
        state[key] = tensor.to(device, dtype)
        if dtype != tensor.dtype and not _is_finite(state[key]):
            raise UserError(f'{name}: {key} has numbers too large for {dtype}')
        progress()
    module.load_state_dict(state, assign=True)
    if isinstance(module, CLIPVisionModelWithProjection):  # its only buffer is not in the files
        embeddings = module.vision_model.embeddings
        embeddings.position_ids = torch.arange(embeddings.num_positions, device=device)[None]
    module.eval().requires_grad_(False)


def _numbers(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """The tensor in a format that torch computes with."""
    if not tensor.is_floating_point():
        raise UserError(
            f'{name}: expected floating-point numbers, found {tensor.dtype}; weights that are '
            'quantised or packed cannot be used'
        )
    if tensor.element_size() > 1:
        return tensor
    try:  # of 8 bits; torch can do little more than convert them
        return tensor.float()
    except RuntimeError as error:
        raise UserError(
            f'{name}: expected floating-point numbers, found {tensor.dtype}, which cannot be '
            'converted'
        ) from error


def _is_finite(tensor: torch.Tensor) -> bool:
    # NaN goes through to both ends; unlike torch.isfinite this needs no memory.
    return all(math.isfinite(end) for end in tensor.aminmax())


def _some(names: list[str]) -> str:
    return ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '') or '-'
