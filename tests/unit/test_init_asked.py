"""`ducklake init` with a real SFTP server, and its questions on a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ducklake.projects import writing
from lake.config import load_config
from tests.unit.rest_lab import serving
from tests.unit.sftp_server import PASSWORD, Faults, sftp_server
from tests.unit.test_init import ducklake

VARIABLE = "DUCKLAKE_FILES_DROP_PASSWORD"
SALES = "venta_id;importe;fecha\n1;10,5;2026-01-01\n2;7,0;2026-01-02\n"
COLOURS = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Server:
    """An SFTP server with three files, and the home folder of somebody who knows its key."""

    at: Mapping[str, Any]
    home: Path

    def address(self, folder: str = "/out") -> str:
        return f"sftp://{self.at['user']}@{self.at['host']}:{self.at['port']}{folder}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    out = home / "root" / "out"
    out.mkdir(parents=True)
    (out / "sales_2026-01.csv").write_bytes(SALES.encode("cp1252"))
    (out / "sales_2026-02.csv").write_bytes(SALES.replace("1;10,5", "4;ñandú").encode("cp1252"))
    (out / "stock.csv").write_text("sku,n\na,1\nb,2\n")
    with sftp_server(home / "root", Faults()) as at:
        (home / ".ssh").mkdir()
        (home / ".ssh" / "known_hosts").write_bytes(Path(at["known_hosts"]).read_bytes())
        yield Server(at, home)


def hear_interrupts() -> None:
    """Ctrl-C as on a terminal: whoever is started in the background inherits that it is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Terminal:
    """`ducklake` on a terminal of its own."""

    def __init__(self, folder: Path, home: Path, *words: str) -> None:
        ours, theirs = pty.openpty()
        environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
        self._program = subprocess.Popen(
            [sys.executable, "-m", "ducklake.cli", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env=environment | {"HOME": str(home), "COLUMNS": "200", "TERM": "xterm"},
            start_new_session=True,
            preexec_fn=hear_interrupts,
        )
        os.close(theirs)
        self._terminal = ours
        self.shown = ""

    def see(self, text: str, seconds: float = 60) -> None:
        """Wait until something is shown, and forget what was shown up to it."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.shown!r}"
            self._read(0.2)
        self.shown = self.shown.partition(text)[2]

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C, as the terminal sends it to what runs on it."""
        os.killpg(self._program.pid, signal.SIGINT)

    def end(self) -> int:
        """The exit code, once all is shown."""
        deadline = time.monotonic() + 60
        while self._read(1):
            assert time.monotonic() < deadline, f"it does not end: {self.shown!r}"
        return self._program.wait(20)

    def close(self) -> None:
        self._program.kill()
        self._program.wait()
        os.close(self._terminal)

    def _read(self, seconds: float) -> bool:
        """Take what is shown; whether more can come."""
        ready, _, _ = select.select([self._terminal], [], [], seconds)
        if not ready:
            return self._program.poll() is None
        with suppress(OSError):  # the other side is closed
            shown = os.read(self._terminal, 65_536)
            self.shown += COLOURS.sub(b"", shown).decode()
            return bool(shown)
        return False


@pytest.fixture
def terminal(server: Server, tmp_path: Path) -> Iterator[Terminal]:
    """`ducklake init` on the server and an API, which asks for everything."""
    with serving() as api:
        api.say("/v1/rates", [{"id": 1, "rate": 2}, {"id": 2, "rate": 3}])
        words = ("--sftp", server.address(), "--api", f"{api.url}/v1/rates")
        made = Terminal(tmp_path, server.home, "init", *words, "lake")
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def at_home(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, and the password in the environment of somebody who knows its key."""
    monkeypatch.setenv("HOME", str(server.home))
    monkeypatch.setenv(VARIABLE, PASSWORD)
    return server


def tables(folder: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(VARIABLE, "from the environment")
        found = load_config(folder / "ducklake.yml").settings.sources["sftp"].tables
    return {name: (table.file, table.key, table.options) for name, table in found.items()}


def test_files_on_a_server_become_a_valid_project(at_home: Server, tmp_path: Path) -> None:
    ducklake(tmp_path, "init", "--sftp", at_home.address(), "--yes")
    assert tables(tmp_path) == {
        "sales": ("sales_*-*.csv", [], {"encoding": "cp1252", "delimiter": ";"}),
        "stock": ("stock.csv", ["sku"], {}),
    }
    said = ducklake(tmp_path, "config", "check")
    assert "is valid: 1 sources, 2 tables" in said
    assert not [
        path for path in tmp_path.rglob("*") if path.is_file() and PASSWORD in path.read_text()
    ]
    assert f"\n{VARIABLE}=\n" in (tmp_path / ".env.example").read_text()


def test_a_file_that_comes_later_is_added(at_home: Server, tmp_path: Path) -> None:
    words = ("init", "--sftp", at_home.address(), "--tables", "stock")
    ducklake(tmp_path, *words)
    assert set(tables(tmp_path)) == {"stock"}
    ducklake(tmp_path, "init", "--add", "sftp.sales")
    assert set(tables(tmp_path)) == {"stock", "sales"}


def test_what_a_server_refuses_is_named_and_the_remedy_works(
    at_home: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("init", "--sftp", at_home.address(), "--yes")
    monkeypatch.setenv(VARIABLE, "wrong")
    said = ducklake(tmp_path, *words, code=1)
    assert f"refuses the user 'u'. Check the user in --sftp, and the password in {VARIABLE}" in said
    monkeypatch.setenv(VARIABLE, PASSWORD)
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    monkeypatch.setenv("HOME", str(stranger))
    said = ducklake(tmp_path, *words, code=1)
    assert "its key is not in" in said
    [line] = re.findall(r"Add it: (.+? >> \S+)", said)
    subprocess.run(["sh", "-c", line], check=True)
    ducklake(tmp_path, *words, "stranger/lake")
    assert set(tables(stranger / "lake")) == {"sales", "stock"}
    said = ducklake(tmp_path, "init", "--sftp", at_home.address("/x"), "--yes", code=1)
    assert "/x" in said
    assert [path.name for path in tmp_path.iterdir()] == ["stranger"]


def test_a_terminal_is_asked_and_a_wrong_answer_is_asked_again(
    terminal: Terminal, tmp_path: Path
) -> None:
    terminal.see(f"Password ({VARIABLE}): ")  # only now nothing typed is shown
    terminal.type(f"{PASSWORD}\n")
    terminal.see("sftp.stock")
    terminal.see("Which tables? (names or patterns; empty: all):")
    terminal.type("salez, stock\n")
    terminal.see("There is no table 'salez'. There are: sales, stock, rates.")
    terminal.see("Which tables?")
    terminal.type("s*s r*\n")
    terminal.see("Also keep a history of each row? [y/N]:")
    terminal.type("perhaps\n")
    terminal.see("Also keep a history of each row? [y/N]:")
    terminal.type("y\n")
    terminal.see("README.md has the next commands")
    assert terminal.end() == 0
    assert PASSWORD not in terminal.shown
    assert set(tables(tmp_path / "lake")) == {"sales"}
    assert (tmp_path / "lake/dbt/models/history/rates_history.sql").is_file()


def test_who_takes_files_alone_is_asked_of_no_history(terminal: Terminal, tmp_path: Path) -> None:
    terminal.see("): ")
    terminal.type(f"{PASSWORD}\n")
    terminal.see("Which tables?")
    terminal.type("stock\n")
    assert terminal.end() == 0
    assert set(tables(tmp_path / "lake")) == {"stock"}
    assert "history" not in terminal.shown


def test_ctrl_c_at_a_question_leaves_nothing(terminal: Terminal, tmp_path: Path) -> None:
    terminal.see("): ")
    terminal.type(f"{PASSWORD}\n")
    terminal.see("Which tables?")
    terminal.interrupt()
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_files_are_written_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> Iterator[tuple[str, str]]:
        yield "ducklake.yml", "a"
        yield "dbt/models/x.sql", "b"
        raise KeyboardInterrupt

    class Files(dict[str, str]):
        def items(self) -> Any:
            return interrupted()

    (tmp_path / "mine").write_text("c")
    with pytest.raises(KeyboardInterrupt):
        writing.write_new(tmp_path / "lake", Files({"ducklake.yml": "a"}))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
