"""Views in batches that fit memory."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

Callback = Callable[[dict[str, Any]], None]


def in_batches(
    batches: Sequence[Sequence[int]],
    make: Callable[[Sequence[int], Callback | None], Sequence[Any]],
    callback: Callback | None = None,
) -> list[Any]:
    """Make views batch by batch; a batch that does not fit memory is halved and tried again.

    Parameters
    ----------
    batches : sequence of sequences of int
        Numbers of the views that may be made together; 0 to n - 1, each once.
    make : callable
        Takes the numbers of some views and a callback, and returns the views in that order.
    callback : callable, optional
        Gets what `make` reports of each network evaluation, counted over all batches:
        ``evaluations`` grows where a batch is halved.

    Returns
    -------
    list
        The views in the order of their numbers.

    Raises
    ------
    MemoryError
        Not even a single view fits.
    """
    waiting, made, done = deque(batches), {}, 0
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
        # Here the exception is gone, and with it what its frames held.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(batch) == 1:
            raise MemoryError(f'one view needs more memory than there is: {reason}')
        half = (len(batch) + 1) // 2
        waiting.extendleft((batch[half:], batch[:half]))
    return [made[number] for number in sorted(made)]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or on the CPU, where torch has no exception of its own."""
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
