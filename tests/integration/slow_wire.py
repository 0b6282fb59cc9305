"""A wire to a server that is slow on demand: questions arrive late, answers do not."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.integration.producers_lab import PATIENCE


@dataclass
class SlowWire:
    """Takes connections on a port of its own and passes them on.

    Attributes:
        to: The server's address.
        delay: Seconds for which each packet to the server is kept back; may be changed any time.
        dead: How many of the connections, the first ones, pass nothing on any more.
    """

    to: tuple[str, int]
    delay: float = 0.0
    dead: int = 0
    _made: int = 0
    _door: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self) -> int:
        return int(self._door.getsockname()[1])

    def serve(self) -> None:
        passing: list[threading.Thread] = []
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                break
            self._made += 1
            thread = threading.Thread(target=self._connect, args=(client, self._made))
            thread.start()
            passing.append(thread)
        for thread in passing:
            thread.join()

    def close(self) -> None:
        self._ended.set()
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def go_dead(self) -> None:
        """Have all connections of now pass nothing on any more; nobody is told."""
        self.dead = self._made

    def _connect(self, client: socket.socket, number: int) -> None:
        with suppress(ConnectionError):  # one end was killed: the other one sees its end
            self._pass_on(client, number)

    def _pass_on(self, client: socket.socket, number: int) -> None:
        with client, socket.create_connection(self.to, PATIENCE) as server:
            ends = [client, server]
            while not self._ended.is_set():
                if number <= self.dead:
                    self._ended.wait()
                    return
                for end in select.select(ends, [], [], 0.2)[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    if end is client:
                        self._ended.wait(self.delay)
                    (server if end is client else client).sendall(data)


@contextmanager
def slow_wire(host: str, port: int) -> Iterator[SlowWire]:
    """One that serves until the block ends."""
    made = SlowWire((host, port))
    serving = threading.Thread(target=made.serve, daemon=True)
    serving.start()
    try:
        yield made
    finally:
        made.close()
        serving.join()
