"""Ports on loopback: the wished one where it is free, a near one otherwise, the same next time."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from lake.errors import StackError
from lake.storage.json_files import read_json, write_json

LOOPBACK = "127.0.0.1"
_REACH = 400


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of loopback now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # a server's own option: without it, connections just closed would block a restart
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


class PortBook:
    """Ports of one stack, remembered in a file.

    Two stacks that start at the same moment would both find a port free, so each chosen port is
    held by a lock in a folder that all stacks of this user share.

    Args:
        path: Where the ports are remembered.
        locks: The shared folder.
    """

    def __init__(self, path: Path, locks: Path) -> None:
        self._path = path
        self._locks = locks
        self._held: list[int] = []

    def known(self) -> dict[str, int]:
        """The ports of the last start."""
        return {k: v for k, v in read_json(self._path).items() if isinstance(v, int)}

    def choose(self, wished: Mapping[str, int]) -> dict[str, int]:
        """Pick and hold one port for each name.

        Raises:
            StackError: None is free near a wished one.
        """
        self._locks.mkdir(parents=True, exist_ok=True)
        known = self.known()
        chosen: dict[str, int] = {}
        for name, port in wished.items():
            last = known.get(name, port)
            # clients get ephemeral ports from 32768 up: a server there would not find its own again
            near = range(port, min(port + _REACH, 65_535))
            chosen[name] = self._first_free((last, *near), name, port, set(chosen.values()))
        if chosen != known:
            write_json(self._path, chosen)
        return chosen

    def _first_free(
        self, candidates: tuple[int, ...], name: str, wished: int, taken: set[int]
    ) -> int:
        for port in candidates:
            if port not in taken and is_free(port) and self._hold(port):
                return port
        raise StackError(
            f"No free port for {name} on {LOOPBACK} from {wished} to {wished + _REACH}.",
            f"Set another one at embedded.ports.{name} in ducklake.yml.",
        )

    def _hold(self, port: int) -> bool:
        descriptor = os.open(self._locks / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held.append(descriptor)  # until the process ends
        return True
