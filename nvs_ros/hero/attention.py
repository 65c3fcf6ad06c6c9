"""Controlled self-attention: processors that expose attention maps and can use source keys.

An :class:`AttentionControl` decides what is done with a map. This module computes the attention,
and installs the processors in a UNet and removes them again.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import nn

from nvs_ros.hero.source_branch import SourceMemory

LayerPredicate = Callable[[str], bool]
"""Takes a layer's name, such as ``up_blocks.3.attentions.0.transformer_blocks.0.attn1``."""

PART_ELEMENTS = {'cpu': 2**19, 'cuda': 2**28}
"""Most elements of maps computed at once, by device; on a CPU for each thread, so that a part stays
in its cache."""


class Part(NamedTuple):
    """Which part of a layer's attention maps a tensor holds.

    Parameters
    ----------
    shape : (int, int, int)
        Of all maps together: batch rows * heads, queries, keys.
    heads, queries : slice
        Range of this part along the first and second dimension.
    """

    shape: tuple[int, int, int]
    heads: slice
    queries: slice


Refine = Callable[[torch.Tensor, Part], torch.Tensor]
"""Takes a part of the maps before softmax, (heads, queries, keys), and returns the refined part.
One with a method ``attend(logits, part, values)`` does softmax and values too."""


class AttentionControl:
    """Decides what happens to the maps of each layer in each evaluation; this base changes nothing.

    Attributes
    ----------
    source_groups : int
        0: every row of the batch is a target. g > 0: the batch is g equal groups, each of one
        source row followed by its target rows: ``[uncond: source, targets; cond: ...]``.
    source_memory : SourceMemory or None
        Stores keys and values of the source rows; they are recalled in batches without source rows.
    map_dtype : torch.dtype
        Least precision in which maps are computed.
    part_elements : int
        Most elements of maps computed at once. Set when the control begins and constant while it
        lasts, because buffers belong to parts: the number of threads may change during a run.
    """

    source_groups: int = 0
    source_memory: SourceMemory | None = None
    map_dtype: torch.dtype = torch.float32
    part_elements: int = PART_ELEMENTS['cuda']
    _announced: int | None = None

    def announce(self, timestep: int) -> None:
        """Set the timestep of the next network evaluation; saves reading it back from a GPU."""
        self._announced = timestep

    def before_evaluation(self, timestep: int | float | torch.Tensor) -> None:
        """Begin an evaluation with the announced timestep, or else that of the UNet call."""
        announced, self._announced = self._announced, None
        if announced is None:
            announced = int(timestep.flatten()[0] if torch.is_tensor(timestep) else timestep)
        self.begin(announced)

    def begin(self, timestep: int) -> None:
        """Prepare for a network evaluation at a timestep."""

    def refiner(self, layer: str) -> Refine | None:
        """How to refine the maps of the target rows of a layer; None: its maps are not needed."""
        return None

    def source_refiner(self, layer: str) -> Refine | None:
        """How to refine the maps of the source rows of a layer; None: they are not needed."""
        return None

    def is_mutual(self, layer: str) -> bool:
        """Whether target rows take keys and values from the source row of their group."""
        return False


Control = TypeVar('Control', bound=AttentionControl)


class Plan(NamedTuple):
    """What a layer does in the coming evaluation, asked of its control before the UNet begins.

    Compiled code sees nothing else of the control's state, so a UNet is compiled for each kind of
    plan and not for each timestep.
    """

    refine: Refine | None = None
    source_refine: Refine | None = None
    mutual: bool = False


class ControlledAttnProcessor:
    """An attention processor that asks its control and else calls the original processor.

    Parameters
    ----------
    original : AttentionProcessor
        The processor that it replaces, used for every evaluation that is not controlled.
    control : AttentionControl
        Shared by all layers of the UNet.
    layer : str
        Name of the attention layer in the UNet.

    Attributes
    ----------
    installed : bool
        False after the control has ended: a processor that is set again later only calls the
        original.

    Raises
    ------
    ValueError
        In a controlled evaluation the layer is called for cross-attention or with a mask.
    """

    def __init__(self, original: Any, control: AttentionControl, layer: str) -> None:
        self.original = original
        self.control = control
        self.layer = layer
        self.installed = True
        self.plan = Plan()

    def prepare(self) -> None:
        """Ask the control what to do in the coming evaluation."""
        control, layer = self.control, self.layer
        self.plan = Plan(
            control.refiner(layer), control.source_refiner(layer), control.is_mutual(layer)
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Copy the original processor: a copy of the UNet is not controlled."""
        return copy.deepcopy(self.original, memo)

    def __call__(
        self, attn: Attention, hidden_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        if not self.installed:
            return self.original(attn, hidden_states, *args, **kwargs)
        control, layer = self.control, self.layer
        refine, source_refine, mutual = self.plan
        if refine is None and source_refine is None and not mutual:
            return self.original(attn, hidden_states, *args, **kwargs)
        if not _is_plain(*args, **kwargs):
            raise ValueError(f'{layer}: expected self-attention without a mask')

        query = _heads(attn, attn.to_q(hidden_states), attn.norm_q)
        if control.source_groups:
            hidden = self._attend_beside_source(attn, query, hidden_states, refine, mutual)
        elif mutual:
            if control.source_memory is None:
                raise RuntimeError(f'{layer}: expected source rows or the memory of them, got none')
            source = control.source_memory.recall(layer)
            hidden = self._attend(attn, query, *_for_targets(source, query), refine)
        else:
            hidden = self._attend(attn, query, *_keys_values(attn, hidden_states), refine)
        hidden = hidden.transpose(1, 2).flatten(2).to(hidden_states.dtype)
        hidden = attn.to_out[1](attn.to_out[0](hidden))
        if attn.residual_connection:
            hidden = hidden + hidden_states
        return hidden / attn.rescale_output_factor

    def _attend_beside_source(
        self,
        attn: Attention,
        query: torch.Tensor,
        hidden_states: torch.Tensor,
        refine: Refine | None,
        mutual: bool,
    ) -> torch.Tensor:
        """Attention in a batch with source rows; if mutual, targets attend to their group's one."""
        groups = self.control.source_groups
        source_query, target_query = _split(query, groups)
        if mutual:
            source_kv = _keys_values(attn, _split(hidden_states, groups)[0])
            target_kv = _for_targets(source_kv, target_query)
            if self.control.source_memory is not None:
                self.control.source_memory.keep(self.layer, *source_kv)
        else:
            keys, values = (_split(x, groups) for x in _keys_values(attn, hidden_states))
            source_kv, target_kv = zip(keys, values, strict=True)
        source = self._attend(attn, source_query, *source_kv, self.plan.source_refine)
        target = self._attend(attn, target_query, *target_kv, refine)
        return _join(source, target, groups)

    def _attend(
        self,
        attn: Attention,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        refine: Refine | None,
    ) -> torch.Tensor:
        """Attention over (rows, heads, tokens, width); the fused kernel if no map is refined."""
        if refine is None:
            return F.scaled_dot_product_attention(query, key, value, scale=attn.scale)
        dtype = torch.promote_types(query.dtype, self.control.map_dtype)
        if attn.upcast_attention:
            dtype = torch.promote_types(dtype, torch.float32)
        softmax_dtype = torch.promote_types(dtype, torch.float32)
        scaled = (query * attn.scale).to(dtype).flatten(0, 1)
        transposed = key.to(dtype).flatten(0, 1).transpose(1, 2)
        values = value.flatten(0, 1)
        hidden = torch.empty_like(query, memory_format=torch.contiguous_format)
        flat = hidden.flatten(0, 1)
        shape = (*scaled.shape[:2], transposed.shape[2])
        for part in _parts(shape, self.control.part_elements):
            logits = torch.bmm(scaled[part.heads, part.queries], transposed[part.heads])
            attend = getattr(refine, 'attend', None)
            if attend is not None:
                flat[part.heads, part.queries] = attend(logits, part, values[part.heads])
                continue
            weights = refine(logits, part).softmax(-1, dtype=softmax_dtype).to(value.dtype)
            flat[part.heads, part.queries] = torch.bmm(weights, values[part.heads])
        return hidden


@functools.cache
def _processor_class(original: type) -> type[ControlledAttnProcessor]:
    """A processor with the signature of the original one: diffusers passes only its arguments."""
    if not inspect.isfunction(original.__call__):
        return ControlledAttnProcessor

    @functools.wraps(original.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        return ControlledAttnProcessor.__call__(self, *args, **kwargs)

    members = {'__call__': call, '__doc__': ControlledAttnProcessor.__doc__}
    return type(ControlledAttnProcessor.__name__, (ControlledAttnProcessor,), members)


def _is_plain(
    encoder_hidden_states: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    *_args: Any,
    **_kwargs: Any,
) -> bool:
    """Whether these arguments of an attention processor mean self-attention without a mask."""
    return encoder_hidden_states is None and attention_mask is None


def _heads(attn: Attention, x: torch.Tensor, norm: nn.Module | None = None) -> torch.Tensor:
    x = x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
    return x if norm is None else norm(x)


def _keys_values(attn: Attention, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    key = _heads(attn, attn.to_k(hidden_states), attn.norm_k)
    return key, _heads(attn, attn.to_v(hidden_states))


def _for_targets(
    source: tuple[torch.Tensor, torch.Tensor], query: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of the source rows, repeated for each target row of their groups."""
    key, value = source
    targets = len(query) // len(key)
    return key.repeat_interleave(targets, 0), value.repeat_interleave(targets, 0)


def _part_elements(device: torch.device) -> int:
    """Most elements of a part on a device, with the present number of threads."""
    limit = PART_ELEMENTS.get(device.type, PART_ELEMENTS['cuda'])
    return limit * torch.get_num_threads() if device.type == 'cpu' else limit


def _parts(shape: tuple[int, int, int], limit: int) -> Iterator[Part]:
    """Cut maps into parts: several whole maps, or some queries of one that is too large."""
    rows, queries, keys = shape
    some_queries = min(queries, max(1, limit // keys))
    some_rows = max(1, limit // (queries * keys))
    for row in range(0, rows, some_rows):
        for query in range(0, queries, some_queries):
            yield Part(shape, slice(row, row + some_rows), slice(query, query + some_queries))


def _split(rows: torch.Tensor, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Source rows (groups, ...) and target rows (groups * targets, ...) of a batch."""
    grouped = rows.unflatten(0, (groups, -1))
    return grouped[:, 0], grouped[:, 1:].flatten(0, 1)


def _join(source: torch.Tensor, target: torch.Tensor, groups: int) -> torch.Tensor:
    return torch.cat([source[:, None], target.unflatten(0, (groups, -1))], 1).flatten(0, 1)


def self_attention_layers(unet: nn.Module) -> dict[str, Attention]:
    """Return the self-attention layers (``attn1``) of a UNet by name."""
    return {
        name: module
        for name, module in unet.named_modules()
        if isinstance(module, Attention)
        and name.rpartition('.')[2] == 'attn1'
        and not module.is_cross_attention
    }


def fine_decoder_layers(unet: nn.Module) -> LayerPredicate:
    """Match the two decoder stages of highest resolution that have self-attention.

    In Zero-1-to-3 these are ``up_blocks.2`` (16x16) and ``up_blocks.3`` (32x32), where section 4.4
    injects keys and values.
    """
    stages = {tuple(name.split('.')[:2]) for name in self_attention_layers(unet)}
    decoder = sorted((int(number), block) for block, number in stages if block == 'up_blocks')
    prefixes = tuple(f'{block}.{number}.' for number, block in decoder[-2:])
    return lambda name: name.startswith(prefixes)


@contextmanager
def controlled_attention(
    unet: nn.Module, control: Control, layers: LayerPredicate | None = None
) -> Iterator[Control]:
    """Control self-attention layers of a UNet inside a ``with`` block; restore them afterwards.

    Parameters
    ----------
    unet : torch.nn.Module
        A diffusers UNet, called with ``timestep`` as second or keyword argument.
    control : AttentionControl
        Learns each evaluation's timestep from the UNet calls.
    layers : callable, optional
        Which layers, by name; all self-attention layers when omitted.

    Raises
    ------
    ValueError
        No layer matches.
    RuntimeError
        The UNet is controlled already. Also raised by a call of the UNet when a layer was given
        another processor inside the block, because the method would silently be lost; such a
        processor is left in place.
    """
    available = self_attention_layers(unet)
    for attn in available.values():
        if isinstance(attn.processor, ControlledAttnProcessor):
            if attn.processor.installed:
                raise RuntimeError('the self-attention of this UNet is under control already')
            attn.set_processor(attn.processor.original)  # set again after its control had ended
    chosen = {name: attn for name, attn in available.items() if layers is None or layers(name)}
    if not chosen:
        raise ValueError(f'layers: expected to match one of {list(available)}, matched none')
    control.part_elements = _part_elements(next(unet.parameters()).device)
    processors = {
        name: _processor_class(attn.processor.__class__)(attn.processor, control, name)
        for name, attn in chosen.items()
    }

    def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
        if module is unet:  # a copy of the UNet has the hook as well
            _check_installed(unet, processors)
            control.before_evaluation(kwargs['timestep'] if 'timestep' in kwargs else args[1])
            for processor in processors.values():
                processor.prepare()

    hook = unet.register_forward_pre_hook(before, with_kwargs=True)
    try:
        for name, attn in chosen.items():
            attn.set_processor(processors[name])
        yield control
    finally:
        hook.remove()
        for name, attn in chosen.items():
            processors[name].installed = False
            if attn.processor is processors[name]:
                attn.set_processor(processors[name].original)


def _check_installed(unet: nn.Module, processors: dict[str, ControlledAttnProcessor]) -> None:
    for name, processor in processors.items():
        found = getattr(unet.get_submodule(name), 'processor', None)
        if found is not processor:
            raise RuntimeError(
                f'{name}: expected {type(processor).__name__}, got {type(found).__name__}: change '
                'attention processors before the `with` block, inside it the method is lost'
            )
