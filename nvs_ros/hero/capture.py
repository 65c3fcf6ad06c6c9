"""Compile a UNet whole while its attention is filtered, so that CUDA graphs can hold evaluations.

What a layer has to do is decided outside, before each evaluation
(:class:`~nvs_ros.hero.attention.Plan`), and nothing is read back. So one program serves all
evaluations of a kind, whatever their timestep: a kind is the shape of the batch, and for each layer
whether its maps are pooled, blended and kept. With pooling by the mean and with a learned filter
the number of the pass is part of it. Guidance and scheduler step stay outside.

It has not run on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from nvs_ros.hero.attention import ControlledAttnProcessor, self_attention_layers
from nvs_ros.hero.map_filter import MapStorage

KINDS = 64
"""Most programs for one UNet; torch's own limit is 8."""


@contextmanager
def compiled_evaluations(unet: nn.Module, **options: Any) -> Iterator[MapStorage]:
    """Compile the evaluations of a UNet inside a ``with`` block.

    ::

        with compiled_evaluations(unet, mode='reduce-overhead') as storage:
            filtering = attention_map_filtering(unet, settings, storage=storage)
            latents = sample(unet, scheduler, attention=filtering, settings=settings, ...)

    The first evaluation of each kind of batch is not compiled: it reserves the buffers of the maps,
    which keep their place from then on.

    Parameters
    ----------
    unet : torch.nn.Module
        A diffusers UNet.
    **options
        Of :func:`torch.compile`, besides ``fullgraph`` (True) and ``dynamic`` (False: buffers, and
        CUDA graphs, have one shape).

    Yields
    ------
    MapStorage
        For :func:`~nvs_ros.hero.filtering.attention_map_filtering`.

    Raises
    ------
    torch._dynamo.exc.Unsupported
        In an evaluation: the UNet has something that cannot be in one graph.
    """
    plain = unet.forward
    compiled = torch.compile(plain, fullgraph=True, dynamic=False, **options)
    storage: MapStorage = {}
    known: set[tuple[Any, ...]] = set()

    def forward(sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        kind = (sample.shape, sample.dtype, *_refined(unet))
        if kind not in known:
            known.add(kind)
            return plain(sample, *args, **kwargs)
        torch.compiler.cudagraph_mark_step_begin()
        return compiled(sample, *args, **kwargs)

    with torch._dynamo.config.patch(recompile_limit=KINDS):
        unet.forward = forward
        try:
            yield storage
        finally:
            unet.forward = plain


def _refined(unet: nn.Module) -> Iterator[tuple[bool, bool]]:
    """For each layer, whether the maps of target and source rows are refined now."""
    for attn in self_attention_layers(unet).values():
        processor = attn.processor
        if isinstance(processor, ControlledAttnProcessor):
            refine, source_refine, _ = processor.plan
            yield refine is not None, source_refine is not None
