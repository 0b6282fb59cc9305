"""Connections that end at a deadline, and that do not lead into a private network by themselves."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

Origin = tuple[str, str, int]
"""Scheme, host and port."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PORTS = {"http": 80, "https": 443}


class AddressRefused(Exception):
    """A connection would lead to a private address that nobody has configured."""


class Gate:
    """What the connections of one client may do: where to, and for how long.

    Args:
        origins: Whose addresses may be private, since the configuration names them.
        allow_private: Whether all may.

    Attributes:
        expired: Whether the deadline of the current request has passed.
    """

    def __init__(self, origins: frozenset[Origin], allow_private: bool = False) -> None:
        self.expired = False
        self._origins = origins
        self._allow_private = allow_private
        self._known: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()
        self._sockets: list[socket.socket] = []  # copies, as another thread ends them
        self._lock = threading.Lock()

    def check_url(self, url: str) -> None:
        """Refuse an address that is written as a private one; names are looked at later.

        Raises:
            AddressRefused: It is one.
        """
        scheme, host, port = origin_of(url)
        self._check(scheme, host, port, _written_address(host))

    def admit(self, scheme: str, connection: HTTPConnection, made: socket.socket) -> None:
        """Look where a connection leads before anything is sent over it.

        Raises:
            AddressRefused: To a private address.
        """
        if connection.proxy is None:
            self._check(scheme, connection.host, connection.port, str(made.getpeername()[0]))
        with self._lock:
            self._known.add(connection)
            self._watch(made)

    def _check(self, scheme: str, host: str, port: int, address: str) -> None:
        if self._allow_private or (scheme, host.lower().strip("[]"), port) in self._origins:
            return
        if is_private(address):
            raise AddressRefused

    @contextmanager
    def until(self, seconds: float) -> Iterator[None]:
        """A request, after which so many seconds later every connection is cut."""
        with self._lock:
            self.expired = False
            for connection in list(self._known):
                if connection.sock is not None:
                    self._watch(connection.sock)
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                for copy in self._sockets:
                    copy.close()
                self._sockets.clear()

    def _watch(self, made: Any) -> None:
        with suppress(OSError):
            self._sockets.append(socket.socket(fileno=os.dup(made.fileno())))

    def _expire(self) -> None:
        with self._lock:
            self.expired = True
            for copy in self._sockets:
                with suppress(OSError):
                    copy.shutdown(socket.SHUT_RDWR)


class GatedAdapter(HTTPAdapter):
    """The transport of a session whose connections pass a gate."""

    def __init__(self, gate: Gate) -> None:
        self._pools = _pools(gate)
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """As usual, with connections of our own."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """The same for connections through a proxy."""
        manager: Any = super().proxy_manager_for(*args, **kwargs)
        if manager.pool_classes_by_scheme.keys() == self._pools.keys() and not _is_socks(manager):
            manager.pool_classes_by_scheme = self._pools
        return manager


def _is_socks(manager: Any) -> bool:
    return "SOCKS" in type(manager).__name__


def _pools(gate: Gate) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _admitted(gate, "http", self, super()._new_conn())

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _admitted(gate, "https", self, super()._new_conn())

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _admitted(
    gate: Gate, scheme: str, connection: HTTPConnection, made: socket.socket
) -> socket.socket:
    try:
        gate.admit(scheme, connection, made)
    except BaseException:
        made.close()
        raise
    return made


def origin_of(url: str) -> Origin:
    """Scheme, host and port of an address.

    Raises:
        ValueError: It is none.
    """
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or not parts.hostname:
        raise ValueError("expected http:// or https:// and a host")
    return scheme, parts.hostname.lower(), parts.port or _PORTS[scheme]


def _written_address(host: str) -> str:
    """The address that a host's name is, also where it is one number, or hexadecimal."""
    if host == "localhost" or host.endswith(".localhost"):
        return "127.0.0.1"
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return host


def is_private(address: str) -> bool:
    """Whether an IP address is not a public one; False for what is none."""
    try:
        found = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        found = inner or found
    return not found.is_global or found.is_multicast
