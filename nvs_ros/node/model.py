"""Loading the synthesizer: the one place of the node that knows torch."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable

import torch

from nvs_ros.allocator import give_back_freed_memory
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
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = None if settings.device == 'auto' else torch.device(settings.device)
    kind = None if settings.kind == 'auto' else settings.kind
    dtype = None if settings.dtype == 'auto' else getattr(torch, settings.dtype)
    started = time.monotonic()
    done = threading.Event()

    def report() -> None:
        while not done.wait(PROGRESS_S):
            log(f'still loading model {settings.source!r} ({time.monotonic() - started:.0f} s)')

    log(f'loading model {settings.source!r}')
    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        synthesizer = Synthesizer.from_pretrained(
            settings.source,
            device=device,
            dtype=dtype,
            kind=kind,
            source_memory_mb=settings.source_memory_mb,
            compiled=settings.compile,
        )
        synthesizer.warm_up()
    finally:
        done.set()
        reporter.join()
    components = synthesizer.components
    log(
        f'model {components.model_id} ready on {components.device} '
        f'after {time.monotonic() - started:.1f} s'
    )
    return synthesizer


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
