"""What keeps the memory of batches bounded, and cheap to ask for again."""

from __future__ import annotations

import ctypes
import gc
import resource
import time
from pathlib import Path

import pyarrow as pa

_USUAL_BYTES = 1024.0  # where none has been seen; the client's own queue is limited, too
_DECAY = 0.25
COLLECT_SECONDS = 30.0
KEPT_BYTES = 512 * 1024 * 1024
TRIMMED_BYTES, TRIM_SECONDS = 560 * 1024 * 1024, 1.0
# From glibc's malloc.h; the largest threshold that it takes on 64 bits.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 1024 * 1024
_LIBC = ctypes.CDLL(None)


class FetchSizer:
    """How many messages to ask Kafka for at once: large ones come in smaller numbers.

    Args:
        messages: At most so many.
        bytes: About so many of their bytes, keys included.
        size: What one is taken for before any has been seen, in bytes.
    """

    def __init__(self, messages: int, bytes: int, size: float = _USUAL_BYTES) -> None:
        self._messages = messages
        self._bytes = bytes
        self._size = size

    def messages(self) -> int:
        """The number to ask for now."""
        return max(1, min(self._messages, int(self._bytes / self._size)))

    def observe(self, messages: int, bytes: int) -> None:
        """Take note of a batch; the estimate falls slowly and rises at once."""
        if messages:
            self._size = max(1.0, bytes / messages, self._size * _DECAY)


class GarbageCollection:
    """Looks for cycles now and then: left to itself, Python looks at all messages for ever.

    And gives freed memory back to the kernel where a process has grown large.
    """

    def __init__(self) -> None:
        self._due_at = self._trim_at = 0.0

    def run_if_due(self) -> None:
        """Collect where it is time; from the first call on, Python does not by itself."""
        now = time.monotonic()
        if now >= self._due_at:
            gc.collect()
            gc.disable()
            self._due_at = now + COLLECT_SECONDS
        if now >= self._trim_at and resident_bytes() > TRIMMED_BYTES:
            give_back_freed_memory()
            self._trim_at = now + TRIM_SECONDS

    def end(self) -> None:
        """Leave it to Python again."""
        gc.enable()


def keep_freed_memory() -> None:
    """Tell malloc not to give freed memory back to the kernel at once.

    Each batch would ask for all of its pages again, and the kernel clears every one of them: a
    tenth of a worker's time. Where the C library is not glibc nothing happens.
    """
    mallopt = getattr(_LIBC, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)


def give_back_freed_memory() -> None:
    """Give all freed memory back to the kernel, wherever it lies. Nothing happens without glibc."""
    pa.default_memory_pool().release_unused()
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes() -> int:
    """Memory that this process holds now; 0 where there is no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except FileNotFoundError:
        return 0
