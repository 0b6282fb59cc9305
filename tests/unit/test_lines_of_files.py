"""A row that is rejected says on which line it begins, as an editor counts."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from producers.formats import FORMATS, BadRow
from producers.formats import lines as module
from tests.unit.files_lab import files_lab


def lines_of(suffix: str, content: bytes, **options: Any) -> list[int]:
    """The lines of the rows that are rejected."""
    form = FORMATS[suffix]
    found = form.read(io.BytesIO(content), form.options.model_validate(options))
    return [row.line for row in found if isinstance(row, BadRow)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_of_a_delimited_text_counts(end: str) -> None:
    lines = ["title", "# no row", "id,text", "", '1,"a', 'b"', "2", "# none", "", '3,"x"y', "4,d"]
    content = end.join([*lines, '5,"never closed', "6,f", "7", ""]).encode()
    assert lines_of(".csv", content, skip_top=1, comment="#") == [7, 10, 12, 14]


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        (b"a,b\n1,2\n,\n3\n", {"blank_rows": "skip"}, [4]),
        (b"a,\n,b\n1,2\n3\n", {"header_rows": 2}, [4]),
        ("a,b\n1,2\n\n3\n".encode("utf-16"), {"encoding": "utf-16"}, [4]),
        (b"1\n2,3\n\xff,1\n", {"names": ["a", "b"]}, [1, 3]),
        (b"a,b\n1\n2,2\n3\n4,4\nTotal\n", {"skip_bottom": 1}, [2, 4]),
    ],
)
def test_what_is_left_out_counts(
    content: bytes, options: dict[str, Any], expected: list[int]
) -> None:
    assert lines_of(".csv", content, **options) == expected


def test_a_line_without_an_end_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CHARACTERS", 20)
    content = b"a,b\n1," + b"x" * 50 + b'\n2,y\n3,"open\n4,' + b"z" * 70 + b"\n5,b\n6\n"
    assert lines_of(".csv", content) == [2, 4, 5, 7]


def test_other_formats_count_alike() -> None:
    assert lines_of(".fwf", b"ab\n\n1zz\n22\n333\n", widths=[1, 1]) == [3, 5]
    assert lines_of(".ndjson", b'{"a": 1}\n\n7\n{"a": 2}\n[\n') == [3, 5]
    filler = b'{"a": "%s"},\n' % (b"x" * 1000) * 1000
    content = b'[\n{"a": 1},\n\n7,\n{"a":\n2, "a": 3}, 8,\n' + filler + b"9]"
    assert lines_of(".json", content) == [4, 5, 6, 1007]
    xml = b"<t>\n<row><a>1</a></row>\n" + b"<row/>\n" * 70_000 + b"<row>loose<a>1</a></row>\n</t>"
    assert lines_of(".xml", xml) == [70_003]


def test_the_line_of_a_workbook_is_the_row_of_its_sheet() -> None:
    book = openpyxl.Workbook()
    for row in (["title"], [], ["a"], [1], [], [2, "loose"]):
        book.worksheets[0].append(row)
    made = io.BytesIO()
    book.save(made)
    assert lines_of(".xlsx", made.getvalue(), header_row=3) == [6]


def test_a_reject_tells_row_and_line(tmp_path: Path) -> None:
    lab = files_lab(tmp_path, {"t": {"file": "t.csv"}})
    lab.drop("t.csv", b'id,text\n1,"two\nlines"\n2\n')
    lab.drain()
    [reject] = lab.rejects
    assert reject.reason == "file t.csv, row 2 (line 4): it has 1 fields, the header has 2"
    assert (reject.provenance["file_row"], reject.provenance["file_line"]) == (2, 4)
