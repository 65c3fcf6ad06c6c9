"""Compute once what all network evaluations of a run have in common; the result is the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

_FORGONE: ContextVar[frozenset[str]] = ContextVar('forgone', default=frozenset())


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Switch shortcuts off inside a ``with`` block, to measure what they save.

    Parameters
    ----------
    names : str
        ``'single_token_context'``, ``'timestep_table'``.

    Raises
    ------
    ValueError
        There is no such shortcut.
    """
    known = {single_token_context.__name__, timestep_table.__name__}
    if unknown := set(names) - known:
        raise ValueError(f'expected shortcuts among {sorted(known)}, got {sorted(unknown)}')
    token = _FORGONE.set(_FORGONE.get() | set(names))
    try:
        yield
    finally:
        _FORGONE.reset(token)


class SingleTokenAttention(nn.Module):
    """Cross-attention with the norm before it; for a context of a single token it is a bias.

    Softmax over one token is 1, so every query gets the same output ``to_out(to_v(token))``. The
    output is computed again only when the context is another tensor than in the last call, so a
    context must not be changed in place.

    Parameters
    ----------
    norm : torch.nn.Module
        Norm of the queries.
    attention : Attention
        The layer; called normally if the context has more tokens or there is a mask.
    """

    def __init__(self, norm: nn.Module, attention: Attention) -> None:
        super().__init__()
        self.norm = norm
        self.attention = attention
        self._context: torch.Tensor | None = None
        self._bias = torch.empty(0)

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """(rows, tokens, width) -> the same shape, or (rows, 1, width) to be broadcast."""
        context, attention = encoder_hidden_states, self.attention
        if context is None or context.shape[1] != 1 or attention_mask is not None:
            return attention(self.norm(hidden_states), context, attention_mask, **kwargs)
        self.prepare(context)
        return self._bias

    def prepare(self, context: torch.Tensor) -> None:
        """Compute the bias of a context (rows, 1, width), unless it is the last one."""
        if context is not self._context:
            attention = self.attention
            self._context = context
            self._bias = attention.to_out[1](attention.to_out[0](attention.to_v(context)))


def _is_a_bias(block: nn.Module) -> bool:
    """Whether a block's cross-attention may be replaced by :class:`SingleTokenAttention`."""
    if not isinstance(block, BasicTransformerBlock) or not isinstance(block.attn2, Attention):
        return False
    attention = block.attn2
    extras = (
        'spatial_norm',
        'group_norm',
        'norm_cross',
        'residual_connection',
        'added_kv_proj_dim',
    )
    return (
        block.norm_type == 'layer_norm'
        and block.pos_embed is None
        and attention.is_cross_attention
        and type(attention.processor) in (AttnProcessor, AttnProcessor2_0)
        and attention.rescale_output_factor == 1
        and not any(getattr(attention, extra, None) for extra in extras)
    )


@contextmanager
def single_token_context(unet: nn.Module) -> Iterator[None]:
    """Compute cross-attention to a single token as a bias, inside a ``with`` block.

    Parameters
    ----------
    unet : torch.nn.Module
        Any diffusers UNet; calls with longer contexts work as before.
    """
    blocks = [] if single_token_context.__name__ in _FORGONE.get() else unet.modules()
    with ExitStack() as restore:
        found: list[Any] = list(filter(_is_a_bias, blocks))
        for block in found:
            norm, attention = block.norm2, block.attn2
            restore.callback(setattr, block, 'norm2', norm)
            restore.callback(setattr, block, 'attn2', attention)
            block.norm2, block.attn2 = nn.Identity(), SingleTokenAttention(norm, attention)

        def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
            context = args[2] if len(args) > 2 else kwargs.get('encoder_hidden_states')
            if module is unet and context is not None and context.shape[1] == 1:
                for block in found:
                    block.attn2.prepare(context)

        # Biases belong to a context and not to an evaluation: a compiled UNet only reads them.
        if getattr(unet, 'encoder_hid_proj', None) is None:
            restore.callback(unet.register_forward_pre_hook(before, with_kwargs=True).remove)
        yield


class _Entry(nn.Module):
    """Replaces a module that depends only on the timestep; returns its precomputed output."""

    def __init__(self, answers: torch.Tensor) -> None:
        super().__init__()
        self.answers = answers
        self.answer = answers[:1]

    def forward(self, *_inputs: torch.Tensor | None) -> torch.Tensor:
        return self.answer


class TimestepTable:
    """Precomputed outputs of time embedding modules for all timesteps of a run."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def add(self, answers: torch.Tensor) -> nn.Module:
        """Add outputs (timesteps, width); return a module that returns one of them."""
        self._entries.append(_Entry(answers))
        return self._entries[-1]

    def turn_to(self, index: int) -> None:
        """Select the timestep of the next network evaluation by its index."""
        for entry in self._entries:
            entry.answer = entry.answers[index, None]


@contextmanager
def timestep_table(unet: ModelMixin, timesteps: Sequence[int]) -> Iterator[TimestepTable]:
    """Precompute time embeddings and their projections, inside a ``with`` block.

    All rows of an evaluation must have the same timestep: they share one row of embedding.

    Parameters
    ----------
    unet : diffusers.ModelMixin
        A UNet. If its embedding depends on more than the timestep, it is not changed.
    timesteps : sequence of int
        Of the evaluations that follow.

    Yields
    ------
    TimestepTable
        Call :meth:`TimestepTable.turn_to` before each evaluation.
    """
    table = TimestepTable()
    extras = ('class_embedding', 'add_embedding', 'time_embed_act')
    forgone = timestep_table.__name__ in _FORGONE.get()
    if forgone or any(getattr(unet, name, None) is not None for name in extras):
        yield table
        return
    weight = next(unet.parameters())
    projected = unet.time_proj(torch.tensor(timesteps, device=weight.device)).to(weight.dtype)
    embedding = unet.time_embedding(projected)
    with ExitStack() as restore:
        for block in [module for module in unet.modules() if isinstance(module, ResnetBlock2D)]:
            if block.time_emb_proj is not None:
                hidden = embedding if block.skip_time_act else block.nonlinearity(embedding)
                restore.callback(setattr, block, 'time_emb_proj', block.time_emb_proj)
                block.time_emb_proj = table.add(block.time_emb_proj(hidden))
        restore.callback(setattr, unet, 'time_embedding', unet.time_embedding)
        unet.time_embedding = table.add(embedding)
        yield table
