"""Odd files by name: each costs itself alone, with its reason, and in bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import resource
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlwt

from producers.formats import FORMATS, BadRow, Row, UnreadableFile, delimited
from tests.unit import workbooks
from tests.unit.files_lab import FilesLab, files_lab

OOXML = "http://schemas.openxmlformats.org/"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
STRICT = "http://purl.oclc.org/ooxml/"


def lab_with_a_good_file(tmp_path: Path, name: str, options: dict[str, Any]) -> FilesLab:
    tables = {
        "odd": {"file": name, "options": options},
        "good": {"file": "good.csv", "key": ["id"]},
    }
    lab = files_lab(tmp_path, tables)
    lab.drop("good.csv", b"id\n1\n")
    return lab


def workbook(*rows: list[Any]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.worksheets[0].append(row)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def old_workbook() -> bytes:
    book = xlwt.Workbook()
    sheet = book.add_sheet("s")
    for place, cell in enumerate(["a", "b"]):
        sheet.write(0, place, cell)
    sheet.write(1, 0, 7)
    sheet.write(1, 1, "ñ")
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def rewritten(package: bytes, change: Any) -> bytes:
    made = io.BytesIO()
    source = zipfile.ZipFile(io.BytesIO(package))
    with source, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.namelist():
            target.writestr(part, change(part, source.read(part)))
    return made.getvalue()


def strict(package: bytes) -> bytes:
    def change(part: str, text: bytes) -> bytes:
        main = f"{OOXML}spreadsheetml/2006/main".encode()
        relations = f"{OOXML}officeDocument/2006/relationships".encode()
        text = text.replace(main, f"{STRICT}spreadsheetml/main".encode())
        return text.replace(relations, f"{STRICT}officeDocument/relationships".encode())

    return rewritten(package, change)


def protected() -> bytes:
    """The look of an encrypted workbook: an OLE file with a stream of that name."""
    return OLE + b"\0" * 600 + "EncryptedPackage".encode("utf-16-le")


def bombs() -> tuple[bytes, bytes]:
    """1.2 GB of short lines, as .zip and as .gz."""
    made, packed = io.BytesIO(), io.BytesIO()
    archive = zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    block = b"1\n" * (1 << 21)
    with archive, archive.open("a.csv", "w", force_zip64=True) as part:
        for _ in range(300):
            part.write(block)
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
        for _ in range(300):
            file.write(block)
    return made.getvalue(), packed.getvalue()


ODD: list[tuple[str, bytes, dict[str, Any], str]] = [
    ("a.csv", "id,n\n1,a\n".encode("utf-16-be"), {"encoding": "utf-16"}, "no byte order mark"),
    ("a.csv", "id,n\n1,a\n".encode("utf-16-le"), {}, "may be UTF-16"),
    ("a.csv", b"", {}, "no header line"),
    ("a.csv", b"," * 20_000 + b"x\n", {}, "columns, and 4,096 are the most"),
    ("a.xml", b"<t>" + b"<a>" * 1500 + b"</a>" * 1500 + b"</t>", {}, "256 elements deep"),
    ("a.xml", b"<t>" + b"<row><a>" * 1500 + b"</a></row>" * 1500 + b"</t>", {}, "256 elements"),
    ("a.xml", b"<t><line/></t>", {}, "no <row>"),
    ("a.xlsx", protected(), {}, "protected by a password"),
    ("a.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, {}, "not a workbook"),
    ("a.xlsx", workbook(["a"], [1]), {"sheet": "Ventas"}, "no sheet 'Ventas'"),
    ("a.xlsx", b"<html><table></table>", {}, "HTML"),
    ("a.ods", b"PK\x03\x04 broken", {}, "damaged, or not a workbook"),
    ("a.xlsb", b"PK\x03\x04 broken", {}, "damaged, or not a workbook"),
    ("a.parquet", b"PAR1 broken PAR1", {}, "not Parquet"),
    ("a.json", b'{"data": []}', {"path": "data.items"}, "no data.items"),
    ("a.json", b"[1, 2", {}, "ends in the middle"),
    ("a.csv.gz", b"no gzip", {}, "packed, and damaged"),
    ("a.csv.gz", gzip.compress(b"id\n" + b"12345\n" * 9999)[:-20], {}, "ends in the middle"),
    ("a.csv.zip", b"no zip", {}, "no ZIP"),
    ("a.csv", b"<!DOCTYPE html><title>503</title>", {}, "it is HTML, and no delimited text"),
    ("a.csv", b"\n <html>\n<body>\n", {}, "it is HTML"),
    ("a.csv", b'{"message": "down"}', {}, "it is JSON"),
    ("a.csv", b'[{"id": 1, "n": 2}]\n', {}, "it is JSON"),
    ("a.csv", b'\xef\xbb\xbf<?xml version="1.0"?>\n<t/>', {}, "it is XML"),
    ("a.tsv", b"%PDF-1.4\n1 0 obj\n", {}, "it is PDF"),
    ("a.txt", b"{\\rtf1 x}\n", {}, "it is RTF"),
    ("a.csv", workbook(["id"], [1]), {}, "it is a ZIP or a workbook"),
    ("a.csv", workbook(["id"], [1]), {"encoding": "latin-1"}, "it is a ZIP or a workbook"),
    ("a.csv", gzip.compress(b"id\n1\n"), {}, "packed by gzip"),
    ("a.csv", gzip.compress(b"id\n1\n"), {"encoding": "cp1252", "quote": ""}, "packed by gzip"),
    ("a.csv", OLE + b"\0" * 600, {}, "an old workbook"),
    ("a.fwf", b"<html></html>\n", {"widths": [6, 7]}, "it is HTML"),
    ("a.json", b'{"d": {"i": [{"a": 1}], "i": []}}', {"path": "d.i"}, "it has d.i twice"),
    ("a.json", b'{"d": {"i": [{"a": 1}]}, "d": 1}', {"path": "d.i"}, "it has d.i twice"),
    ("a.json", b'{"d": [{"a": 1}], "more":', {"path": "d"}, "ends in the middle"),
    ("a.json", b'{"d": [{"a": 1}]}\n{"d": [{"a": 2}]}', {"path": "d"}, "something follows"),
    ("a.json", b'[{"a": 1},]', {}, "a value expected"),
    ("a.json", b'// no JSON\n[{"a": 1}]', {}, "it is not JSON"),
    ("a.csv", "id,n\n1,x\n".encode("cp500"), {}, "header line is not valid"),
    ("a.csv", "id,n\n1,x\n".encode("utf-32"), {}, "header line is not valid"),
    ("a.csv", b"id,n\n1,\x1b$B\x30\n", {"encoding": "iso2022_jp"}, "not valid iso2022_jp"),
    ("a.csv", b"id,n\n1,\\x\n", {"encoding": "unicode_escape"}, "not valid unicode_escape"),
    ("a.xml", b"<t><row><a>&#0;</a></row></t>", {}, "not well-formed"),
    ("a.xml", b"<t><row><a>1</a></row></t>trailing", {}, "not well-formed"),
    ("a.csv.gz", gzip.compress(b"id\n1\n") + b"more", {}, "packed, and damaged"),
    ("a.csv.gz", gzip.compress(b"id\n1\n")[:-8] + b"\0" * 8, {}, "packed, and damaged"),
]


@pytest.mark.parametrize(
    ("name", "content", "options", "reason"),
    ODD,
    ids=[f"{number}-{odd[0]}-{odd[3]}" for number, odd in enumerate(ODD)],
)
def test_an_odd_file_is_one_reject_with_its_first_bytes(
    tmp_path: Path, name: str, content: bytes, options: dict[str, Any], reason: str
) -> None:
    lab = lab_with_a_good_file(tmp_path, name, options)
    lab.drop(name, content)
    lab.drain()
    assert lab.rows("good") == [{"id": "1"}]
    [reject] = lab.rejects
    assert reject.reason.startswith(f"file {name}: ") and reason in reject.reason
    assert reject.payload == content[: 1 << 20] and not lab.rows("odd")
    lab.drain()
    assert len(lab.rejects) == 1, "said once for each content"


class Panic(BaseException):
    """What a library in Rust raises is no Exception."""


@pytest.mark.parametrize(
    "error", [Panic("x"), MemoryError(), RecursionError(), KeyError("1"), AssertionError("secret")]
)
@pytest.mark.parametrize("late", [False, True])
def test_whatever_a_reader_raises_costs_its_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, late: bool
) -> None:
    def read(stream: Any, options: Any) -> Iterator[Row]:
        if late:
            yield Row(1, {"id": 1})
        raise error

    lab = lab_with_a_good_file(tmp_path, "a.json", {})
    form = FORMATS[".json"]
    monkeypatch.setattr("producers.files.reading.FORMATS", {**FORMATS, ".json": form})
    lab = lab.again({"odd": {"file": "a.json"}, "good": {"file": "good.csv", "key": ["id"]}})
    object.__setattr__(lab.source._forms["odd"], "format", type(form)(form.options, read))  # type: ignore[attr-defined]
    lab.drop("a.json", b"[1]")
    lab.drain()
    assert lab.rows("good") == [{"id": "1"}]
    [reject] = lab.rejects
    assert "secret" not in reject.reason and reject.payload == b"[1]"


def test_a_broken_member_of_an_archive_costs_itself_alone(tmp_path: Path) -> None:
    lab = lab_with_a_good_file(tmp_path, "a.csv.zip", {})
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as package:
        package.writestr("1.csv", "id\n1\n")
        package.writestr("2.csv", "")
        package.writestr("3.csv", "id\n3\n")
    lab.drop("a.csv.zip", made.getvalue())
    lab.drain()
    assert [row["id"] for row in lab.rows("odd")] == ["1", "3"]
    assert "its member 2.csv: it has no header line" in lab.reasons()[0]


def damaged_late() -> dict[str, bytes]:
    """Members whose rows are good, until something is wrong."""
    rows = "".join(f"{n}\n" for n in range(200_000))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as package:
        package.writestr("1.csv", f"id\n{rows}")
        package.writestr("2.csv", "id\n7\n")
    content = bytearray(made.getvalue())
    at = content.index(b"199999")
    content[at] ^= 1
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as package:
        package.writestr("1.json", "[" + '{"id": "0"},' * 50_000 + "!")
        package.writestr("2.json", '[{"id": "7"}]')
    return {"a.csv.zip": bytes(content), "a.json.zip": made.getvalue()}


@pytest.mark.parametrize("name", ["a.csv.zip", "a.json.zip"])
def test_a_member_that_is_damaged_late_gives_none_of_its_rows(tmp_path: Path, name: str) -> None:
    lab = lab_with_a_good_file(tmp_path, name, {})
    lab.drop(name, damaged_late()[name])
    lab.drain()
    assert lab.rows("odd") == [{"id": "7"}]
    [record] = [record for record in lab.records if record.table == "odd"]
    assert record.provenance["file_rows"] == 1
    [reject] = lab.rejects
    assert "its member 1." in reject.reason


# Workbooks of every kind -------------------------------------------------------------------------


def rows_of(suffix: str, content: bytes, **options: Any) -> list[Row | BadRow]:
    form = FORMATS[suffix]
    found = form.read(io.BytesIO(content), form.options.model_validate(options))
    return [row._replace(line=0) for row in found]


def test_old_workbooks_are_read_whatever_their_suffix() -> None:
    expected = [Row(1, {"a": 7, "b": "ñ"})]
    assert rows_of(".xls", old_workbook()) == expected
    assert rows_of(".xlsx", old_workbook()) == expected


def test_strict_workbooks_are_read_as_others() -> None:
    content = workbook(["a", "b"], [7, "ñ"])
    assert rows_of(".xlsx", strict(content)) == rows_of(".xlsx", content)


def test_open_document_spreadsheets_are_read() -> None:
    text = (
        '<?xml version="1.0"?><office:document-content'
        ' xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"'
        ' xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"'
        ' xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:body>'
        '<office:spreadsheet><table:table table:name="s">'
        '<table:table-row><table:table-cell office:value-type="string"><text:p>a</text:p>'
        "</table:table-cell></table:table-row><table:table-row>"
        '<table:table-cell office:value-type="float" office:value="7.5"><text:p>7.5</text:p>'
        "</table:table-cell></table:table-row></table:table></office:spreadsheet></office:body>"
        "</office:document-content>"
    )
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as package:
        package.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        package.writestr("content.xml", text)
        package.writestr(
            "META-INF/manifest.xml",
            '<?xml version="1.0"?><manifest:manifest'
            ' xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>',
        )
    assert rows_of(".ods", made.getvalue()) == [Row(1, {"a": 7.5})]


def test_a_formula_without_a_stored_value_costs_its_row_and_is_named() -> None:
    rows = rows_of(".xlsx", workbook(["a", "b"], [1, 2], [1, "=A2+1"], ["=1+1", None], [3, 4]))
    assert [type(row) for row in rows] == [Row, BadRow, BadRow, Row]
    assert "its cell B3 is a formula without a stored value" in rows[1].reason  # type: ignore[union-attr]


def test_durations_beyond_a_day_keep_their_hours() -> None:
    from datetime import timedelta

    rows = rows_of(".xlsx", workbook(["d"], [timedelta(hours=30, minutes=5)]))
    assert rows == [Row(1, {"d": "30:05:00"})]


def test_sheets_by_name_and_number_footers_and_nulls() -> None:
    book = openpyxl.Workbook()
    second = book.create_sheet("Ventas 2026")
    for row in (["a"], [1], ["n/a"], ["Total"]):
        second.append(row)
    content = io.BytesIO()
    book.save(content)
    expected = [Row(1, {"a": 1}), Row(2, {"a": None})]
    for sheet in ("Ventas 2026", 2):
        found = rows_of(".xlsx", content.getvalue(), sheet=sheet, skip_bottom=1, nulls=["n/a"])
        assert found == expected


def test_a_value_of_parquet_that_no_calendar_has_costs_its_row() -> None:
    moments = pa.array([[0], [2**62], [86_400_000]], pa.list_(pa.timestamp("ms")))
    days = pa.array([0, 1, 4_000_000], pa.int32()).cast(pa.date32())
    made = io.BytesIO()
    pq.write_table(pa.table({"at": moments, "day": days}), made)
    assert rows_of(".parquet", made.getvalue()) == [
        Row(1, {"at": ["1970-01-01T00:00:00"], "day": "1970-01-01"}),
        BadRow(2, b"", "the value of its column 'at' is out of range"),
        Row(3, {"at": ["1970-01-02T00:00:00"], "day": "12921-08-18"}),
    ]


# Values ------------------------------------------------------------------------------------------


def test_no_json_number_is_rounded() -> None:
    texts = ["12345678901234.5678", str(2**64), "1" * 23, "1e999", "0.1000000000000000055"]
    texts += ["1e-99999999999999999999", "0e99999999999999999999"]
    exact = ["9007199254740993", "-9223372036854775808", "1.10", "1e3", "0.1", "123456789.125"]
    content = "[" + ",".join(f'{{"n": {text}}}' for text in texts + exact) + "]"
    found = [row.values["n"] for row in rows_of(".json", content.encode())]  # type: ignore[union-attr]
    assert found == [*texts, 2**53 + 1, -(2**63), 1.1, 1000.0, 0.1, 123456789.125]


def test_a_broken_element_costs_itself_and_not_the_array() -> None:
    broken = [
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": tru}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xff"}',
        b'{"a\\u0000": 1}',
        b'{"a": "raw\nnewline"}',
        b"7",
        b"[" * 3000 + b"]" * 3000,
    ]
    content = b"[" + b",".join(b'{"a": %d},' % n + bad for n, bad in enumerate(broken)) + b"]"
    rows = rows_of(".json", content)
    assert [row.values["a"] for row in rows if isinstance(row, Row)] == list(range(len(broken)))
    assert [row.payload for row in rows if isinstance(row, BadRow)] == broken
    assert [row.number for row in rows] == list(range(1, 2 * len(broken) + 1))


def test_json_records_are_found_at_their_path_and_lines_are_records() -> None:
    content = b'{"x": {"items": 1}, "data": {"n": [{}], "items": [{"a": 1}, {"a": 2}]}}'
    expected = [Row(1, {"a": 1}), Row(2, {"a": 2})]
    assert rows_of(".json", content, path="data.items") == expected
    assert rows_of(".ndjson", b'{"a": 1}\r\n\n{"a": 2}') == expected
    assert rows_of(".json", b'{"a": 1}\n{"a": 2}\n') == expected


@pytest.mark.parametrize("suffix", [".json", ".ndjson"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_json_is_read_in_every_encoding_of_unicode(suffix: str, encoding: str, mark: str) -> None:
    text = '{"a": "ñਊ😀"}\n{"a": 7}\n'
    expected = [Row(1, {"a": "ñਊ😀"}), Row(2, {"a": 7})]
    assert rows_of(suffix, (mark + text).encode(encoding)) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-32-be"])
def test_a_byte_order_mark_within_lines_of_json_costs_its_line(encoding: str) -> None:
    text = '\ufeff{"a": 1}\n\ufeff{"a": 2}\n{"a": 3}\n'
    first, bad, last = rows_of(".ndjson", text.encode(encoding))
    assert (first, last) == (Row(1, {"a": 1}), Row(3, {"a": 3}))
    assert isinstance(bad, BadRow) and bad.payload == '\ufeff{"a": 2}'.encode(encoding)


def test_an_inner_element_of_the_rows_name_stays_in_its_row() -> None:
    content = b"<t><row id='1'><row><a>1</a></row><b>x</b></row><row><b>y</b></row></t>"
    assert rows_of(".xml", content) == [
        Row(1, {"row_id": "1", "row": {"a": "1"}, "b": "x"}),
        Row(2, {"b": "y"}),
    ]


def test_a_row_of_xml_without_children_is_its_text() -> None:
    content = b"<t><row>7</row><row id='2' unit='kg'> 8 </row><row/><row>\n</row></t>"
    assert rows_of(".xml", content) == [
        Row(1, {"row": "7"}),
        Row(2, {"row_id": "2", "unit": "kg", "row": " 8 "}),
        Row(3, {}),
        Row(4, {}),
    ]


def test_nested_xml_is_json_and_paths_choose_the_rows() -> None:
    content = b"""<c><old><item><n>0</n></item></old><new><item><n>1</n><tag>a</tag><tag>b</tag>
      <price currency="ARS"><net>2</net></price></item></new></c>"""
    assert rows_of(".xml", content, row_element="new/item") == [
        Row(
            1,
            {"n": "1", "tag": ["a", "b"], "price": {"@currency": "ARS", "net": "2"}},
        )
    ]


def test_options_of_delimited_text() -> None:
    content = b'report\n# all of them\nid||note||\n1||"a||b"||\n# no row\n2||NA\n3||x||y\nTotal\n'
    rows = rows_of(
        ".csv",
        content,
        delimiter="||",
        skip_top=1,
        comment="#",
        nulls=["NA"],
        ragged="keep",
        skip_bottom=1,
    )
    assert rows == [
        Row(1, {"id": "1", "note": "a||b"}),
        Row(2, {"id": "2", "note": None}),
        Row(3, {"id": "3", "note": "x", "column_3": "y"}),
    ]
    assert rows_of(".csv", b'1,"a\n2,b""\n', names=["n", "t"], quote="") == [
        Row(1, {"n": "1", "t": '"a'}),
        Row(2, {"n": "2", "t": 'b""'}),
    ]
    assert rows_of(".csv", b"a,b\nx\\,y,z\n", escape="\\") == [Row(1, {"a": "x,y", "b": "z"})]
    assert rows_of(".tsv", b"a\tb\n1,5\t\n") == [Row(1, {"a": "1,5", "b": ""})]
    assert rows_of(".fwf", "idname \n1 Ñandú \n".encode(), widths=[2, 6]) == [
        Row(1, {"id": "1", "name": "Ñandú"})
    ]


def test_a_header_has_several_rows_and_blank_rows_are_none() -> None:
    content = b"When,Travel,,Other\n,,,\n,Air,Rail,\n1,2,3,4\n,,,\n , ,,\n5,6,7,8\n"
    expected = [
        Row(1, {"When": "1", "Travel Air": "2", "Travel Rail": "3", "Other": "4"}),
        Row(2, {"When": "5", "Travel Air": "6", "Travel Rail": "7", "Other": "8"}),
    ]
    assert rows_of(".csv", content, header_rows=2, blank_rows="skip") == expected
    assert len(rows_of(".csv", content, header_rows=2)) == 4
    several = b"a||x\n||b\n1||2\n||\n"
    options: dict[str, Any] = {"delimiter": "||", "header_rows": 2, "blank_rows": "skip"}
    assert rows_of(".csv", several, **options) == [Row(1, {"a": "1", "x b": "2"})]
    assert delimited.count(io.BytesIO(several), delimited.DelimitedOptions(**options)) == 1


def test_options_that_came_later_do_not_have_files_read_again() -> None:
    plain = delimited.DelimitedOptions().reading()
    assert not {"header_rows", "blank_rows"} & set(plain)
    assert delimited.DelimitedOptions(header_rows=2).reading() != plain
    assert delimited.DelimitedOptions(blank_rows="skip").reading() != plain


def test_headers_get_names_that_are_unique() -> None:
    assert rows_of(".csv", b"a,a,,a_2\n1,2,3,4\n") == [
        Row(1, {"a": "1", "a_3": "2", "column_3": "3", "a_2": "4"})
    ]
    assert rows_of(".csv", b"a,b,\n1,2,\n3,4\n") == [
        Row(1, {"a": "1", "b": "2"}),
        Row(2, {"a": "3", "b": "4"}),
    ]


def test_the_fast_count_is_that_of_the_reader() -> None:
    content = b'a,b\n1,2\n"x"y,2\n3\n4,5,\n6,"7\n8,9\n' + b"\xff,1\n" + b"1," + b"\x01" * 2_000_000
    options = delimited.DelimitedOptions()
    rows = list(FORMATS[".csv"].read(io.BytesIO(content), options))
    small = [r for r in rows if isinstance(r, Row) and len(json.dumps(r.values)) < 8 << 20]
    assert delimited.count(io.BytesIO(content), options) == len(small)


# Bounds ------------------------------------------------------------------------------------------

_MEASURE = """
import resource, sys
from producers.formats import FORMATS, UnreadableFile
resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20))
form = FORMATS[sys.argv[1]]
try:
    print(sum(1 for _ in form.read(open(sys.argv[2], "rb"), form.options())))
except UnreadableFile as error:
    print(error)
# Not its ru_maxrss, in which the memory of whoever started it counts.
status = open("/proc/self/status").read()
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def measured(path: Path) -> tuple[str, int]:
    """What reading a file ends with, and the megabytes that it took."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, path.suffix, str(path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    said, own, child = done.stdout.splitlines()
    return said, int(own) + (int(child) if path.suffix in (".xlsx", ".parquet") else 0)


def test_large_json_and_xml_are_read_in_bounded_memory(tmp_path: Path) -> None:
    rows = 400_000
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.write(b"[")
        for number in range(rows):
            file.write(b'{"id": %d, "text": "%s"},' % (number, b"x" * 80))
        file.write(b'{"id": 0}]')
    said, megabytes = measured(path)
    assert said == str(rows + 1) and megabytes < 200
    path = tmp_path / "a.xml"
    with path.open("wb") as file:
        file.write(b"<t>")
        for number in range(rows):
            file.write(b"<other><id>%d</id></other>" % number * 10)
        file.write(b"</t>")
    said, megabytes = measured(path)
    assert "without the end of a <row>" in said and megabytes < 500


def test_a_workbook_with_huge_shared_strings_is_refused_by_name(tmp_path: Path) -> None:
    sheet = (
        f'<worksheet xmlns="{OOXML}spreadsheetml/2006/main"><sheetData>'
        '<row r="1"><c r="A1" t="s"><v>0</v></c></row></sheetData></worksheet>'
    )
    path = tmp_path / "a.xlsx"
    types = "application/vnd.openxmlformats-officedocument.spreadsheetml"

    def change(part: str, text: bytes) -> bytes:
        if part.endswith("workbook.xml.rels"):
            relation = f"{OOXML}officeDocument/2006/relationships/sharedStrings"
            more = f'<Relationship Id="r9" Type="{relation}" Target="sharedStrings.xml"/>'
            return text.replace(b"</Relationships>", f"{more}</Relationships>".encode())
        if part == "[Content_Types].xml":
            more = (
                f'<Override PartName="/xl/sharedStrings.xml" ContentType="{types}'
                '.sharedStrings+xml"/>'
            )
            return text.replace(b"</Types>", f"{more}</Types>".encode())
        return sheet.encode() if part == "xl/worksheets/sheet1.xml" else text

    book = rewritten(workbook(["a"]), change)
    path.write_bytes(book)
    package = zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1)
    with package, package.open("xl/sharedStrings.xml", "w", force_zip64=True) as part:
        part.write(f'<sst xmlns="{OOXML}spreadsheetml/2006/main">'.encode())
        for _ in range(480):
            part.write(b"<si><t>%s</t></si>" % (b"x" * 990) * 1024)
        part.write(b"</sst>")
    said, megabytes = measured(path)
    assert "takes more than 320 MB of memory" in said and megabytes < 500


def far_cell() -> bytes:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet["A1"], sheet["XFD1048576"] = "a", 1
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def test_a_cell_at_the_far_end_of_a_sheet_is_no_bomb() -> None:
    [row] = rows_of(".xlsx", far_cell())
    assert isinstance(row, BadRow) and "cell 16384 has no column name" in row.reason


def test_packed_bombs_are_refused_by_name(tmp_path: Path) -> None:
    lab = files_lab(
        tmp_path,
        {"z": {"file": "a.csv.zip"}, "g": {"file": "a.csv.gz"}, "good": {"file": "good.csv"}},
    )
    lab.drop("good.csv", b"id\n1\n")
    for name, content in zip(("a.csv.zip", "a.csv.gz"), bombs(), strict=True):
        lab.drop(name, content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lab.drain(120)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    assert grown < 300
    assert lab.rows("good") == [{"id": "1"}]
    assert ["it unpacks to more than" in reason for reason in lab.reasons()] == [True] * 2


def test_xml_is_linear_in_its_size() -> None:
    def calls(rows: int) -> int:
        content = b"<t>" + b"<row><a>1</a></row>" * rows + b"</t>"
        counted = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal counted
            counted += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            found = rows_of(".xml", content)
        finally:
            sys.setprofile(None)
        assert len(found) == rows
        return counted

    few = calls(1000)
    assert calls(8000) < 9 * few


def test_the_reader_of_a_workbook_that_says_nothing_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("producers.formats.isolation.SILENT_SECONDS", 0.1)
    with pytest.raises(UnreadableFile, match="no row of it could be read within"):
        rows_of(".xlsx", workbooks.xlsx_of("<row/>" * 500_000))
