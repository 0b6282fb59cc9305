"""An SFTP server that fails as told, and counts what it was asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

PASSWORD = "hunter2"


@dataclass
class Faults:
    """What goes wrong: by the last part of a path, called before a file is opened or read."""

    opening: dict[bytes, Callable[[], None]] = field(default_factory=dict)
    reading: dict[bytes, Callable[[], None]] = field(default_factory=dict)
    login: Callable[[Any], None] = lambda connection: None
    connections: list[Any] = field(default_factory=list)
    listed: list[bytes] = field(default_factory=list)
    """Names that a folder holds by what the server says, and by nothing else."""
    keys: list[Any] = field(default_factory=list)
    """Public keys; where there are any, they alone log a user in."""
    asked: list[bytes] = field(default_factory=list)
    """Paths whose state was asked for."""


class _Login(asyncssh.SSHServer):  # type: ignore[misc]
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._connection: Any = None

    def connection_made(self, connection: Any) -> None:
        self._connection = connection
        self._faults.connections.append(connection)

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return not self._faults.keys

    def public_key_auth_supported(self) -> bool:
        return bool(self._faults.keys)

    def validate_public_key(self, username: str, key: Any) -> bool:
        return key in self._faults.keys

    def validate_password(self, username: str, password: str) -> bool:
        self._faults.login(self._connection)
        return password == PASSWORD


class _Files(asyncssh.SFTPServer):  # type: ignore[misc]
    def __init__(self, channel: Any, root: str, faults: Faults) -> None:
        super().__init__(channel, chroot=root)
        self._faults = faults
        self._names: dict[int, bytes] = {}

    def open(self, path: bytes, pflags: int, attrs: Any) -> Any:
        name = path.rpartition(b"/")[2]
        self._faults.opening.get(name, lambda: None)()
        made = super().open(path, pflags, attrs)
        self._names[id(made)] = name
        return made

    async def scandir(self, path: bytes) -> Any:
        async for entry in super().scandir(path):
            yield entry
        attributes = asyncssh.SFTPAttrs(permissions=0o100644, size=5, mtime=1)
        for name in self._faults.listed:
            yield asyncssh.SFTPName(name, attrs=attributes)

    def stat(self, path: bytes) -> Any:
        self._faults.asked.append(path)
        return super().stat(path)

    def read(self, file_obj: Any, offset: int, size: int) -> Any:
        name = self._names.get(id(file_obj), b"")
        self._faults.reading.get(name, lambda: None)()
        return super().read(file_obj, offset, size)


@contextmanager
def sftp_server(root: Path, faults: Faults) -> Iterator[dict[str, Any]]:
    """A server over a folder; the keys of its connection."""
    root.mkdir(exist_ok=True)
    key = asyncssh.generate_private_key("ssh-ed25519")
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    stop = asyncio.Event()
    ports: list[int] = []

    async def serve() -> None:
        server = await asyncssh.create_server(
            lambda: _Login(faults),
            "127.0.0.1",
            0,
            server_host_keys=[key],
            sftp_factory=lambda channel: _Files(channel, str(root), faults),
        )
        ports.append(server.get_port())
        ready.set()
        await stop.wait()
        server.close()
        for connection in faults.connections:
            connection.abort()
        await server.wait_closed()
        await asyncio.sleep(0.05)  # the transports are closed by callbacks

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(20)
    hosts = root.parent / "known_hosts"
    public = key.export_public_key().decode().split()
    hosts.write_text(f"[127.0.0.1]:{ports[0]} {public[0]} {public[1]}\n")
    try:
        yield {
            "host": "127.0.0.1",
            "port": ports[0],
            "user": "u",
            "password": PASSWORD,
            "known_hosts": str(hosts),
        }
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()
