"""What network evaluations of one run have in common, computed once: exact, nothing is skipped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

_FORGONE: ContextVar[frozenset[str]] = ContextVar('forgone', default=frozenset())


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Forgo shortcuts inside a ``with`` block, to measure what they save.

    Parameters
    ----------
    names : str
        ``single_token_context``, ``timestep_table``.

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
    """Cross-attention and the norm before it; with a single token of context that is a bias.

    Softmax over one token is one, so that ``to_out(to_v(token))`` is the answer to every query. It
    is computed when another context tensor comes than in the call before; contexts must therefore
    not be changed in place.

    Parameters
    ----------
    norm : torch.nn.Module
        What queries go through first.
    attention : Attention
        The layer; it answers itself where there are more tokens, or a mask.
    """

    def __init__(self, norm: nn.Module, attention: Attention) -> None:
        super().__init__()
        self.norm = norm
        self.attention = attention
        self._context: torch.Tensor | None = None
        self._bias: torch.Tensor | None = None

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """(rows, tokens, width) -> the same, or (rows, 1, width) that holds for all tokens."""
        context, attention = encoder_hidden_states, self.attention
        if context is None or context.shape[1] != 1 or attention_mask is not None:
            return attention(self.norm(hidden_states), context, attention_mask, **kwargs)
        if context is not self._context:
            self._context = context
            self._bias = attention.to_out[1](attention.to_out[0](attention.to_v(context)))
        return self._bias


def _is_a_bias(block: nn.Module) -> bool:
    """Whether a block's cross-attention is the plain one."""
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
    """Make cross-attention to a single token the bias that it is, inside a ``with`` block.

    Parameters
    ----------
    unet : torch.nn.Module
        Any diffusers UNet; calls with longer contexts are answered as before.
    """
    blocks = [] if single_token_context.__name__ in _FORGONE.get() else unet.modules()
    with ExitStack() as restore:
        for block in list(filter(_is_a_bias, blocks)):
            norm, attention = block.norm2, block.attn2
            restore.callback(setattr, block, 'norm2', norm)
            restore.callback(setattr, block, 'attn2', attention)
            block.norm2, block.attn2 = nn.Identity(), SingleTokenAttention(norm, attention)
        yield


class _Entry(nn.Module):
    """In place of a module that depends on the timestep alone: its answer to the present one."""

    def __init__(self, answers: torch.Tensor) -> None:
        super().__init__()
        self.answers = answers
        self.answer = answers[:1]

    def forward(self, *_inputs: torch.Tensor | None) -> torch.Tensor:
        return self.answer


class TimestepTable:
    """Time embeddings of all timesteps of a run, (timesteps, width) each."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def add(self, answers: torch.Tensor) -> nn.Module:
        """Return a module that answers from the table."""
        self._entries.append(_Entry(answers))
        return self._entries[-1]

    def turn_to(self, index: int) -> None:
        """Say which of the timesteps the next network evaluation has."""
        for entry in self._entries:
            entry.answer = entry.answers[index, None]


@contextmanager
def timestep_table(unet: nn.Module, timesteps: Sequence[int]) -> Iterator[TimestepTable]:
    """Look time embeddings and their projections up, inside a ``with`` block.

    All rows of an evaluation have the same timestep, so that one row of embedding serves them.

    Parameters
    ----------
    unet : torch.nn.Module
        A diffusers UNet. One whose embedding depends on more than the timestep stays as it is.
    timesteps : sequence of int
        Of the evaluations that will follow.

    Yields
    ------
    TimestepTable
        To be turned to the timestep before each evaluation.
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
