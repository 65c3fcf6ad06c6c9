"""How the networks are laid out and compiled for a device."""

from __future__ import annotations

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.resnet import ResnetBlock2D

from nvs_ros.zero123.components import Zero123Components

COMPILED = (ResnetBlock2D, FeedForward)
"""Blocks without state, three quarters of the operations. Attention is left: what it does changes
from evaluation to evaluation."""
VARIANTS = 128
"""Shapes of blocks times kinds of batches; torch gives up at 8."""


def accelerate(
    components: Zero123Components, *, compiled: bool = False, backend: str = 'inductor'
) -> None:
    """Lay the networks out for their device, and compile blocks of the UNet when first used.

    Parameters
    ----------
    components : Zero123Components
        Changed in place. On CUDA convolutions get their channels last and may choose their
        algorithms by trial; on a CPU that gains nothing and is not done.
    compiled : bool
        Through :func:`torch.compile`; its cache on disk serves further processes.
    backend : str
        Of torch.compile.
    """
    if components.device.type == 'cuda':
        for network in (components.unet, components.vae):
            network.to(memory_format=torch.channels_last)
        torch.backends.cudnn.benchmark = True
    if compiled:
        torch._dynamo.config.recompile_limit = VARIANTS
        for block in components.unet.modules():
            if isinstance(block, COMPILED):
                block.compile(backend=backend)


def is_slow_at_first(components: Zero123Components) -> bool:
    """Whether the first views take longer: something is compiled or chosen by trial."""
    compiled = any(block._compiled_call_impl is not None for block in components.unet.modules())
    return compiled or components.device.type == 'cuda'
