"""Load the synthesizer of the node; the only module for the node that uses torch directly."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait

import torch

from nvs_ros.computer.allocator import give_back_freed_memory
from nvs_ros.computer.cores import use_threads
from nvs_ros.settings import ModelSettings
from nvs_ros.synthesizer import Synthesizer

PROGRESS_S = 5.0


def load_synthesizer(settings: ModelSettings, log: Callable[[str], object]) -> Synthesizer:
    """Load and warm up the configured model; logs progress every few seconds.

    Parameters
    ----------
    settings : ModelSettings
    log : callable
        Called with a line for a person.

    Raises
    ------
    Exception
        The model cannot be loaded; usually UserError, but of any type.
    """
    use_threads(settings.threads)
    device = None if settings.device == 'auto' else torch.device(settings.device)
    kind = None if settings.kind == 'auto' else settings.kind
    dtype = None if settings.dtype == 'auto' else getattr(torch, settings.dtype)
    started = time.monotonic()

    def load() -> Synthesizer:
        synthesizer = Synthesizer.from_pretrained(
            settings.source,
            device=device,
            dtype=dtype,
            kind=kind,
            source_memory_mb=settings.source_memory_mb,
            compiled=settings.compile,
        )
        synthesizer.warm_up()
        return synthesizer

    log(f'loading model {settings.source!r}')
    loading = _in_a_thread(load)
    while wait([loading], PROGRESS_S).not_done:
        log(f'still loading model {settings.source!r} ({time.monotonic() - started:.0f} s)')
    synthesizer = loading.result()
    components = synthesizer.components
    log(
        f'model {components.model_id} ready on {components.device} '
        f'after {time.monotonic() - started:.1f} s'
    )
    return synthesizer


def _in_a_thread(work: Callable[[], Synthesizer]) -> Future[Synthesizer]:
    """Run work in a thread that ends afterwards, and with it the team of OpenMP threads it used.

    The thread of a callback stays in its pool, and so would its team. While OpenMP has more threads
    than there are cores it hardly spins, and each network evaluation would take longer on idle
    cores.
    """
    future: Future[Synthesizer] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # raised in the thread that waits for the result
            future.set_exception(error)

    threading.Thread(target=run, name='loading', daemon=True).start()
    return future


def gpu_memory_mb() -> float | None:
    """GPU memory of this process's tensors in megabytes; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    return torch.cuda.memory_allocated() / 1e6


def give_back_memory() -> None:
    """Return the memory of a released model to the system."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    give_back_freed_memory()
