"""Memory that a batch has freed is kept for the next one."""

from __future__ import annotations

import ctypes

KEPT_BYTES = 512 * 1024 * 1024
# From glibc's malloc.h; the largest threshold that it takes on 64 bits.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 1024 * 1024


def keep_freed_memory() -> None:
    """Tell malloc not to give freed memory back to the kernel at once.

    Each batch would ask for all of its pages again, and the kernel clears every one of them: a
    tenth of a worker's time. Where the C library is not glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
