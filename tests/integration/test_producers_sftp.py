from __future__ import annotations

import os
import shutil
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from lake.config import Config
from lake.errors import DuckLakeError, ServiceUnreachable, SourceError
from producers.sftp.folder import SftpFolder
from tests.integration.producers_lab import (
    Lab,
    drain,
    file_server,
    make_lab,
    poll,
    unique,
    wait_until,
)

pytestmark = pytest.mark.stack
TABLES: dict[str, Any] = {
    # Every change here has a time of its own, so a file need not hold still for whole seconds.
    "stock": {
        "file": "stock.csv",
        "key": ["sku"],
        "options": {"delimiter": ";", "quiet_seconds": 0.3},
    },
    "parts": {"file": "parts.json", "key": ["id"], "options": {"quiet_seconds": 0.3}},
}


@pytest.fixture
def folder(stack_config: Config) -> Iterator[Path]:
    """A folder on the real server, under a name of its own."""
    made = stack_config.stack_dir / "sftp" / "root" / unique("drop")
    made.mkdir()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def lab(tmp_path: Path, stack_config: Config, folder: Path) -> Lab:
    return make_lab(tmp_path, stack_config, spec(folder))


def spec(folder: Path, tables: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "sftp", "directory": f"/{folder.name}", "tables": tables or TABLES}


def drop(path: Path, content: bytes, age: int) -> None:
    path.write_bytes(content)
    os.utime(path, (1_790_000_000 - age, 1_790_000_000 - age))


def test_a_file_is_read_once_for_each_content(lab: Lab, folder: Path) -> None:
    source, writer = lab.connector(), lab.writer()
    drop(folder / "stock.csv", b"\xef\xbb\xbfsku;cost\nA;1,50\nB;\n", age=100)
    assert drain(source, writer) == 2
    os.utime(folder / "stock.csv", (1_790_000_001, 1_790_000_001))  # touched, not changed
    assert drain(source, writer) == 0
    assert len(lab.cursors()["stock:stock.csv"]) == 2
    drop(folder / "stock.csv", b"sku;cost\nA;1,50\nC;3\nD;4\n", age=50)
    assert drain(source, writer) == 3
    # another process knows it too
    assert drain(lab.connector(), lab.writer()) == 0
    rows = lab.rows("stock")
    assert Counter(seen.row["sku"] for seen in rows) == {"A": 2, "B": 1, "C": 1, "D": 1}
    assert {(s.about["file"], s.about["file_rows"]) for s in rows} == {
        ("stock.csv", 2),
        ("stock.csv", 3),
    }
    assert len({seen.about["file_sha256"] for seen in rows}) == 2
    assert source.count() == {"stock": 3, "parts": 0}


def test_a_growing_file_is_not_read_until_it_holds_still(lab: Lab, folder: Path) -> None:
    source, writer = lab.connector(), lab.writer()
    content = b"sku;cost\n"
    for step in range(4):
        content += b"%d;1\n" % step
        drop(folder / "stock.csv", content, age=100)
        assert poll(source, writer) == 0
        assert not source.settled()
    assert drain(source, writer) == 4
    assert [seen.about["file_rows"] for seen in lab.rows("stock")] == [4] * 4


def test_a_file_that_changes_while_it_is_fetched_is_not_read(
    lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "stock.csv"
    drop(path, b"sku;cost\nA;1\n", age=100)
    source, writer = lab.connector(), lab.writer()
    look, looks = SftpFolder.state, 0

    def meddle(folder: SftpFolder, file: str) -> Any:
        nonlocal looks
        looks += file == "stock.csv"
        if looks == 3:  # two looks to see it still, the third after the download
            drop(path, b"sku;cost\nA;1\nB;2\n", age=90)
        return look(folder, file)

    monkeypatch.setattr(SftpFolder, "state", meddle)
    assert poll(source, writer) == 0
    wait_until(lambda: poll(source, writer) > 0 or looks >= 3, "it holds still")
    assert not lab.rows("stock")
    assert not source.settled()
    assert drain(source, writer) == 2


def test_a_missing_file_stops_no_other(lab: Lab, folder: Path) -> None:
    source, writer = lab.connector(), lab.writer()
    drop(folder / "parts.json", b'[{"id": 1}, {"id": 2}]', age=100)
    (folder / "stock.csv").mkdir()
    assert drain(source, writer) == 2
    (folder / "stock.csv").rmdir()
    assert drain(source, writer) == 0
    drop(folder / "stock.csv", b"sku;cost\nA;1\n", age=100)
    assert drain(source, writer) == 1


def test_an_unparsable_file_is_one_reject_until_it_changes(lab: Lab, folder: Path) -> None:
    source, writer = lab.connector(), lab.writer()
    half = b'[{"id": 1}, {"id": 2'
    drop(folder / "parts.json", half, age=100)
    drop(folder / "stock.csv", b'sku;cost\nA;1\nB;2;3\nC;"x"y\nD;4\n', age=100)
    assert drain(source, writer) == 2
    assert drain(source, writer) == 0
    rejects = {(r.about["source_table"], r.value, r.about["reason"]) for r in lab.rejects()}
    assert rejects == {
        (
            f"{lab.source}.parts",
            half,
            "file parts.json: it is not JSON: it ends in the middle (line 1)",
        ),
        (
            f"{lab.source}.stock",
            b"B;2;3",
            "file stock.csv, row 2 (line 3): it has 3 fields, the header has 2",
        ),
        (
            f"{lab.source}.stock",
            b'C;"x"y',
            "file stock.csv, row 3 (line 4): ';' expected after '\"'",
        ),
    }
    assert [(s.about["file_row"], s.about["file_rows"]) for s in lab.rows("stock")] == [
        (s.about["file_row"], 2) for s in lab.rows("stock")
    ]
    assert source.count() == {"stock": 2, "parts": 0}
    drop(folder / "parts.json", b'[{"id": 1}, {"id": 2}]', age=50)
    assert drain(source, writer) == 2
    assert len(lab.rejects()) == 3


def test_a_large_file_goes_on_at_the_row_where_it_was_killed(
    tmp_path: Path, stack_config: Config, folder: Path
) -> None:
    lab = make_lab(tmp_path, stack_config, spec(folder))
    lines = b"".join(b"%d;%d\n" % (n, n) for n in range(50_000))
    drop(folder / "stock.csv", b"sku;cost\n" + lines, age=100)
    ended = lab.produce_once("producer.after_commit:2")
    assert ended.returncode == -9, ended.stderr
    states = lab.cursors()["stock:stock.csv"]
    assert [(state["done"], state["complete"]) for state in states] == [
        (20_000, False),
        (40_000, False),
    ]
    ended = lab.produce_once()
    assert ended.returncode == 0, ended.stderr
    assert [state["done"] for state in lab.cursors()["stock:stock.csv"]] == [20_000, 40_000, 50_000]
    rows = lab.rows("stock")
    assert sorted(seen.about["file_row"] for seen in rows) == list(range(1, 50_001))
    assert all(int(seen.row["sku"]) == seen.about["file_row"] - 1 for seen in rows)


def refused(folder: Path, stack: Config, servers: dict[str, Any]) -> DuckLakeError:
    drops = Path("/nowhere")
    lab = make_lab(folder, stack, spec(drops), servers)
    with pytest.raises(DuckLakeError) as error:
        list(lab.connector().poll({}))
    assert "hunter2" not in str(error.value)
    assert file_server(stack).plain_password not in str(error.value)
    assert error.value.remedy
    assert error.value.__cause__ is None
    return error.value


def test_every_refusal_of_the_server_has_a_name_and_a_remedy(
    tmp_path: Path, stack_config: Config
) -> None:
    at = file_server(stack_config)
    hosts = tmp_path / "known_hosts"
    service: dict[str, Any] = {"sftp": {"known_hosts": str(hosts)}}

    unknown = refused(tmp_path, stack_config, service)
    assert isinstance(unknown, SourceError)
    assert f"its key is not in {hosts}" in unknown.what
    assert f"ssh-keyscan -p {at.port} {at.host} >> {hosts}" in unknown.remedy

    assert at.known_hosts is not None
    kind = at.known_hosts.read_text().split()[1]
    other = asyncssh.generate_private_key(kind).export_public_key().decode().split()
    hosts.write_text(f"[{at.host}]:{at.port} {other[0]} {other[1]}\n")
    wrong = refused(tmp_path, stack_config, service)
    assert isinstance(wrong, SourceError)
    assert f"is not the one in {hosts}" in wrong.what

    password = refused(tmp_path, stack_config, {"sftp": {"password": "hunter2"}})
    assert isinstance(password, SourceError)
    assert "refuses the user" in password.what

    key = refused(tmp_path, stack_config, {"sftp": {"private_key": str(tmp_path / "none")}})
    assert isinstance(key, SourceError)
    assert "private_key" in key.remedy

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        down = refused(tmp_path, stack_config, {"sftp": {"port": taken.getsockname()[1]}})
    assert isinstance(down, ServiceUnreachable)
