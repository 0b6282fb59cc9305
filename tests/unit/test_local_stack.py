"""The small parts of the embedded stack."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import StackError
from lake.kafka.java_client import java_client
from lake.processes import lock
from lake.processes.child import CappedLog, LogLimits, end_process
from lake.storage.operations import write_atomically
from stack import tools
from stack.java import escape
from stack.libraries import missing_libraries
from stack.ports import LOOPBACK, PortBook
from stack.progress import PlainLines
from stack.secrets import Secrets
from stack.service import reason


def test_passwords_are_made_once_and_are_private(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = Secrets(path).get("mysql")
    assert Secrets(path).get("mysql") == first
    assert Secrets(path).get("sftp") != first
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\f\t\0")))
def test_a_property_reads_back_as_java_does(value: str) -> None:
    line = escape(value)
    assert "\n" not in line and line.isascii() and not line.startswith(" ")
    units = re.sub(
        r"\\(u([0-9a-f]{4})|.)",
        lambda m: chr(int(m[2], 16)) if m[2] else {"n": "\n"}.get(m[1], m[1]),
        line,
    )
    assert units.encode("utf-16-le", "surrogatepass").decode("utf-16-le") == value


def test_a_taken_port_is_replaced_and_remembered(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        wished = taken.getsockname()[1]
        chosen = PortBook(tmp_path / "a", tmp_path / "locks").choose({"mysql": wished})
        assert chosen["mysql"] != wished
    again = PortBook(tmp_path / "a", tmp_path / "other locks").choose({"mysql": wished})
    assert again == chosen


def test_two_stacks_that_start_at_once_take_different_ports(tmp_path: Path) -> None:
    first = PortBook(tmp_path / "a", tmp_path / "locks")
    second = PortBook(tmp_path / "b", tmp_path / "locks")
    wished = {"kafka": 21900, "mysql": 21900}
    taken = [*first.choose(wished).values(), *second.choose(wished).values()]
    assert len(set(taken)) == 4


def test_the_lock_tells_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert lock.holder(path) is None
    code = (
        "import sys, pathlib; from lake.processes import lock\n"
        "assert lock.take(pathlib.Path(sys.argv[1])) is not None\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert lock.holder(path) == other.pid
        assert lock.take(path) is None
        other.kill()
        other.wait()
    assert lock.holder(path) is None


def test_logs_are_capped(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "x.log", LogLimits(1000))
    for number in range(100):
        log.write(b"%090d\n" % number)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"x.log", "x.log.1", "x.log.2", "x.log.3"}
    assert max(sizes.values()) <= 1000
    log.close()
    assert (tmp_path / "x.log").read_bytes().endswith(b"99\n")


def test_a_child_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib, time; from lake.processes.child import CappedLog, Child\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "child = Child(['sleep', '60'], os.environ, folder, CappedLog(folder / 'log'))\n"
        "print(child.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        deadline = time.monotonic() + 10
        while child.name() != "sleep" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert child.name() == "sleep"
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 5
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _runs(child)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_only_the_very_process_is_ended() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        started = psutil.Process(process.pid).create_time()
        assert end_process(process.pid, started - 100, 1)  # somebody else had this id
        assert process.poll() is None
        assert end_process(process.pid, started, 5)
        assert process.wait() == -signal.SIGKILL


def test_another_platform_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(StackError, match="Linux x86-64, and this is Darwin"):
        tools.check_platform()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_EXTRAS", ("psutil", "no_such_package"))
    with pytest.raises(StackError, match=r"needs the Python packages no_such_package.*\[stack\]"):
        tools.check_platform()


def test_a_nearly_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**12, 10**12, 10**8))
    with pytest.raises(StackError, match=r"Only 0\.1 GB are free"):
        tools.check_room(tmp_path / "not" / "there" / "yet")


def test_missing_libraries_are_those_the_loader_does_not_find(tmp_path: Path) -> None:
    assert missing_libraries(Path(sys.executable), tmp_path) == ()
    with pytest.raises(StackError, match="cannot run on this system"):
        missing_libraries(Path(__file__), tmp_path)


def test_a_known_cause_is_read_from_a_log(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert reason(log) == ""
    log.write_text("java.net.BindException: Address already in use\n")
    assert "port was taken" in reason(log)


def test_security_settings_are_those_of_java_clients() -> None:
    settings = java_client(
        {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "u",
            "sasl.password": 'p"w',
        }
    )
    assert settings["security.protocol"] == "SASL_SSL"
    assert settings["sasl.jaas.config"].endswith('username="u" password="p\\"w";')
    assert "ScramLoginModule" in settings["sasl.jaas.config"]


def test_plain_progress_says_each_change_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = PlainLines()
    for done in range(0, 101):
        lines.downloading(done * 10**6, 100 * 10**6)
    for state in ("starting", "starting", "healthy"):
        lines.services({"mysql": state})
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-3:] == [
        "download: 100 of 100 MB",
        "mysql: starting",
        "mysql: healthy",
    ]
    assert len(said.err.splitlines()) == 13


def test_no_password_file_is_ever_readable_by_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_atomically(tmp_path / "x", "secret")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600
