"""Two published ways to improve samples without training, to compare attention map filtering with.

Both evaluate the conditional rows once more with worse self-attention, and lead away from that
result. With eps of the unconditional rows u, the conditional rows c and the perturbed ones c'::

    eps = u + s (c - u) + p (c - c')        s guidance scale, p perturbation scale

**PAG**, Perturbed-Attention Guidance (Ahn et al. 2024): each token attends to itself alone, the
maps are the identity. **SEG**, Smoothed Energy Guidance (Hong 2024): the queries are blurred over
the grid of tokens. Both papers perturb the middle block of Stable Diffusion.

The coefficients of u, c and c' sum to 1, so networks that predict v or x0 are led the same way.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import Attention
from scipy.ndimage import gaussian_filter1d
from torch import nn
from torch.utils.hooks import RemovableHandle

from nvs_ros.hero.attention import self_attention_layers
from nvs_ros.settings import SamplerSettings

KINDS = ('pag', 'seg')


@dataclass(frozen=True)
class Perturbation:
    """How the maps of the extra rows are made worse, and how far the view is led away from them.

    Attributes
    ----------
    kind : str
        ``'pag'``: maps are the identity; ``'seg'``: queries are blurred.
    scale : float
        p, at least 0; 0 is no guidance by perturbation.
    layers : str
        Beginnings of the names of self-attention layers with ``+`` between, such as
        ``'mid_block+up_blocks.0'``; ``'all'``: every layer.
    sigma : float
        Width of the blur in tokens of the layer's grid, above 0; ``inf``: each query becomes the
        mean query. Used by ``'seg'`` alone.

    Raises
    ------
    ValueError
        Another kind, or a number outside its range.
    """

    kind: str
    scale: float
    layers: str = 'all'
    sigma: float = math.inf

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f'kind: expected one of {KINDS}, got {self.kind!r}')
        if not 0 <= self.scale < math.inf:
            raise ValueError(f'{self.kind}: expected a scale of at least 0, got {self.scale}')
        if not self.sigma > 0:
            raise ValueError(f'{self.kind}_sigma: expected a width above 0, got {self.sigma}')

    @classmethod
    def taken_from(cls, fields: dict[str, Any]) -> Perturbation | None:
        """Take ``pag``, ``pag_layers`` or ``seg``, ``seg_layers``, ``seg_sigma`` out of the fields
        of a preset; None without ``pag`` and ``seg``.

        Raises
        ------
        ValueError
            Both are given, or a scale or width is no number in its range.
        """
        kinds = [kind for kind in KINDS if kind in fields]
        if not kinds:
            return None
        if len(kinds) > 1:
            raise ValueError('expected either pag or seg, got both')
        (kind,) = kinds
        scale = _number(kind, fields.pop(kind))
        given: dict[str, Any] = {}
        if f'{kind}_layers' in fields:
            given['layers'] = str(fields.pop(f'{kind}_layers'))
        if kind == 'seg' and 'seg_sigma' in fields:
            given['sigma'] = _number('seg_sigma', fields.pop('seg_sigma'))
        return cls(kind, scale, **given)

    def chosen(self, unet: nn.Module) -> dict[str, Attention]:
        """The layers of a UNet that are perturbed, by name.

        Raises
        ------
        ValueError
            A beginning matches no layer.
        """
        available = self_attention_layers(unet)
        if self.layers == 'all':
            return available
        beginnings = [f'{beginning}.' for beginning in self.layers.split('+')]
        for beginning in beginnings:
            if not any(f'{name}.'.startswith(beginning) for name in available):
                raise ValueError(
                    f"{self.kind}_layers: expected 'all' or beginnings of {list(available)}, "
                    f'got {beginning[:-1]!r}'
                )
        return {
            name: layer
            for name, layer in available.items()
            if f'{name}.'.startswith(tuple(beginnings))
        }

    def check(self, unet: nn.Module, settings: SamplerSettings) -> None:
        """Check that a UNet can be sampled with this perturbation and these settings.

        Raises
        ------
        ValueError
            No such layer, or the settings filter maps or use mutual self-attention.
        """
        self.chosen(unet)
        for field in ('filtering', 'mutual_self_attention'):
            if getattr(settings, field):
                raise ValueError(f'{field}: expected False with {self.kind}, got True')

    def evaluations(self, settings: SamplerSettings) -> float:
        """What an evaluation costs with the extra rows, in evaluations of two rows a view."""
        return (_groups(settings) + 1) / 2


def _number(name: str, value: Any) -> float:
    """A number from YAML, which reads ``inf`` and ``1e2`` as text."""
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f'{name}: expected a number, got {value!r}') from error


def _groups(settings: SamplerSettings) -> int:
    """Groups of rows that the sampler gives the network: [uncond; cond], or [cond] alone."""
    return 2 if settings.guidance_scale > 1 else 1


class _ExtraRows:
    """The perturbed rows at the end of each batch; hooks before and after the UNet.

    The sampler computes u + s (c - u), so c + p/s (c - c') is put in the place of c.
    """

    def __init__(self, groups: int, weight: float) -> None:
        self.groups = groups
        self.weight = weight
        self.count = 0
        self.size = (0, 0)
        self._context = self._extended = torch.empty(0)

    def append(self, _unet: nn.Module, args: tuple) -> tuple:
        """[uncond; cond] -> [uncond; cond; cond]."""
        rows, timestep, context = args
        if len(rows) % self.groups:
            raise ValueError(f'expected {self.groups} equal groups of rows, got {len(rows)} rows')
        self.count = len(rows) // self.groups
        self.size = rows.shape[2], rows.shape[3]
        if context is not self._context:  # shortcuts recognise a context that was seen before
            self._context, self._extended = context, self._with_extra(context)
        return self._with_extra(rows), timestep, self._extended

    def _with_extra(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([rows, rows[-self.count :]])

    def combine(self, _unet: nn.Module, _args: tuple, output: tuple) -> tuple:
        """[u; c; c'] -> [u; c + p/s (c - c')]."""
        *before, cond, perturbed = output[0].split(self.count)
        return (torch.cat([*before, cond + self.weight * (cond - perturbed)]),)


def _use_own_values(attn: Attention, extra: _ExtraRows) -> list[RemovableHandle]:
    """Let the extra rows' maps be the identity: what attention gives a token is its own value."""
    values: torch.Tensor

    def keep(_module: nn.Module, _args: tuple, output: torch.Tensor) -> None:
        nonlocal values
        values = output

    def replace(_module: nn.Module, args: tuple) -> tuple:
        return (torch.cat([args[0][: -extra.count], values[-extra.count :]]), *args[1:])

    return [
        attn.to_v.register_forward_hook(keep),
        attn.to_out[0].register_forward_pre_hook(replace),
    ]


def _blur_queries(attn: Attention, extra: _ExtraRows, sigma: float) -> list[RemovableHandle]:
    """Blur the queries of the extra rows over the grid of tokens."""

    def blur(_module: nn.Module, _args: tuple, query: torch.Tensor) -> torch.Tensor:
        grid = _grid(extra.size, query.shape[1])
        down, across = (_blur_matrix(length, sigma).to(query) for length in grid)
        on_grid = query[-extra.count :].unflatten(1, grid)
        blurred = torch.einsum('ij,kl,njlc->nikc', down, across, on_grid).flatten(1, 2)
        return torch.cat([query[: -extra.count], blurred])

    return [attn.to_q.register_forward_hook(blur)]


def _grid(size: tuple[int, int], tokens: int) -> tuple[int, int]:
    """Height and width of a layer's grid of tokens, from those of the latents."""
    factor = math.sqrt(size[0] * size[1] / tokens)
    grid = round(size[0] / factor), round(size[1] / factor)
    if grid[0] * grid[1] != tokens:
        raise ValueError(f'expected latents {size} divided evenly, got {tokens} tokens')
    return grid


@functools.cache
def _blur_matrix(length: int, sigma: float) -> torch.Tensor:
    """Blur of a line of values (length, length), rows sum to 1.

    Beyond the ends the line is mirrored, so that a growing sigma tends to the mean.
    """
    if math.isinf(sigma):
        return torch.full((length, length), 1 / length, dtype=torch.float64)
    return torch.from_numpy(gaussian_filter1d(np.eye(length), sigma, axis=0, mode='reflect'))


@contextmanager
def perturbed_guidance(
    unet: nn.Module, settings: SamplerSettings, perturbation: Perturbation
) -> Iterator[None]:
    """Sample with PAG or SEG inside a ``with`` block::

        with perturbed_guidance(unet, settings, Perturbation('pag', 1.5)):
            latents = sample(unet, scheduler, ..., settings=settings)

    Parameters
    ----------
    unet : torch.nn.Module
        A diffusers UNet, called as ``unet(rows, timestep, context, return_dict=False)`` with the
        groups of rows that the settings' guidance needs. Queries must have no norm (``norm_q``).
    settings : SamplerSettings
        Those of the sampler.
    perturbation : Perturbation

    Raises
    ------
    ValueError
        As :meth:`Perturbation.check`; or, in a call of the UNet, the rows are not equal groups.
    """
    perturbation.check(unet, settings)
    extra = _ExtraRows(_groups(settings), perturbation.scale / settings.guidance_scale)
    with ExitStack() as hooks:

        def until_the_end(handle: RemovableHandle) -> None:
            hooks.callback(handle.remove)

        until_the_end(unet.register_forward_pre_hook(extra.append))
        until_the_end(unet.register_forward_hook(extra.combine))
        for attn in perturbation.chosen(unet).values():
            if perturbation.kind == 'pag':
                handles = _use_own_values(attn, extra)
            else:
                handles = _blur_queries(attn, extra, perturbation.sigma)
            for handle in handles:
                until_the_end(handle)
        yield
