"""Make views in batches that fit into memory."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

from nvs_ros.settings import SEEDS

Callback = Callable[[dict[str, Any]], None]


def in_batches(
    batches: Sequence[Sequence[int]],
    make: Callable[[Sequence[int], Callback | None], Sequence[Any]],
    callback: Callback | None = None,
) -> list[Any]:
    """Make views batch by batch; a batch that does not fit into memory is halved and tried again.

    Parameters
    ----------
    batches : sequence of sequences of int
        Indices of the views that may be made together; 0 to n - 1, each once.
    make : callable
        Takes the indices of some views and a callback; returns the views in that order.
    callback : callable, optional
        Gets the reports that `make` gives after each network evaluation, counted over all batches;
        ``evaluations`` grows when a batch is halved.

    Returns
    -------
    list
        The views in the order of their indices.

    Raises
    ------
    MemoryError
        Not even a single view fits into memory.
    """
    waiting, done = deque(batches), 0
    made: dict[int, Any] = {}
    while waiting:
        batch = waiting.popleft()
        report = callback and _counted(callback, done, done + 1 + len(waiting))
        try:
            made.update(zip(batch, make(batch, report), strict=True))
            done += 1
            continue
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = ' '.join(str(error).split())
        # Only now has the exception been freed, with the tensors that its stack frames held.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(batch) == 1:
            raise MemoryError(f'one view needs more memory than there is: {reason}')
        half = (len(batch) + 1) // 2
        waiting.extendleft((batch[half:], batch[:half]))
    return [made[number] for number in sorted(made)]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; on a CPU torch has no exception of its own for it."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _counted(callback: Callback, done: int, batches: int) -> Callback:
    def report(progress: dict[str, Any]) -> None:
        each = progress['evaluations']
        callback(
            progress
            | {'evaluation': done * each + progress['evaluation'], 'evaluations': batches * each}
        )

    return report


def seeds_of(seed: int | Sequence[int], targets: int) -> list[int]:
    """A seed for each target, from one for all or one for each.

    Raises
    ------
    ValueError
        A seed is outside 0 to 2**63 - 1, or their number is not that of the targets.
    """
    seeds = list(seed) if isinstance(seed, Sequence) else [seed]
    for wrong in [one for one in seeds if not 0 <= one < SEEDS]:
        raise ValueError(f'seed: expected 0 to {SEEDS - 1}, got {wrong}')
    if not isinstance(seed, Sequence):
        seeds *= targets
    if len(seeds) != targets:
        raise ValueError(f'seed: expected one for each of {targets} targets, got {len(seeds)}')
    return seeds
