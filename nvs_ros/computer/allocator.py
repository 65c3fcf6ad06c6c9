"""The C allocator of a process that computes on a CPU."""

from __future__ import annotations

import ctypes

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES = 1 << 30
GROWTH_BYTES = 64 << 20
LARGEST_FROM_HEAP_BYTES = 32 << 20
"""glibc takes no more; larger blocks are mapped, and given back when they are freed."""


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory for the next tensor instead of giving it back to the system.

    Each network evaluation allocates and frees the same tensors. Given back and mapped anew, a
    view costs some ten thousand page faults: up to a quarter of the time of eight views of a new
    frame (docs/performance.md). The process keeps its peak of memory for that. For processes of
    our own: a program that uses the package as a library decides for itself.

    Returns
    -------
    bool
        Whether the allocator is glibc's and took the settings.
    """
    mallopt = getattr(ctypes.pythonapi, 'mallopt', None)  # found through any library
    wanted = {
        M_TRIM_THRESHOLD: KEPT_BYTES,
        M_TOP_PAD: GROWTH_BYTES,
        M_MMAP_THRESHOLD: LARGEST_FROM_HEAP_BYTES,
    }
    return mallopt is not None and all(mallopt(*pair) == 1 for pair in wanted.items())


def give_back_freed_memory() -> bool:
    """Give the system what has been kept, when something large is gone.

    Returns
    -------
    bool
        Whether the allocator is glibc's and gave any back.
    """
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    return trim is not None and trim(0) == 1
