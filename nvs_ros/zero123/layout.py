"""A model on disk: its configurations, and how to read each parameter."""

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
"""Kinds of models, which cannot be told from the weights. The first checkpoint and XL need
different windows of mutual self-attention; Stable-Zero123 takes the source's polar angle in place
of the radius difference."""

Readers = Mapping[str, Callable[[], torch.Tensor]]


@dataclass(frozen=True)
class ModelFiles:
    """A model that was found, but whose weights have not been read.

    Attributes
    ----------
    model_id : str
        Name for messages and metadata.
    kind : str
        One of ``KINDS``.
    configs : mapping of str to dict
        Configuration of ``scheduler`` and of each of ``NETWORKS``.
    readers : mapping of str to Readers
        For each of ``NETWORKS``: name of a parameter in the module -> function that reads it.
    weight_paths : tuple of Path
        The weight files.
    ema : bool or None
        Whether the UNet is the moving average; None if the files do not say.
    profile : mapping
        Fields that differ from the profile of the kind, see :mod:`nvs_ros.zero123.profile`.
    source : mapping
        What the model was made from, according to its ``model_index.json``.
    learned_filter : Path or None
        Weights of a filter of attention maps that was learned for the UNet.
    """

    model_id: str
    kind: str
    configs: Mapping[str, dict]
    readers: Mapping[str, Readers]
    weight_paths: tuple[Path, ...]
    ema: bool | None = None
    profile: Mapping[str, object] = field(default_factory=dict)
    source: Mapping[str, object] = field(default_factory=dict)
    learned_filter: Path | None = None


def kind_from_name(name: str) -> str:
    """Guess the kind from the name of a file, folder or repository."""
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
    """Read the parameters of a module that is on the meta device, one tensor at a time.

    Parameters
    ----------
    module : torch.nn.Module
    readers : Readers
    device, dtype
        Of the parameters; each is converted as soon as it is read.
    name : str
        Name of the network in error messages.
    progress : callable, optional
        Called without arguments after each tensor.

    Raises
    ------
    UserError
        A parameter is missing or unknown, has another shape, is not floating-point or not finite,
        or is too large for ``dtype``.
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
    if isinstance(module, CLIPVisionModelWithProjection):  # its only buffer is not in files
        embeddings = module.vision_model.embeddings
        embeddings.position_ids = torch.arange(embeddings.num_positions, device=device)[None]
    module.eval().requires_grad_(False)


def _numbers(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """The tensor in a dtype that torch can compute with.

    Raises
    ------
    UserError
        The tensor is quantised, packed or otherwise not floating-point.
    """
    if not tensor.is_floating_point():
        raise UserError(
            f'{name}: expected floating-point numbers, found {tensor.dtype}; weights that are '
            'quantised or packed cannot be used'
        )
    if tensor.element_size() > 1:
        return tensor
    try:  # 8 bits, with which torch can do little more than convert them
        return tensor.float()
    except RuntimeError as error:
        raise UserError(
            f'{name}: expected floating-point numbers, found {tensor.dtype}, which cannot be '
            'converted'
        ) from error


def _is_finite(tensor: torch.Tensor) -> bool:
    # NaN propagates to minimum and maximum; unlike torch.isfinite this needs no memory.
    return all(math.isfinite(end) for end in tensor.aminmax())


def _some(names: list[str]) -> str:
    return ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '') or '-'
