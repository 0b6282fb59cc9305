"""A source of files: which are read, when, how often, and what becomes of them then."""

from __future__ import annotations

import gzip
import io
import os
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ducklake.cli.app import app
from lake.errors import ConfigError
from producers.files.checks import changed_options
from producers.files.column_checks import column_problems
from producers.files.connector import FileConnector
from producers.files.last_line import end_of_last_line
from producers.formats import FORMATS
from tests.unit.files_lab import FilesLab, files_config, files_lab
from tests.unit.test_odd_files import workbook

TABLE: dict[str, Any] = {"t": {"file": "t.csv", "key": ["id"]}}


def lab_of(tmp_path: Path, file: str = "t.csv", **options: Any) -> FilesLab:
    return files_lab(tmp_path, {"t": {"file": file, "key": ["id"], "options": options}})


# Many files --------------------------------------------------------------------------------------


def test_many_files_make_one_table_in_the_order_of_their_days(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, "sales_2026-*.csv")
    lab.drop("sales_2026-02.csv", b"id\n2\n", at=2000)
    lab.drop("sales_2026-01.csv", b"id\n1\n", at=1000)
    lab.drop("sales_2025-12.csv", b"id\n0\n")
    lab.drop(".sales_2026-03.csv", b"id\n3\n")
    lab.drain()
    assert [row["id"] for row in lab.rows()] == ["1", "2"]
    lab.drop("sales_2026-03.csv", b"id\n3\n", at=3000)
    lab.drain()
    assert [row["id"] for row in lab.rows()] == ["1", "2", "3"]
    assert {r.provenance["file"] for r in lab.records} == {
        f"sales_2026-0{n}.csv" for n in (1, 2, 3)
    }
    lab.drain()
    assert len(lab.records) == 3


def test_a_pattern_reaches_into_subfolders_and_follows_no_link_to_a_folder(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, "**/*.csv")
    lab.drop("a.csv", b"id\n1\n")
    lab.drop("x/y/b.csv", b"id\n2\n")
    (lab.folder / "x" / "loop").symlink_to(lab.folder)
    lab.drain()
    assert sorted(row["id"] for row in lab.rows()) == ["1", "2"]


def test_packed_files_are_read_as_what_they_hold(tmp_path: Path) -> None:
    tables = {
        "g": {"file": "*.csv.gz"},
        "z": {"file": "*.zip", "options": {"format": "csv", "members": "*.csv"}},
    }
    lab = files_lab(tmp_path, tables)
    lab.drop("a.csv.gz", gzip.compress(b"id\n1\n2\n"))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr("one.csv", "id\n3\n")
        package.writestr("readme.txt", "id\nno\n")
        package.writestr("two.csv", "id\n4\n5,6\n")
    lab.drop("b.zip", archive.getvalue())
    lab.drain()
    assert [row["id"] for row in lab.rows("g")] == ["1", "2"]
    assert [row["id"] for row in lab.rows("z")] == ["3", "4"]
    assert [r.provenance["file_row"] for r in lab.records if r.table == "z"] == [1, 2]
    assert {r.provenance["file_rows"] for r in lab.records} == {2}
    assert lab.reasons() == ["file b.zip, row 3 (line 3): it has 2 fields, the header has 1"]


def test_a_file_from_before_the_start_date_is_not_read(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, "*.csv", start_date="2026-01-01")
    lab.drop("c_old.csv", b"id\n1\n", at=1_700_000_000)
    lab.drop("new.csv", b"id\n2\n", at=1_780_000_000)
    lab.drain()
    assert [row["id"] for row in lab.rows()] == ["2"]


# When --------------------------------------------------------------------------------------------


def test_a_file_that_ends_in_mid_line_is_waited_for(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, quiet_seconds=0.3)
    lab.drop("t.csv", b"id,name\n1,Ana\n2,Be", at=time.time())
    began = time.monotonic()
    while time.monotonic() - began < 0.6:
        lab.poll()
        assert not lab.records, "half a line was read"
        time.sleep(0.02)
    lab.drop("t.csv", b"id,name\n1,Ana\n2,Bea\n", at=time.time())
    lab.drain()
    assert [row["name"] for row in lab.rows()] == ["Ana", "Bea"]
    assert {r.provenance["file_rows"] for r in lab.records} == {2}


def test_a_file_without_a_last_line_end_is_read_in_the_end(tmp_path: Path) -> None:
    lab = lab_of(tmp_path)
    lab.drop("t.csv", b"id,name\n1,Ana\n2,Be", at=time.time())
    lab.drain()
    assert [row["name"] for row in lab.rows()] == ["Ana", "Be"]


def test_half_json_is_waited_for_and_then_rejected(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, "t.json", quiet_seconds=0.2)
    lab.drop("t.json", b'[{"id": 1}, {"id": ', at=time.time())
    began = time.monotonic()
    lab.drain()
    assert time.monotonic() - began > 0.8
    assert lab.reasons() == ["file t.json: it is not JSON: it ends in the middle (line 1)"]


def test_a_file_with_a_done_marker_is_read_once_the_marker_is_there(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, done_marker="{name}.done")
    lab.drop("t.csv", b"id\n1\n")
    for _ in range(5):
        lab.poll()
        time.sleep(0.03)
    assert not lab.records and not lab.source.settled()
    lab.drop("t.csv.done", b"")
    lab.drain()
    assert [row["id"] for row in lab.rows()] == ["1"]


def test_a_change_in_the_folder_ends_the_wait_for_the_next_poll(tmp_path: Path) -> None:
    lab, stop, ended = lab_of(tmp_path), threading.Event(), threading.Event()

    def wait() -> None:
        lab.source.wait(stop, 3600)
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        deadline, number = time.monotonic() + 60, 0
        while not ended.wait(0.2):  # it may not be watching yet
            assert time.monotonic() < deadline, "nobody noticed the file"
            number += 1
            lab.drop("t.csv", b"id\n%d\n" % number)
    finally:
        stop.set()
        thread.join()


# What is new -------------------------------------------------------------------------------------


def test_another_content_of_the_same_size_and_time_is_seen_by_its_hash(tmp_path: Path) -> None:
    for changes, expected in (("time", ["1"]), ("hash", ["1", "2"])):
        folder = tmp_path / changes
        folder.mkdir()
        lab = lab_of(folder, changes=changes)
        lab.drop("t.csv", b"id\n1\n")
        lab.drain()
        lab.drop("t.csv", b"id\n2\n")
        lab.drain()
        assert [row["id"] for row in lab.rows()] == expected


def test_of_a_file_that_grows_only_the_new_rows_are_read(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, mode="append")
    lab.drop("t.csv", b"id,n\n1,a\n2,b\n3,c", at=1000)
    lab.drain()
    assert [row["id"] for row in lab.rows()] == ["1", "2"], "half a line is none yet"
    lab.drop("t.csv", b"id,n\n1,a\n2,b\n3,c\n4,d\n", at=2000)
    lab.drain()
    assert [row["id"] for row in lab.rows()] == ["1", "2", "3", "4"]
    assert [r.provenance["file_row"] for r in lab.records] == [1, 2, 3, 4]
    lab.drop("t.csv", b"id,n\n9,z\n", at=3000)  # another file under the same name
    lab.drain()
    assert [row["id"] for row in lab.rows()] == ["1", "2", "3", "4", "9"]


GROWING = [
    ("t.csv", "utf-8-sig", "id,n\n", "{},ñਊ\n"),
    ("t.csv", "utf-16", "id,n\n", "{},ñਊ\n"),
    ("t.csv", "utf-16-le", "id,n\r\n", "{},ñਊ\r\n"),
    ("t.csv", "utf-16-be", "id,n\n", "{},ñਊ\n"),
    ("t.csv", "utf-32", "id,n\n", "{},ñਊ\n"),
    ("t.csv", "cp037", "id,n\n", "{},%z\n"),
    ("t.csv", "latin-1", "id,n\r", "{},ñ\r"),
    ("t.ndjson", "utf-8", "", '{{"id": "{}", "n": "ñਊ"}}\n'),
    ("t.ndjson", "utf-16", "", '{{"id": "{}", "n": "ñਊ"}}\n'),
    ("t.ndjson", "utf-32-be", "", '{{"id": "{}", "n": "ñਊ"}}\r\n'),
]


@pytest.mark.parametrize(("name", "encoding", "head", "line"), GROWING)
def test_a_file_that_grows_is_cut_between_lines_in_every_encoding(
    name: str, encoding: str, head: str, line: str
) -> None:
    form = FORMATS["." + name.rpartition(".")[2]]
    options = form.options.model_validate({} if "json" in name else {"encoding": encoding})
    parts = [head, *map(line.format, range(3))]
    for mark in ("", "\ufeff") if encoding.endswith("e") else ("",):
        ends = [len((mark + "".join(parts[:n])).encode(encoding)) for n in range(5)]
        whole = (mark + "".join(parts)).encode(encoding)
        for size in range(ends[2], len(whole) + 1):
            content = io.BytesIO(whole[:size])
            found = end_of_last_line(content, size, options)
            lines = [end for end in ends if end <= size]
            # Of \r\n, the first character ends the line as well.
            unit = {"6": 2, "2": 4}.get(encoding.removesuffix("-le").removesuffix("-be")[-1], 1)
            assert found in (lines[-1], *(end - unit for end in ends)), (size, ends)
            whole[:found].decode(encoding)


def test_a_row_of_two_lines_is_waited_for_while_its_quote_is_open(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, mode="append", quiet_seconds=0.5)
    lab.drop("t.csv", b'id,n\n1,x\n2,"a\n', at=time.time())
    deadline = time.monotonic() + 0.8  # longer than a quiet file waits, shorter than this one
    while time.monotonic() < deadline:
        lab.poll()
        time.sleep(0.05)
    lab.drop("t.csv", b'id,n\n1,x\n2,"a\nb"\n3,y\n', at=time.time())
    lab.drain()
    assert [row["n"] for row in lab.rows()] == ["x", "a\nb", "y"] and not lab.rejects
    lab.drop("t.csv", b'id,n\n1,x\n2,"a\nb"\n3,y\n4,"open\n5,z\n', at=time.time())
    lab.drain(60)
    assert [row["id"] for row in lab.rows()][3:] == ["5"], "one that stays open costs its row"
    assert len(lab.rejects) == 1


def test_a_file_of_utf_16_that_grows_loses_no_character(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, mode="append", encoding="utf-16")
    text = "id,n\n1,ñ\n2,ਊ\n"
    lab.drop("t.csv", text.encode("utf-16")[:-1], at=1000)
    lab.drain()
    assert [row["id"] for row in lab.rows()] == ["1"]
    lab.drop("t.csv", text.encode("utf-16"), at=2000)
    lab.drain()
    assert [row["n"] for row in lab.rows()] == ["ñ", "ਊ"] and not lab.rejects


def test_a_file_is_read_again_when_an_option_of_its_reader_changes(tmp_path: Path) -> None:
    lab = files_lab(tmp_path, {"t": {"file": "t.csv"}})
    lab.drop("t.csv", b"id;n\n1;a\n")
    lab.drain()
    assert lab.rows() == [{"id;n": "1;a"}]
    fixed = lab.again({"t": {"file": "t.csv", "options": {"delimiter": ";"}}})
    [told] = changed_options(fixed.source.source, lab.cursors)
    assert "1 file is read again" in told.what and not told.is_error
    assert not list(changed_options(lab.source.source, lab.cursors))
    fixed.drain()
    assert fixed.rows() == [{"id": "1", "n": "a"}]
    first, second = (x.records[0].provenance for x in (lab, fixed))
    assert second["source_ts"] > first["source_ts"], "the later reading must be the newer version"
    fixed.drain()
    assert len(fixed.records) == 1
    other = fixed.again({"t": {"file": "t.csv", "options": {"delimiter": ";", "quiet_seconds": 0}}})
    other.drain()
    assert not other.records, "when a file is read does not change what it holds"


def test_cursors_of_earlier_releases_are_understood(tmp_path: Path) -> None:
    lab = lab_of(tmp_path)
    path = lab.drop("t.csv", b"id\n1\n")
    lab.cursors["t:t.csv"] = {
        "sha256": "x",
        "size": path.stat().st_size,
        "mtime": int(path.stat().st_mtime),
        "done": 1,
        "complete": True,
    }
    lab.drain()
    assert not lab.records


def test_a_snapshot_without_rows_says_so_in_one_record(tmp_path: Path) -> None:
    lab = lab_of(tmp_path)
    lab.drop("t.csv", b"id,n\n")
    lab.drain()
    [record] = lab.records
    assert record.payload() == b"{}"
    assert (record.provenance["file_row"], record.provenance["file_rows"]) == (0, 0)


# Afterwards --------------------------------------------------------------------------------------


def test_a_read_file_is_moved_or_deleted_and_a_rejected_one_stays(tmp_path: Path) -> None:
    tables = {
        "m": {"file": "m*.csv", "options": {"after_reading": "move", "move_to": "done"}},
        "d": {"file": "d*.csv", "options": {"after_reading": "delete"}},
    }
    lab = files_lab(tmp_path, tables)
    for name in ("m1.csv", "d1.csv"):
        lab.drop(name, b"id\n1\n")
    lab.drop("d2.csv", b"\n")
    lab.drain()
    assert sorted(p.name for p in lab.folder.rglob("*.csv")) == ["d2.csv", "m1.csv"]
    assert (lab.folder / "done" / "m1.csv").is_file()
    assert len(lab.records) == 2 and len(lab.rejects) == 1
    lab.drop("m1.csv", b"id\n2\n", at=5)
    lab.drain()
    assert sorted(p.name for p in (lab.folder / "done").iterdir()) == ["m1.csv", "m1.csv.2"]


def test_a_file_is_put_away_only_once_its_rows_are_committed(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, after_reading="delete")
    path = lab.drop("t.csv", b"id\n1\n")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        batch = next(iter(lab.source.poll({})), None)  # the writer dies before it commits
        if batch is not None:
            break
        time.sleep(0.02)
    assert path.exists()
    lab.drain()
    assert len(lab.records) == 1 and not path.exists()


# Names -------------------------------------------------------------------------------------------


def test_names_with_odd_characters_are_read_and_shown_escaped(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, "*.csv")
    odd = [b"new\nline.csv", b"\x1b[31mred.csv", b"latin-\xe9.csv", "ñ😀 .csv".encode()]
    for number, name in enumerate(odd):
        path = os.fsencode(lab.folder) + b"/" + name
        with open(path, "wb") as file:  # noqa: PTH123 - a name that is no text
            file.write(b"id\n%d\n" % number)
        os.utime(path, (number, number))
    lab.drain()
    assert [r.provenance["file"] for r in lab.records] == [
        "new\\nline.csv",
        "\\x1b[31mred.csv",
        "latin-\\xe9.csv",
        "ñ😀 .csv",
    ]
    assert all(part.isprintable() for key in lab.cursors for part in key)
    lab.drain()
    assert len(lab.records) == 4


def test_a_link_out_of_the_folder_is_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_bytes(b"id\n1\n")
    lab = lab_of(tmp_path, "*.csv")
    (lab.folder / "leak.csv").symlink_to(secret)
    (lab.folder / "loop.csv").symlink_to("loop.csv")
    lab.drop("good.csv", b"id\n2\n")
    lab.drain()
    assert [row["id"] for row in lab.rows()] == ["2"]
    told = {trouble.name: trouble.reason for trouble in lab.source.troubles()}
    assert "leads out of" in told["drops:drops/leak.csv"]
    assert "loop" in told["drops:drops/loop.csv"]


# The configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"file": "t.csv", "options": {"delimeter": ";"}}, "did you mean 'delimiter'"),
        ({"file": "t.csv", "options": {"encoding": "klingon"}}, "no text encoding 'klingon'"),
        ({"file": "t.csv", "columns": {"a": "MONEY"}}, "'MONEY' is not a type"),
        ({"file": "t.csv", "key": ["idd"], "options": {"names": ["id"]}}, "no column 'idd'"),
        ({"file": "../t.csv"}, "must not lead out"),
        ({"file": "/etc/t.csv"}, "must not lead out"),
        ({"file": "t.doc"}, "no known format"),
        ({"file": "t.csv", "options": {"format": "exel"}}, "unknown format 'exel'"),
        ({"file": "t.xlsx", "options": {"mode": "append"}}, "as it grows"),
        ({"file": "t.csv", "options": {"done_marker": "done"}}, "{name}"),
        ({"file": "t.csv", "options": {"move_to": "../x"}}, "must not lead out"),
        ({"file": "t.csv", "options": {"quote": ",", "delimiter": ",,"}}, "must not be a part"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_with_its_line(
    tmp_path: Path, table: dict[str, Any], said: str
) -> None:
    from producers.registry import check_sources

    (tmp_path / "drops").mkdir()
    config = files_config(tmp_path, {"t": table})
    with pytest.raises(ConfigError) as error:
        check_sources(config)
    assert said in str(error.value)
    assert "ducklake.yml, line " in str(error.value)


def test_a_key_that_the_file_lacks_is_named_at_reading(tmp_path: Path) -> None:
    lab = files_lab(
        tmp_path,
        {"t": {"file": "t.csv", "key": ["idd"]}, "j": {"file": "j.json", "key": ["id"]}},
    )
    lab.drop("t.csv", b"id,n\n1,a\n")
    lab.drop("j.json", b'[{"id": 1}, {"n": 2}]')
    lab.drain()
    assert lab.rows("j") == [{"id": 1}]
    assert sorted(lab.reasons()) == [
        "file j.json, row 2 (line 1): it has no id, which `key` names",
        "file t.csv: it has no idd, which `key` names. Its columns: id, n.",
    ]


def test_an_empty_cell_of_a_typed_column_is_null(tmp_path: Path) -> None:
    columns = {"n": "INTEGER", "text": "VARCHAR"}
    lab = files_lab(tmp_path, {"t": {"file": "t.csv", "columns": columns}})
    lab.drop("t.csv", b"n,text,other\n1,,\n ,x,y\n")
    lab.drain()
    assert lab.rows() == [
        {"n": "1", "text": "", "other": ""},
        {"n": None, "text": "x", "other": "y"},
    ]


def test_columns_that_the_newest_file_lacks_are_found_before_it_is_read(tmp_path: Path) -> None:
    made = {
        "csv": {"file": "c_*.csv", "key": ["skuu"], "columns": {"cost": "DOUBLE", "n": "BIGINT"}},
        "xlsx": {"file": "a.xlsx", "key": ["b"]},
        "json": {"file": "a.json", "key": ["id", "nr"], "columns": {"seldom": "BIGINT"}},
        "gz": {"file": "a.tsv.gz", "key": ["id"], "columns": {"no": "DATE"}},
        "late": {"file": "late.csv", "key": ["id"]},
        "empty": {"file": "empty.csv", "key": ["id"]},
        "broken": {"file": "a.parquet", "key": ["id"]},
        "free": {"file": "none.csv"},
        "good": {"file": "good.csv", "key": ["id"], "columns": {"n": "BIGINT"}},
    }
    lab = files_lab(tmp_path, made)
    lab.drop("c_old.csv", b"skuu,cost,n\n", at=1)
    lab.drop("c_new.csv", b"sku,n,x\n" + b"1,2,3\n" * 300_000, at=2)  # its beginning will do
    lab.drop("a.xlsx", workbook(["a"], [1]))
    lab.drop("a.json", b'[{"id": 1, "n": 2}, {"id": 2}]')
    lab.drop("a.tsv.gz", gzip.compress(b"id\tn\n1\t2\n"))
    lab.drop("empty.csv", b"id\n")
    lab.drop("a.parquet", b"no Parquet")
    lab.drop("good.csv", b"id,n\n1,2\n", at=0)
    assert isinstance(lab.source, FileConnector)
    told: dict[bool, set[str]] = {True: set(), False: set()}
    with lab.source.open_folder() as folder:
        for table, spec in lab.source.source.tables.items():
            for problem in column_problems(folder, table, spec, lab.source._forms[table]):
                told[problem.is_error].add(f"{'.'.join(problem.at[1:])}: {problem.what}")
    assert told[True] == {
        "csv.key: c_new.csv has no column 'skuu'; did you mean 'sku'?",
        "csv.columns: c_new.csv has no column 'cost'; known: n, sku, x",
        "xlsx.key: a.xlsx has no column 'b'; known: a",
        "json.key: a.json has no column 'nr' in its first 2 rows; did you mean 'n'?",
        "gz.columns: a.tsv.gz has no column 'no'; did you mean 'n'?",
    }
    lacking = "its columns were not compared with `key`, `columns`"
    assert told[False] == {
        "json.columns: a.json has no column 'seldom' in its first 2 rows; known: id, n",
        f"late: no file late.csv yet: {lacking}",
        f"empty: empty.csv: {lacking}: it has no rows",
        f"broken: a.parquet: {lacking}: it is not Parquet, or damaged (ArrowInvalid)",
    }


def test_config_check_finds_a_key_that_the_file_lacks(tmp_path: Path) -> None:
    """Whether or not the services of the lake are up; where the source is not, it says so."""

    def check(key: str, *words: str, source: dict[str, Any] | None = None) -> Any:
        config = files_config(tmp_path, {"t": {"file": "t.csv", "key": [key]}}, source)
        settings = yaml.safe_load(config.path.read_text())
        del settings["services"]
        config.path.write_text(yaml.safe_dump(settings))
        return CliRunner().invoke(app, ["config", "check", "--config", str(config.path), *words])

    drops = tmp_path / "drops"
    drops.mkdir()
    (drops / "t.csv").write_bytes(b"sku,n\n1,2\n")
    found = check("skuu")
    assert isinstance(found.exception, ConfigError)
    assert "sources.drops.tables.t.key: t.csv has no column 'skuu'" in str(found.exception)
    assert check("skuu", "--offline").exit_code == 0
    told = check("sku")
    assert told.exit_code == 0 and "sources.drops: not checked against its server" in told.stdout
    nowhere = {"type": "sftp", "connection": {"host": "127.0.0.1", "port": 1, "user": "u"}}
    told = check("skuu", source=nowhere)
    assert told.exit_code == 0 and "sources.drops: not checked against its server" in told.stdout
