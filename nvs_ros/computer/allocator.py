"""The C allocator of a process that computes on a CPU."""

from __future__ import annotations

import ctypes

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES = 1 << 30
GROWTH_BYTES = 64 << 20
LARGEST_FROM_HEAP_BYTES = 32 << 20
"""Largest value that glibc accepts; larger blocks are mapped, and returned to the system when they
are freed."""


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory for the next tensor instead of returning it to the system.

    Each network evaluation allocates and frees the same tensors. If their memory is returned and
    mapped again, a view costs some ten thousand page faults, up to a quarter of the time of eight
    views of a new frame (docs/performance.md). In exchange the process keeps its peak memory. Only
    the package's own programs call this; a program that uses it as a library decides for itself.

    Returns
    -------
    bool
        Whether the allocator is glibc's and took the settings.
    """
    mallopt = getattr(ctypes.pythonapi, 'mallopt', None)  # any loaded library finds libc's symbols
    wanted = {
        M_TRIM_THRESHOLD: KEPT_BYTES,
        M_TOP_PAD: GROWTH_BYTES,
        M_MMAP_THRESHOLD: LARGEST_FROM_HEAP_BYTES,
    }
    return mallopt is not None and all(mallopt(*pair) == 1 for pair in wanted.items())


def give_back_freed_memory() -> bool:
    """Return kept memory to the system, for example after a model was released.

    Returns
    -------
    bool
        Whether the allocator is glibc's and returned any memory.
    """
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    return trim is not None and trim(0) == 1
