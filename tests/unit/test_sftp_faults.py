"""What a server refuses of one file costs that file alone, on a real SFTP server that fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import structlog

from lake.errors import ServiceUnreachable, SourceError
from producers.files import spool
from producers.files.troubles import AGAIN_SECONDS
from tests.unit.files_lab import FilesLab, files_lab
from tests.unit.sftp_server import Faults, sftp_server


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def lab(tmp_path: Path, faults: Faults) -> Iterator[FilesLab]:
    with sftp_server(tmp_path / "drops", faults) as connection:
        yield lab_of(tmp_path, connection)


def lab_of(tmp_path: Path, connection: dict[str, Any], file: str = "*.csv") -> FilesLab:
    source = {"type": "sftp", "connection": connection, "directory": "/"}
    return files_lab(tmp_path, {"t": {"file": file}, "z": {"file": "z.json"}}, source)


def told(lab: FilesLab) -> dict[str, str]:
    return {trouble.name.rpartition("/")[2]: trouble.reason for trouble in lab.source.troubles()}


def failing(error: Exception) -> Any:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (asyncssh.SFTPFailure("file is locked"), "the server refuses to read it (file is locked)"),
        (OSError(5, "Input/output error"), "the server refuses to read it (Input/output error)"),
        (asyncssh.SFTPPermissionDenied("no"), "the user may not read it"),
        (asyncssh.SFTPNoSuchFile("gone"), ""),
        (asyncssh.SFTPFailure("\x1b[2Jclear"), "the server refuses to read it (\\x1b[2Jclear)"),
    ],
)
@pytest.mark.parametrize("when", ["opening", "reading"])
def test_a_file_that_the_server_refuses_stops_no_other(
    lab: FilesLab, faults: Faults, error: Exception, said: str, when: str
) -> None:
    lab.drop("a.csv", b"id\n1\n", at=1)
    lab.drop("b.csv", b"id\n2\n", at=2)
    lab.drop("z.json", b'[{"id": 3}]')
    getattr(faults, when)[b"a.csv"] = failing(error)
    lab.drain()
    assert [row["id"] for row in lab.rows() + lab.rows("z")] == ["2", 3]
    assert told(lab) == ({"a.csv": f"{said}."} if said else {})
    getattr(faults, when).clear()
    lab.drain()
    assert [row["id"] for row in lab.rows()] == ["2", "1"]
    assert told(lab) == {}


def test_a_loop_of_links_stops_no_other(lab: FilesLab) -> None:
    (lab.folder / "a.csv").symlink_to("a.csv")
    (lab.folder / "folder.csv").symlink_to(".")
    lab.drop("b.csv", b"id\n2\n")
    lab.drain()
    assert [row["id"] for row in lab.rows()] == ["2"]
    assert list(told(lab)) == ["a.csv"]


def test_a_file_that_vanishes_while_it_is_read_stops_no_other(
    lab: FilesLab, faults: Faults
) -> None:
    path = lab.drop("a.csv", b"id\n" + b"1\n" * 50_000, at=1)
    lab.drop("b.csv", b"id\n2\n", at=2)
    faults.reading[b"a.csv"] = lambda: path.unlink(missing_ok=True)
    lab.drain()
    assert [row["id"] for row in lab.rows()] == ["2"]


def test_a_file_that_the_spool_has_no_room_for_is_refused_before_it_is_fetched(
    lab: FilesLab, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lab.folder / "a.csv"
    with path.open("wb") as file:
        file.truncate(1 << 43)  # a file with a hole: it takes no room here
    lab.drop("b.csv", b"id\n2\n")
    opened: list[str] = []
    faults.opening[b"a.csv"] = lambda: opened.append("a.csv")
    lab.drain()
    assert [row["id"] for row in lab.rows()] == ["2"]
    assert "MB free" in told(lab)["a.csv"] and not opened
    assert "TMPDIR" in lab.source.troubles()[0].remedy
    assert spool.SPARE_BYTES > 0


def test_names_that_are_no_utf_8_are_listed_and_read(lab: FilesLab) -> None:
    path = os.fsencode(lab.folder) + b"/caf\xe9.csv"
    with open(path, "wb") as file:  # noqa: PTH123 - a name that is no text
        file.write(b"id\n1\n")
    os.utime(path, (5, 5))
    lab.drop("b.csv", b"id\n2\n")
    lab.drain()
    assert sorted(row["id"] for row in lab.rows()) == ["1", "2"]
    assert lab.records[0].provenance["file"] == "caf\\xe9.csv"


HOSTILE = [
    b"../z.json",
    b"../../etc/passwd.csv",
    b"/etc/passwd.csv",
    b"in/../../b.csv",
    b"nul\0.csv",
    b"..",
    b"",
    b"line\nbreak.csv",
    b"\x1b[2J\x1b]0;title\x07.csv",
    b"\xff\xfe.csv",
    "\u202egpj.csv".encode(),
    "e\u0301\u200b.csv".encode(),
    b"x" * 5000 + b".csv",
]


@pytest.mark.parametrize("pattern", ["*.csv", "**/*.csv", "*"])
def test_names_that_a_hostile_server_lists_lead_nowhere(
    tmp_path: Path, faults: Faults, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with sftp_server(tmp_path / "drops", faults) as connection:
        source = {"type": "sftp", "connection": connection, "directory": "/"}
        tables = {"t": {"file": pattern, "options": {"format": "csv"}}}
        lab = files_lab(tmp_path, tables, source)
        lab.drop("b.csv", b"id\n2\n")
        faults.listed = HOSTILE
        lab.drain()
        assert [row["id"] for row in lab.rows()] == ["2"]
        paths = faults.asked
        assert b"/b.csv" in paths
        assert not any(b".." in path.split(b"/") or b"\0" in path for path in paths)
        assert not any(b"/etc" in path or path.count(b"/") > 1 for path in paths)
        told = [f"{t.name} {t.reason}" for t in lab.source.troubles()]
        assert all(text.isprintable() for text in told)
        assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_a_file_that_stays_refused_is_named_once_and_again_while_it_lasts(
    lab: FilesLab, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1_800_000_000.0]
    monkeypatch.setattr("producers.files.troubles.time.time", lambda: clock[0])
    lab.drop("a.csv", b"id\n1\n", at=1)
    lab.drop("b.csv", b"id\n2\n", at=2)
    faults.opening[b"a.csv"] = failing(asyncssh.SFTPPermissionDenied("no"))

    def said(polls: int) -> int:
        with structlog.testing.capture_logs() as logs:
            for _ in range(polls):
                lab.drain()
        return sum(e["event"] == "file_not_read" and "a.csv" in e["file"] for e in logs)

    assert said(5) == 1
    clock[0] += AGAIN_SECONDS - 1
    assert said(3) == 0
    clock[0] += 1
    assert said(3) == 1
    faults.opening.clear()
    assert said(1) == 0 and told(lab) == {}
    faults.opening[b"a.csv"] = failing(asyncssh.SFTPPermissionDenied("no"))
    lab.drop("a.csv", b"id\n9\n", at=5)
    assert said(2) == 1, "refused anew is said anew"


def test_a_connection_that_is_lost_while_logging_in_is_no_refused_password(
    tmp_path: Path, faults: Faults
) -> None:
    with sftp_server(tmp_path / "drops", faults) as connection:
        lab = lab_of(tmp_path, connection)
        faults.login = lambda at: at.abort()
        with pytest.raises(ServiceUnreachable, match="lost while logging in"):
            lab.poll()
        faults.login = lambda at: None
        wrong = lab_of(tmp_path, {**connection, "password": "wrong"})
        with pytest.raises(SourceError, match="refuses the user"):
            wrong.poll()


def test_a_connection_that_breaks_at_one_file_does_not_keep_the_others_waiting(
    tmp_path: Path, faults: Faults
) -> None:
    with sftp_server(tmp_path / "drops", faults) as connection:
        lab = lab_of(tmp_path, connection)
        lab.drop("a.csv", b"id\n1\n", at=1)
        lab.drop("b.csv", b"id\n2\n", at=2)
        connections: list[Any] = []
        faults.login = connections.append
        faults.reading[b"a.csv"] = lambda: connections[-1].abort()
        broke = 0
        for _ in range(100):
            try:
                lab.poll()
            except ServiceUnreachable:
                broke += 1
            if lab.records:
                break
        assert broke and [row["id"] for row in lab.rows()] == ["2"]
        faults.reading.clear()
        lab.drain()
        assert [row["id"] for row in lab.rows()] == ["2", "1"]


def test_a_server_sees_moves_and_deletions_only_after_reading(
    tmp_path: Path, faults: Faults
) -> None:
    with sftp_server(tmp_path / "drops", faults) as connection:
        source = {"type": "sftp", "connection": connection, "directory": "/"}
        options = {"after_reading": "move", "move_to": "done"}
        lab = files_lab(tmp_path, {"t": {"file": "in/*.csv", "options": options}}, source)
        lab.drop("in/a.csv", b"id\n1\n")
        lab.drain()
        lab.drop("in/a.csv", b"id\n2\n", at=7)
        lab.drain()
        assert [row["id"] for row in lab.rows()] == ["1", "2"]
        assert sorted(p.name for p in (lab.folder / "in" / "done").iterdir()) == [
            "a.csv",
            "a.csv.2",
        ]
