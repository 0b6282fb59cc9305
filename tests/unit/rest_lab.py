"""An HTTP server that misbehaves as a test says, and a source of type `rest` that asks it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
import yaml

from lake.config import Endpoints, PostgresEndpoint, load_config
from lake.records import Record, Reject
from producers.base import Batch, Connector
from producers.registry import connector

ENDPOINTS = Endpoints(
    kafka="127.0.0.1:1",
    kafka_options={},
    connect="http://127.0.0.1:1",
    postgres=PostgresEndpoint("127.0.0.1", 1, "u", "hunter2", "shop"),
)


@dataclass(frozen=True)
class Asked:
    """A request as the server saw it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """An answer.

    Attributes:
        content: Bytes, or a document.
        length: What Content-Length says; by default what is true, None for no such header.
        drip: Called between the bytes, each of which is sent alone.
        early: Sent before the status line ends, byte by byte.
    """

    content: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = -1
    drip: Callable[[], object] | None = None
    drip_headers: bool = False

    @property
    def body(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else orjson.dumps(self.content)


Answers = Callable[[Asked], Reply]


class Server:
    """Answers as `says` does; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.says: dict[str, Reply | Answers] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                size = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                query = dict(parse_qsl(parts.query, keep_blank_values=True))
                asked = Asked(self.command, parts.path, query, headers, self.rfile.read(size))
                server.asked.append(asked)
                found = server.says.get(parts.path, Reply(b"not found", 404))
                self.reply(found(asked) if callable(found) else found)

            def do_POST(self) -> None:
                self.do_GET()

            def reply(self, reply: Reply) -> None:
                try:
                    self._reply(reply)
                except OSError:
                    self.close_connection = True

            def _reply(self, reply: Reply) -> None:
                body = reply.body
                if reply.drip_headers:
                    assert reply.drip is not None
                    for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 300:
                        self.wfile.write(bytes([byte]))
                        self.wfile.flush()
                        reply.drip()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                length = len(body) if reply.length == -1 else reply.length
                if length is not None:
                    self.send_header("Content-Length", str(length))
                if length != len(body):
                    self.send_header("Connection", "close")
                    self.close_connection = True
                self.end_headers()
                for byte in body if reply.drip is not None else b"":
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    reply.drip()  # type: ignore[misc]
                if reply.drip is None:
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Listener(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that was killed is no error of the server's."""

        self._server = Listener(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def say(self, path: str, content: Any, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.says[path] = Reply(content, status, named)

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.close()


class RestLab:
    """A source of one or more tables, and the cursors that its batches leave behind.

    Args:
        folder: Where `ducklake.yml` goes.
        url: The base URL.
        tables: The tables' sections.
        more: Other keys of the connection.
    """

    def __init__(self, folder: Path, url: str, tables: dict[str, Any], **more: Any) -> None:
        source = {
            "type": "rest",
            "connection": {"base_url": url, **more},
            "poll_seconds": 60,
            "tables": tables,
        }
        path = folder / "ducklake.yml"
        folder.mkdir(exist_ok=True)
        path.write_text(
            yaml.safe_dump({"name": "lab", "sources": {"api": source}}, sort_keys=False)
        )
        self.config = load_config(path)
        self.cursors: dict[str, dict[str, Any]] = {}
        self.rows: list[Record] = []
        self.rejects: list[Reject] = []
        self.source: Connector = connector(self.config, ENDPOINTS, "api")

    def poll(self, batches: int | None = None) -> list[dict[str, Any]]:
        """Poll, and keep what it yields; the rows.

        Args:
            batches: Kill it after so many batches.
        """
        before = len(self.rows)
        found = self.source.poll(self.cursors)
        try:
            for number, batch in enumerate(found, 1):
                self._write(batch)
                if number == batches:
                    break
        finally:
            found.close()  # type: ignore[attr-defined]
        return [dict(record.value) for record in self.rows[before:]]

    def restart(self) -> None:
        """A new process that knows the cursors."""
        self.source.close()
        self.source = connector(self.config, ENDPOINTS, "api")

    def _write(self, batch: Batch) -> None:
        self.rows += batch.records
        self.rejects += batch.rejects
        self.cursors[batch.key] = orjson.loads(orjson.dumps(batch.cursor))

    def states(self) -> dict[str, tuple[str, str]]:
        """By table: its state and the reason, where all is not well."""
        return {s.table: (s.state, s.reason) for s in self.source.table_states()}


def table(url: str, key: list[str] | None = None, **options: Any) -> dict[str, Any]:
    """The section of a table."""
    return {"key": ["id"] if key is None else key, "options": {"url": url, **options}}
