"""`ducklake preview`, the history of files, and files that are read again on request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ducklake.cli.app import app
from lake.errors import SourceError
from producers.files.connector import FileConnector
from producers.files.history import file_history
from producers.files.requests import request_again
from tests.unit.files_lab import FilesLab, files_lab


def run(*words: str) -> str:
    ended = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


def previewed(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("preview", str(path), "--json"))
    return found


def test_a_preview_finds_encoding_and_dialect_and_its_yaml_reads_the_file(tmp_path: Path) -> None:
    text = "id;nombre;código postal;precio;día\n" + "".join(
        f'{n};"Muñoz; Año {n}";0{n:04};{n}.50;2026-01-{n % 28 + 1:02}\n' for n in range(1, 60)
    )
    path = tmp_path / "Ventas 2026.csv"
    path.write_bytes(text.encode("latin-1"))
    found = previewed(path)
    assert found["options"]["delimiter"] == ";"
    assert found["columns"] == {
        "id": "BIGINT",
        "nombre": "VARCHAR",
        "código postal": "VARCHAR",
        "precio": "DECIMAL(18,2)",
        "día": "DATE",
    }
    assert found["looked_at"] == 59 and not found["rejects"]
    [(table, entry)] = yaml.safe_load(found["yaml"]).items()
    lab = files_lab(tmp_path, {table: entry})
    lab.drop(path.name, path.read_bytes())
    lab.drain()
    assert [row["nombre"] for row in lab.rows(table)][:2] == ["Muñoz; Año 1", "Muñoz; Año 2"]


def test_a_preview_names_rejects_and_shows_no_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'[{"a": 1, "b": {"c": [1]}}, 7, {"a": "\\u001b[2J"}]')
    found = previewed(path)
    assert found["rejects"] == [[2, "it is not a JSON object"]]
    assert found["columns"] == {"a": "VARCHAR", "b": "JSON"}
    shown = run("preview", str(path))
    assert "row 2: it is not a JSON object" in shown and "\x1b[2J" not in shown


def test_a_file_that_cannot_be_read_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    path.write_bytes(b"<html>")
    with pytest.raises(SourceError, match="not a workbook, but HTML"):
        run("preview", str(path))
    path = tmp_path / "a.fwf"
    path.write_bytes(b"x")
    with pytest.raises(SourceError, match="widths"):
        run("preview", str(path))


FIXED = {
    "header": (
        "id  name          price\n 1  Juan Pérez     1.50\n12  Ana           12.25\n",
        {"widths": [4, 14, 5]},
        {"id": "BIGINT", "name": "VARCHAR", "price": "DECIMAL(18,2)"},
    ),
    "no header, with a margin": (
        "  1 AB 2026-01-02\n 22 C  2026-01-03\n",
        {"widths": [4, 3, 10], "names": ["column_1", "column_2", "column_3"]},
        {"column_1": "BIGINT", "column_2": "VARCHAR", "column_3": "DATE"},
    ),
}


@pytest.mark.parametrize("name", FIXED)
def test_widths_are_proposed_where_blanks_stand_in_every_line(tmp_path: Path, name: str) -> None:
    text, options, columns = FIXED[name]
    path = tmp_path / "a.fwf"
    path.write_bytes(text.encode("cp1252"))
    found = previewed(path)
    said = {name: value for name, value in found["options"].items() if name != "encoding"}
    assert (said, found["columns"]) == (options, columns) and not found["rejects"]
    assert "widths" in found["yaml"]


def test_a_table_is_previewed_as_it_is_configured(tmp_path: Path) -> None:
    lab = files_lab(tmp_path, {"t": {"file": "*.csv", "options": {"delimiter": "|"}}})
    lab.drop("a.csv", b"id|n\n1|a\n", at=1)
    lab.drop("b.csv", b"id|n\n2|b\n", at=2)
    found = json.loads(run("preview", "drops.t", "--json", "--config", str(lab.config.path)))
    assert found["file"] == "b.csv" and found["rows"] == [{"id": "2", "n": "b"}]


def history(lab: FilesLab) -> dict[str, tuple[str, int, int]]:
    assert isinstance(lab.source, FileConnector)
    found = file_history(lab.source, "t", lab.cursors)
    return {entry.file: (entry.state, entry.rows, entry.rejects) for entry in found}


def test_the_history_tells_what_became_of_each_file(tmp_path: Path) -> None:
    lab = files_lab(tmp_path, {"t": {"file": "*.csv"}})
    lab.drop("read.csv", b"id\n1\n2,3\n", at=1)
    lab.drop("bad.csv", b"\n", at=2)
    gone = lab.drop("gone.csv", b"id\n1\n", at=3)
    lab.drop("changed.csv", b"id\n1\n", at=4)
    lab.drain()
    gone.unlink()
    lab.drop("changed.csv", b"id\n1\n2\n", at=5)
    lab.drop("new.csv", b"id\n1\n", at=6)
    (lab.folder / "loop.csv").symlink_to("loop.csv")
    assert history(lab) == {
        "read.csv": ("read", 1, 1),
        "bad.csv": ("rejected", 0, 1),
        "gone.csv": ("gone", 1, 0),
        "changed.csv": ("changed", 1, 0),
        "new.csv": ("waiting", 0, 0),
        "loop.csv": ("refused", 0, 0),
    }
    entry = file_history(lab.source, "t", lab.cursors)[-1]  # type: ignore[arg-type]
    assert entry.read_at >= entry.seen_at > "2026" and len(entry.sha256) == 64


@pytest.mark.parametrize("mode", ["snapshot", "append"])
def test_a_backfill_reads_every_file_again_once(tmp_path: Path, mode: str) -> None:
    lab = files_lab(tmp_path, {"t": {"file": "*.csv", "options": {"mode": mode}}})
    lab.drop("a.csv", b"id\n1\n", at=1)
    lab.drop("b.csv", b"id\n2\n", at=2)
    lab.drain()
    said = json.loads(run("backfill", "drops.t", "--json", "--config", str(lab.config.path)))
    assert said["table"] == "drops.t"
    lab.drain()
    lab.drain()
    assert [row["id"] for row in lab.rows()] == ["1", "2", "1", "2"]
    assert lab.records[2].provenance["source_ts"] > lab.records[0].provenance["source_ts"]
    other = lab.again({"t": {"file": "*.csv", "options": {"mode": mode}}})
    other.drain()
    assert not other.records, "a new process does not read them a third time"


def test_a_request_does_not_touch_other_tables(tmp_path: Path) -> None:
    lab = files_lab(tmp_path, {"t": {"file": "t.csv"}, "u": {"file": "u.csv"}})
    lab.drop("t.csv", b"id\n1\n")
    lab.drop("u.csv", b"id\n2\n")
    lab.drain()
    request_again(lab.config, "drops", "t")
    lab.drain()
    assert len(lab.rows("t")) == 2 and len(lab.rows("u")) == 1
