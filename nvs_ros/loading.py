"""Loading the synthesizer: the one place of the node that knows torch."""

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


def load_synthesizer(settings: ModelSettings, log: Callable[[str], None]) -> Synthesizer:
    """Load the configured model; says every few seconds that it is still at it.

    Parameters
    ----------
    settings : ModelSettings
    log : callable
        Takes a line for a person.

    Raises
    ------
    Exception
        Whatever the loader raises: the model cannot be had.
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
    """Start work in a thread that ends with it.

    The threads that OpenMP gives to a thread end with it, too. Those of a callback's, which is kept
    for the next one, would stay, and OpenMP spins hardly at all while it has more than there are
    cores: on idle cores each network evaluation would take longer.
    """
    future: Future[Synthesizer] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # handed to whoever waits
            future.set_exception(error)

    threading.Thread(target=run, name='loading', daemon=True).start()
    return future


def gpu_memory_mb() -> float | None:
    """Memory of the GPU in use by this process in megabytes, None without one."""
    if not torch.cuda.is_available():
        return None
    return torch.cuda.memory_allocated() / 1e6


def give_back_memory() -> None:
    """Give the system the memory of a model that nobody holds any more."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    give_back_freed_memory()
