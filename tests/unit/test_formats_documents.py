from __future__ import annotations

import io
import tracemalloc
import zipfile
from datetime import date, datetime
from typing import Any

import openpyxl
import pytest

from producers.formats import FORMATS, BadRow, Row
from producers.formats.row import UnreadableFile
from producers.formats.xml import XmlOptions


def read(suffix: str, content: bytes, **options: str | int) -> list[Row | BadRow]:
    form = FORMATS[suffix]
    found = form.read(io.BytesIO(content), form.options.model_validate(options))
    return [row._replace(line=0) for row in found]


def workbook(*rows: list[Any]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.worksheets[0].append(row)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


# JSON ----------------------------------------------------------------------------------------


def test_json_rows_keep_their_nested_values() -> None:
    content = b'\xef\xbb\xbf[{"id": 1, "contacts": [{"name": "\xc3\x91"}]}, 7, {"id": 2}]'
    assert read(".json", content) == [
        Row(1, {"id": 1, "contacts": [{"name": "Ñ"}]}),
        BadRow(2, b"7", "it is not a JSON object"),
        Row(3, {"id": 2}),
    ]
    assert read(".json", b'{"id": 1}') == [Row(1, {"id": 1})]
    assert read(".json", b"[]") == []


@pytest.mark.parametrize("content", [b"", b'[{"cuit": 1}, {"cuit"', b'[{"cuit": 1}] x', b"[,]"])
def test_half_json_is_refused_whole_without_a_word_of_it(content: bytes) -> None:
    with pytest.raises(UnreadableFile, match="it is not JSON") as refused:
        read(".json", content)
    assert "cuit" not in str(refused.value)


# XML -----------------------------------------------------------------------------------------


def test_xml_attributes_and_elements_become_columns() -> None:
    content = """<?xml version="1.0" encoding="ISO-8859-1"?>
      <shipments xmlns="urn:x"><!-- all of them -->
        <shipment id="S1" order_id="7"><carrier>Andreani ñ</carrier><delivered_on/></shipment>
        <shipment id="S2"><cost_ars currency="ARS">1.50</cost_ars></shipment>
      </shipments>""".encode(
        "latin-1"
    )
    assert read(".xml", content, row_element="shipment") == [
        Row(1, {"shipment_id": "S1", "order_id": "7", "carrier": "Andreani ñ", "delivered_on": ""}),
        Row(2, {"shipment_id": "S2", "cost_ars": "1.50", "cost_ars_currency": "ARS"}),
    ]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("<row><a>1</a><a>2</a></row>", "it says <a> twice"),
        ("<row><a><b>2</b></a></row>", "its element <a> is not a single text"),
        ("<row>loose<a>1</a></row>", "it has text between its elements"),
        ("<row><a>1</a>loose</row>", "it has text between its elements"),
    ],
)
def test_an_xml_row_that_is_no_row_costs_itself_alone(broken: str, reason: str) -> None:
    content = f"<t><row><a>0</a></row>{broken}<row><a>9</a></row></t>".encode()
    assert read(".xml", content, nested="reject") == [
        Row(1, {"a": "0"}),
        BadRow(2, broken.encode(), reason),
        Row(3, {"a": "9"}),
    ]


BOMB = b"""<!DOCTYPE t [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<t><row><x>&b;</x></row></t>"""
LEAK = b"""<!DOCTYPE t [<!ENTITY f SYSTEM "file:///etc/passwd">]><t><row><x>&f;</x></row></t>"""


@pytest.mark.parametrize("content", [BOMB, LEAK])
def test_xml_entities_are_refused(content: bytes) -> None:
    with pytest.raises(UnreadableFile, match="entities, which are refused"):
        read(".xml", content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not well-formed"),
        (b"<t><row><a>1</a></row>", "not well-formed"),
        (b'<?xml version="1.0" encoding="klingon"?><t/>', "not well-formed"),
        (b"<t><line/></t>", "no <row>"),
    ],
)
def test_xml_that_cannot_be_read_is_refused_whole(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        read(".xml", content)
    assert read(".xml", b"<t/>") == []


def test_xml_of_any_size_is_read_in_bounded_memory() -> None:
    content = b"<t>" + b"<row id='1'><a>some text</a><b>more text</b></row>\n" * 20_000 + b"</t>"
    tracemalloc.start()
    try:
        count = sum(1 for _ in FORMATS[".xml"].read(io.BytesIO(content), XmlOptions()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 4 << 20


# XLSX ----------------------------------------------------------------------------------------


def test_xlsx_cells_keep_their_types_below_a_title() -> None:
    content = workbook(
        ["Sales targets", None, None],
        [" month ", "category", "target", "at"],
        [date(2026, 1, 1), "Audio", 1234.5, datetime(2026, 1, 1, 10, 30)],
        [None, None, None],
        [date(2026, 2, 1), None, 7],
    )
    assert read(".xlsx", content, header_row=2) == [
        Row(
            1,
            {
                "month": "2026-01-01",
                "category": "Audio",
                "target": 1234.5,
                "at": "2026-01-01T10:30:00",
            },
        ),
        Row(2, {"month": "2026-02-01", "category": None, "target": 7, "at": None}),
    ]


def test_an_xlsx_cell_outside_the_columns_costs_its_row_alone() -> None:
    rows = read(".xlsx", workbook(["a", None, "c"], [1, "loose", 2], [1, None, 2], [1, None, 2, 3]))
    assert rows[:2] == [Row(1, {"a": 1, "column_2": "loose", "c": 2}), Row(2, {"a": 1, "c": 2})]
    assert [row.reason for row in rows if isinstance(row, BadRow)] == [
        "its cell 4 has no column name",
    ]


def test_an_xlsx_with_a_wrong_size_in_it_is_read_whole() -> None:
    content = _replace(workbook(["a", "b"], [1, 2], [3, 4]), b'ref="A1:B3"', b'ref="A1"')
    assert read(".xlsx", content) == [Row(1, {"a": 1, "b": 2}), Row(2, {"a": 3, "b": 4})]


def _replace(content: bytes, old: bytes, new: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(made, "w") as target:
        for part in source.namelist():
            text = source.read(part)
            if part == "xl/worksheets/sheet1.xml":
                assert old in text
                text = text.replace(old, new)
            target.writestr(part, text)
    return made.getvalue()


def test_what_is_no_workbook_is_refused_whole() -> None:
    sheet = workbook(["a", "b"], [1, 2])
    bomb = _replace(sheet, b"<worksheet", b'<!DOCTYPE w [<!ENTITY e "e">]><worksheet')
    broken: list[tuple[bytes, dict[str, Any], str]] = [
        (b"", {}, "not a workbook"),
        (b"a,b", {}, "not a workbook, but text"),
        (b"<html><table>", {}, "not a workbook, but HTML"),
        (sheet[: len(sheet) // 2], {}, "not a workbook"),
        (_replace(sheet, b"</row>", b"</wor>"), {}, "not an XLSX"),
        (bomb, {}, "not an XLSX"),
        (workbook(["a", "a"], [1, 2]), {"duplicates": "reject"}, "names a column twice"),
        (workbook(["only a title"]), {"header_row": 2}, "its header .row 2. is empty"),
    ]
    for content, options, reason in broken:
        with pytest.raises(UnreadableFile, match=reason):
            read(".xlsx", content, **options)
