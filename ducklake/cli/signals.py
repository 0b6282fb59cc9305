"""SIGTERM and Ctrl-C drain; a second one exits at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from ducklake.exit_codes import INTERRUPTED


def stop_on_signals() -> threading.Event:
    """An event that the first SIGINT or SIGTERM sets; the second one ends the process."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(INTERRUPTED)
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return stop
