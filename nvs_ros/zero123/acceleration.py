"""Memory layout and compilation of the networks for a device."""

from __future__ import annotations

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.resnet import ResnetBlock2D

from nvs_ros.zero123.components import Zero123Components

COMPILED = (ResnetBlock2D, FeedForward)
"""Blocks that are compiled: without state, three quarters of the operations. Attention is not
compiled, because it changes from evaluation to evaluation."""
VARIANTS = 128
"""Most compiled variants of a block type (shapes of blocks times kinds of batches); torch's own
limit is 8."""


def accelerate(
    components: Zero123Components, *, compiled: bool = False, backend: str = 'inductor'
) -> None:
    """Choose the memory layout for the device, and have blocks of the UNet compiled at first use.

    Parameters
    ----------
    components : Zero123Components
        Changed in place. On CUDA, UNet and VAE get the channels-last layout, and cuDNN may choose
        its algorithms by trial. On a CPU neither helps, and nothing is changed.
    compiled : bool
        Compile with :func:`torch.compile`, whose cache on disk serves later processes.
    backend : str
        Backend of torch.compile.
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
    """Whether the first views take longer, because blocks are compiled or kernels are chosen."""
    compiled = any(block._compiled_call_impl is not None for block in components.unet.modules())
    return compiled or components.device.type == 'cuda'
