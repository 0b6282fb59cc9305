"""What cells of workbooks say, of every kind of workbook: values, errors, formulas, dates."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
import xlwt

from producers.formats import FORMATS, BadRow, Row, UnreadableFile
from tests.unit import workbooks

CALC = 'xmlns:calcext="urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0"'
ODS_HEAD = (
    '<table:table-row><table:table-cell office:value-type="string"><text:p>v</text:p>'
    "</table:table-cell></table:table-row>"
)


def rows_of(suffix: str, content: bytes, **options: Any) -> list[Row | BadRow]:
    form = FORMATS[suffix]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("producers.formats.spreadsheet.isolated_lines", workbooks.in_this_process)
        return list(form.read(io.BytesIO(content), form.options.model_validate(options)))


def values(rows: list[Row | BadRow]) -> list[Any]:
    """The value of the only column, or why there is none."""
    return [row.values["v"] if isinstance(row, Row) else row.reason for row in rows]


def xlsx(*cells: str, **more: str) -> list[Row | BadRow]:
    """Cells of one column below its name."""
    rows = "".join(f"<row>{cell}</row>" for cell in cells)
    head = '<row><c t="inlineStr"><is><t>v</t></is></c></row>'
    return rows_of(".xlsx", workbooks.xlsx_of(head + rows, **more))


def xls(*cells: tuple[Any, str], since_1904: bool = False) -> list[Row | BadRow]:
    """Cells with their formats, of one column below its name."""
    book = xlwt.Workbook()
    book.dates_1904 = since_1904
    sheet = book.add_sheet("s")
    sheet.write(0, 0, "v")
    for y, (cell, style) in enumerate(cells, 1):
        if isinstance(cell, bytes):
            sheet.row(y).set_cell_error(0, cell[0])
        else:
            sheet.write(y, 0, cell, xlwt.easyxf(num_format_str=style or "General"))
    made = io.BytesIO()
    book.save(made)
    return rows_of(".xls", made.getvalue())


def xlsb(*cells: tuple[int, bytes], styles: bytes | None = None) -> list[Row | BadRow]:
    """Cells by their kind of record, of one column below its name."""
    head = struct.pack("<2I", 0, 1 if styles else 0)
    data = workbooks.record(0, struct.pack("<I", 0) + b"\0" * 13)
    data += workbooks.record(6, head[:4] + b"\0" * 4 + workbooks.wide("v"))
    for y, (kind, content) in enumerate(cells, 1):
        data += workbooks.record(0, struct.pack("<I", y) + b"\0" * 13)
        data += workbooks.record(kind, head + content)
    return rows_of(".xlsb", workbooks.xlsb_of(data, (len(cells) + 1, 1), styles=styles))


def ods(*cells: str) -> list[Row | BadRow]:
    """Cells of one column below its name."""
    rows = "".join(f"<table:table-row>{cell}</table:table-row>" for cell in cells)
    return rows_of(".ods", workbooks.ods_of(ODS_HEAD + rows))


def ods_cell(attributes: str, shown: str = "") -> str:
    return f"<table:table-cell {CALC} {attributes}>{shown}</table:table-cell>"


# Errors and formulas ------------------------------------------------------------------------------


def test_an_error_in_a_cell_is_its_text_in_every_kind_of_workbook() -> None:
    number = b"\0" * 10
    of_xlsx = xlsx('<c t="e"><v>#DIV/0!</v></c>', '<c t="e"><f>NA()</f><v>#N/A</v></c>')
    of_ods = ods(
        ods_cell('office:value-type="string" calcext:value-type="error"', "<text:p>#N/A</text:p>"),
        ods_cell(
            'table:formula="of:=1/0" office:value-type="string" office:string-value=""'
            ' calcext:value-type="error"',
            "<text:p>#DIV/0!</text:p>",
        ),
    )
    assert values(of_xlsx) == ["#DIV/0!", "#N/A"]
    assert values(xls((b"\x07", ""), (b"\x2a", ""))) == ["#DIV/0!", "#N/A"]
    assert values(xlsb((3, b"\x07"), (11, b"\x2a" + number))) == ["#DIV/0!", "#N/A"]
    assert values(of_ods) == ["#N/A", "#DIV/0!"]


def test_a_formula_without_a_value_costs_its_row_in_every_kind_of_workbook() -> None:
    unsaid = "its cell A2 is a formula without a stored value"
    for rows in (
        xlsx("<c><f>1+1</f></c>", "<c><v>7</v></c>"),
        xlsx("<c><f>1+1</f><v/></c>", "<c><v>7</v></c>"),
        xls((xlwt.Formula("1+1"), ""), (7, "")),
        ods(
            ods_cell('table:formula="of:=1+1"'),
            ods_cell('office:value-type="float" office:value="7"'),
        ),
    ):
        found, seven = values(rows)
        assert found.startswith(unsaid) and seven == 7


def test_a_formula_whose_value_is_an_empty_text_is_none_that_lacks_a_value() -> None:
    empty = "<text:p></text:p>"
    seven = "<c><f>3+4</f><v>7</v></c>"
    assert values(xlsx('<c t="str"><f>""</f><v></v></c>', seven)) == [7]
    assert (
        values(ods(ods_cell('table:formula="of:=&quot;&quot;" office:value-type="string"', empty)))
        == []
    )
    assert values(xlsb((8, workbooks.wide("") + b"\0" * 10), (6, workbooks.wide("x")))) == ["x"]


def test_a_zero_that_stands_for_a_value_to_be_calculated_costs_its_row() -> None:
    # So XlsxWriter writes formulas, of which it calculates none.
    cells = ["<c><f>1+1</f><v>0</v></c>", "<c><v>0</v></c>", "<c><f>1+1</f><v>2</v></c>"]
    first, *others = values(xlsx(*cells, book='<calcPr fullCalcOnLoad="1"/>'))
    assert "is a formula without a stored value" in first and others == [0, 2]
    assert values(xlsx(*cells, book='<calcPr calcId="191029"/>')) == [0, 0, 2]


# Dates --------------------------------------------------------------------------------------------

SERIALS: dict[float, str] = {
    1: "1900-01-01",
    59: "1900-02-28",
    60: "1900-02-29",
    60.5: "1900-02-29T12:00:00",
    61: "1900-03-01",
    45292.25: "2024-01-01T06:00:00",
    2958465: "9999-12-31",
    0.5: "12:00:00",
}
NO_DATES = (-1, -0.25, 2958466, 1e10)


def test_every_day_of_a_spreadsheet_is_another_one() -> None:
    assert values(xlsx(*(f'<c s="1"><v>{n}</v></c>' for n in SERIALS))) == [*SERIALS.values()]
    assert values(xls(*((n, "yyyy-mm-dd") for n in SERIALS))) == [*SERIALS.values()]
    reals = [(5, struct.pack("<d", n)) for n in SERIALS]
    assert values(xlsb(*reals, styles=workbooks.xlsb_styles(14))) == [*SERIALS.values()]


def test_a_number_that_is_no_date_costs_its_row_and_is_named() -> None:
    found = values(xlsx(*(f'<c s="1"><v>{n}</v></c>' for n in NO_DATES), '<c s="1"><v>1</v></c>'))
    also = values(xls(*((n, "yyyy-mm-dd") for n in NO_DATES), (1, "yyyy-mm-dd")))
    for reasons in (found, also):
        assert reasons[-1] == "1900-01-01"
        assert all("is shown as a date, and" in reason for reason in reasons[:-1])
    below = [(5, struct.pack("<d", -1.0)), (5, struct.pack("<d", 1.0))]
    reason, good = values(xlsb(*below, styles=workbooks.xlsb_styles(14)))
    assert "its cell A2 is shown as a date, and -1.0 is none" in reason and good == "1900-01-01"


def test_days_since_1904_have_no_gap() -> None:
    book = '<workbookPr date1904="1"/>'
    cells = [(0.5, "yyyy-mm-dd"), (60, "yyyy-mm-dd"), (43830, "yyyy-mm-dd")]
    expected = ["12:00:00", "1904-03-01", "2024-01-01"]
    assert values(xls(*cells, since_1904=True)) == expected
    assert values(xlsx(*(f'<c s="1"><v>{n}</v></c>' for n, _ in cells), book=book)) == expected


def test_durations_keep_their_hours_in_every_kind_of_workbook() -> None:
    expected = ["30:05:06", "-00:05:06", "02:00:00.250000"]
    days = [(30 * 3600 + 306) / 86400, -306 / 86400, 7200.25 / 86400]
    assert values(xlsx(*(f'<c s="3"><v>{n!r}</v></c>' for n in days))) == expected
    assert values(xls(*((n, "[h]:mm:ss") for n in days))) == expected
    said = ("PT30H05M06S", "-PT05M06S", "PT02H00M00.25S")
    cells = (ods_cell(f'office:value-type="time" office:time-value="{t}"') for t in said)
    assert values(ods(*cells)) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("2024-01-02", "2024-01-02"),
        ("2024-01-02T00:00:00", "2024-01-02"),
        ("2024-01-02T03:04:05.999999995", "2024-01-02T03:04:06"),  # a double says it so
        ("2024-01-02T03:04:05.250000000", "2024-01-02T03:04:05.250000"),
        ("2024-01-02T03:04:05.123456789", "2024-01-02T03:04:05.123456789"),
        ("10000-01-02", "10000-01-02"),
    ],
)
def test_dates_of_open_documents_keep_what_they_say(said: str, expected: str) -> None:
    assert values(ods(ods_cell(f'office:value-type="date" office:date-value="{said}"'))) == [
        expected
    ]


# Texts, sheets, and what is odd -------------------------------------------------------------------


def test_texts_keep_their_line_breaks_and_what_xml_cannot_have() -> None:
    text = "a<text:s text:c='2'/>b<text:tab/>c<text:line-break/>d<text:span>e</text:span>"
    note = "<office:annotation><text:p>who</text:p></office:annotation>"
    assert values(
        ods(ods_cell('office:value-type="string"', f"{note}<text:p>{text}</text:p>"))
    ) == ["a  b\tc\nde"]
    strings = "<si><t>a_x000D_b</t></si><si><t>_x005F_x000D_</t></si><si><t>x005F_</t></si>"
    cells = [f'<c t="s"><v>{n}</v></c>' for n in range(3)]
    assert values(xlsx(*cells, strings=strings)) == ["a\rb", "_x000D_", "x005F_"]


def test_a_moment_keeps_its_time_zone() -> None:
    said = ("2024-01-02T03:04:05Z", "2024-01-02T00:00:00Z", "2024-01-02T03:04:05")
    assert values(xlsx(*(f'<c t="d"><v>{text}</v></c>' for text in said))) == list(said)


def test_a_sheet_that_is_a_chart_is_named_and_does_not_count() -> None:
    content = workbooks.xlsx_of(
        "<row><c><v>1</v></c></row><row><c><v>2</v></c></row>", part="chart"
    )
    assert [row.values for row in rows_of(".xlsx", content) if isinstance(row, Row)] == [{"1": 2}]
    with pytest.raises(UnreadableFile, match="its sheet 'Chart' is a chart, and has no cells"):
        rows_of(".xlsx", content, sheet="Chart")


@pytest.mark.parametrize(
    "part", ["docProps/core.xml", "xl/theme/theme1.xml", "xl/chartsheets/x.xml"]
)
def test_a_part_that_nobody_needs_costs_nothing(part: str) -> None:
    assert values(xlsx("<c><v>1</v></c>", part=part)) == [1]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("<c><v>x</v></c>", "its cell A2 is a number, and holds none"),
        ("<c><v>1e400</v></c>", "its cell A2 is a number that is too large"),
        ('<c s="x"><v>1</v></c>', "its cell A2 is a number, and holds none"),
        ('<c t="b"><v>7</v></c>', "its cell A2 is of the type 'b'"),
        ('<c t="s"><v>99</v></c>', "its cell A2 is of the type 's'"),
        ('<c t="d"><v>2024-13-01</v></c>', "its cell A2 is of the type 'd'"),
        ('<c r="A2"><v>1</v></c><c r="A2"><v>2</v></c>', "its cell A2 stands there twice"),
    ],
)
def test_a_cell_that_holds_nothing_of_its_type_costs_its_row(cell: str, reason: str) -> None:
    found, seven = values(xlsx(cell, "<c><v>7</v></c>"))
    assert found.startswith(reason) and seven == 7


def test_cells_and_rows_that_are_out_of_order_are_not_dropped() -> None:
    cells = '<c r="B1" t="str"><v>b</v></c><c r="A1" t="str"><v>a</v></c>'
    rows = f'<row r="1">{cells}</row><row r="2"><c r="B2"><v>2</v></c><c r="A2"><v>1</v></c></row>'
    [row] = rows_of(".xlsx", workbooks.xlsx_of(rows))
    assert isinstance(row, Row) and row.values == {"a": 1, "b": 2}
    back = rows + '<row r="2"><c r="A2"><v>3</v></c></row>'
    with pytest.raises(UnreadableFile, match="its row 2 stands below its row 2"):
        rows_of(".xlsx", workbooks.xlsx_of(back))


def test_rows_that_are_said_once_and_repeated_are_all_there() -> None:
    cell = ods_cell('office:value-type="float" office:value="1"')
    repeated = f'<table:table-row table:number-rows-repeated="3">{cell}</table:table-row>'
    far = '<table:table-row table:number-rows-repeated="1048576"/>'
    assert values(rows_of(".ods", workbooks.ods_of(ODS_HEAD + repeated + far))) == [1, 1, 1]
    wide = ods_cell(
        'table:number-columns-repeated="16000" office:value-type="float" office:value="1"'
    )
    bomb = f'<table:table-row table:number-rows-repeated="1048576">{wide}</table:table-row>'
    with pytest.raises(UnreadableFile, match="it repeats rows to more than 1024 MB"):
        rows_of(".ods", workbooks.ods_of(ODS_HEAD + bomb))


def test_an_open_document_with_a_password_or_entities_is_refused_by_name() -> None:
    with pytest.raises(UnreadableFile, match="it has a document type"):
        rows_of(".ods", workbooks.ods_of(ODS_HEAD, head='<!DOCTYPE a [<!ENTITY e "x">]>'))
    locked = workbooks.packed(
        {"META-INF/manifest.xml": b"<manifest:encryption-data/>", "content.xml": b"\x07"}
    )
    with pytest.raises(UnreadableFile, match="it is protected by a password"):
        rows_of(".ods", locked)
