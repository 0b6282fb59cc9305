"""Ports for servers of tests."""

from __future__ import annotations

import socket


def free_port(address: str = "127.0.0.1") -> int:
    """A port on which nobody listens now."""
    with socket.create_server((address, 0)) as server:
        return int(server.getsockname()[1])
