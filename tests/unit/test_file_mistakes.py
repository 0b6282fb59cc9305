"""Files and options that would be read wrongly without a word: each is named, or read rightly."""

from __future__ import annotations

import io
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlwt
from pydantic import ValidationError

from lake.config import Table
from lake.errors import ConfigError
from lake.storage.declared_types import declared_type
from producers.files.checks import options_model
from producers.files.preview import Preview, guessed_encoding, preview
from producers.files.reading import FileForm, file_rows
from producers.formats import BadRow, FileOptions, UnreadableFile
from producers.isolated.number_formats import shown_as


def read(name: str, content: bytes, **options: Any) -> list[dict[str, Any]]:
    """The rows of a file, none of which is bad."""
    spec = Table(file=name, options=options)
    found = options_model(spec).model_validate(options)
    assert isinstance(found, FileOptions)
    form = FileForm.of(spec, found)
    rows = list(file_rows(form, io.BytesIO(content), len(content)))
    assert not any(isinstance(row, BadRow) for row in rows), rows
    return [dict(row.values) for row in rows if not isinstance(row, BadRow)]


def shown(name: str, content: bytes) -> Preview:
    return preview(name, io.BytesIO(content), len(content), Table(file=name), guess=True)


# Names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.fwf", "x.xlsx"])
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a", "a"], "twice: a"),
        (["a", " a "], "twice: a"),
        (["a", ""], "needs a name"),
        (["a", "b\0"], "NUL"),
        ([], "at least 1"),
    ],
)
def test_given_names_tell_the_columns_apart(name: str, names: list[str], said: str) -> None:
    options = {"names": names, **({"widths": [2] * len(names) or [1]} if "fwf" in name else {})}
    with pytest.raises(ValidationError, match=said):
        options_model(Table(file=name)).model_validate(options)


def test_names_and_rows_of_a_header_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="without a header"):
        options_model(Table(file="x.csv")).model_validate({"names": ["a"], "header_rows": 2})


@pytest.mark.parametrize("start", ["", "\n", "\ufeff"])
@pytest.mark.parametrize(
    ("page", "what"),
    [
        ("<!DOCTYPE html>\n<html><body>Error</body></html>\n", "HTML"),
        ("<?xml version='1.0'?>\n<error/>\n", "XML"),
        ("%PDF-1.4\nx\n", "PDF"),
    ],
)
def test_a_page_of_an_error_is_no_row_of_a_file_without_a_header(
    start: str, page: str, what: str
) -> None:
    for name, options in (("x.csv", {}), ("x.fwf", {"widths": [80]})):
        with pytest.raises(UnreadableFile, match=f"it is {what}"):
            read(name, (start + page).encode(), names=["a"], **options)
    assert read("x.csv", b'{"a": 1}|x\n', names=["a", "b"], delimiter="|")[0]["b"] == "x"


# Values ------------------------------------------------------------------------------------------


def test_attributes_of_one_name_in_two_namespaces_are_both_kept() -> None:
    text = b'<r xmlns:p="p" xmlns:q="q"><row><e p:id="1" q:id="2"><c>x</c></e></row></r>'
    [row] = read("x.xml", text)
    assert row["e"] == {"@id": ["1", "2"], "c": "x"}


NUMBERS = ['"USD; "0', "*d0", '\\"d0', '0.00" días"', "[Red]0", "[$USD] #,##0", "0.00E+00", "# ?/?"]
NUMBERS += ["General", "@", "_d0", "0%", '#,##0 "unidades"']
DATES = ["yyyy-mm-dd", "d/m/yy h:mm", "mm:ss.0", "[$-2C0A]d mmm", '"el "d" de "mmmm', "h:mm AM/PM"]


@pytest.mark.parametrize("number_format", NUMBERS)
def test_a_number_stays_one_whatever_its_format_says_in_words(number_format: str) -> None:
    assert shown_as(number_format) == "number"
    book = openpyxl.Workbook()
    book.worksheets[0].append(["v"])
    book.worksheets[0].append([5])
    book.worksheets[0]["A2"].number_format = number_format
    made = io.BytesIO()
    book.save(made)
    assert read("x.xlsx", made.getvalue()) == [{"v": 5}]


@pytest.mark.parametrize("number_format", DATES)
def test_a_date_is_one_in_every_format(number_format: str) -> None:
    assert shown_as(number_format) == "date"
    old = xlwt.Workbook()
    sheet = old.add_sheet("s")
    sheet.write(0, 0, "v")
    sheet.write(1, 0, 45292.0, xlwt.easyxf(num_format_str=number_format))
    made = io.BytesIO()
    old.save(made)
    assert read("x.xls", made.getvalue()) == [{"v": "2024-01-01"}]


def test_a_span_of_hours_is_a_duration() -> None:
    assert [shown_as(f) for f in ("[h]:mm", "[mm]:ss", "[ss].00")] == ["duration"] * 3


def test_nanoseconds_of_a_time_within_a_value_are_kept() -> None:
    times = pa.array([1, 3_600_000_000_001], pa.time64("ns"))
    table = pa.table(
        {
            "s": pa.StructArray.from_arrays([times], ["t"]),
            "l": pa.ListArray.from_arrays([0, 1, 2], times),
        }
    )
    made = io.BytesIO()
    pq.write_table(table, made)
    first, second = read("x.parquet", made.getvalue())
    assert first == {"s": {"t": "00:00:00.000000001"}, "l": ["00:00:00.000000001"]}
    assert second["s"]["t"] == "01:00:00.000000001"


# What is proposed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "name\nJohn Smith\nMary Jones\nPeter Pan\n",
        "email\na@x.com\nb@x.com\nc@y.com\n",
        "ts\n2024-01-01 10:00:00\n2024-01-02 11:00:00\n2024-01-03 12:30:00\n",
        "url\nhttp://a.b/c\nhttp://a.b/d\nhttp://a.b/e\n",
    ],
)
def test_a_file_of_one_column_is_one(text: str) -> None:
    found = shown("x.csv", text.encode())
    assert found.options == {} and len(found.columns) == 1
    assert found.looked_at == text.count("\n") - 1


@pytest.mark.parametrize("odd", ["\u2028", "\x0b", "\x0c", "\x85"])
def test_lines_are_counted_as_the_reader_counts_them(odd: str) -> None:
    found = shown("x.csv", f"Sales{odd}2024\n\na,b,c\n1,2,3\n4,5,6\n".encode())
    assert list(found.columns) == ["a", "b", "c"] and found.looked_at == 2
    inside = shown("x.csv", f"a,b\n1,x{odd}y\n2,z\n3,z\n".encode())
    assert inside.options == {} and inside.looked_at == 3


def test_a_doubled_delimiter_is_proposed_as_it_is() -> None:
    found = shown("x.csv", b"a||b||c\n1||2||3\n4||5||6\n")
    assert found.options == {"delimiter": "||"} and list(found.columns) == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be", "utf-16", "utf-32"])
def test_wide_encodings_are_told_apart(name: str) -> None:
    content = "a,b\n1,é\n2,ü\n".encode(name)
    assert guessed_encoding(content) == name
    assert shown("x.csv", content).rows[0] == {"a": "1", "b": "é"}


def test_a_proposed_type_holds_what_was_seen() -> None:
    digits = "1." + "1" * 45
    long = "1" * 30 + "." + "2" * 20
    text = f"v,w,d,t\n{digits},{long},2024-02-30,2024-01-01T29:00:00\n"
    found = shown("x.csv", text.encode())
    assert set(found.columns.values()) == {"VARCHAR"}
    assert shown("x.csv", b"v\n12345678901234567890.5\n").columns == {"v": "DECIMAL(21,1)"}


@pytest.mark.parametrize(
    "type_", ["DECIMAL(38,45)", "DECIMAL(50,2)", "DECIMAL(5,10)", "DECIMAL(0,0)"]
)
def test_a_decimal_that_cannot_be_is_no_type(type_: str) -> None:
    with pytest.raises(ConfigError, match="is not a type"):
        declared_type("t", "c", type_)
    assert declared_type("t", "c", "DECIMAL(38,38)")


# Options -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("x.xml", {"row_element": "/"}, "names no element"),
        ("x.xml", {"row_element": "n:row"}, "without its prefix"),
        ("x.xml", {"row_element": "a b"}, "no name of an element"),
        ("x.csv", {"encoding": "idna"}, "no text encoding"),
        ("x.csv", {"encoding": "punycode"}, "no text encoding"),
        ("x.csv", {"encoding": "undefined"}, "no text encoding"),
        ("x.fwf", {"encoding": "idna", "widths": [1]}, "no text encoding"),
        ("x.csv", {"comment": ","}, "must not begin as a field"),
        ("x.csv", {"comment": '"'}, "must not begin as a field"),
        ("x.csv", {"comment": "\n#"}, "must not begin as a field"),
    ],
)
def test_an_option_that_can_never_work_is_refused(
    name: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        options_model(Table(file=name)).model_validate(options)


def test_a_key_names_a_column_once() -> None:
    with pytest.raises(ValidationError, match="names a column twice"):
        Table(file="x.csv", key=["a", "a"])
