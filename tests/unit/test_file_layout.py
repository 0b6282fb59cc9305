"""What `ducklake preview` proposes for messy text reads it: titles above, no header, row names."""

from __future__ import annotations

import io
from typing import Any

import pytest
import yaml

from lake.config import Table
from producers.files.checks import options_model
from producers.files.preview import preview
from producers.files.reading import FileForm, file_rows
from producers.formats import BadRow

ROWS = "".join(f"{n},{n / 8},word {n}\n" for n in range(1, 30))
MESSY: dict[str, tuple[str, dict[str, Any], list[str], int]] = {
    "a plain header": ("id,rate,word\n" + ROWS, {}, ["id", "rate", "word"], 29),
    "titles above the header": (
        "Report of March,\n,\n\nid,rate,word\n" + ROWS,
        {"skip_top": 3},
        ["id", "rate", "word"],
        29,
    ),
    "a title with a comma": (
        "Created by the plant, on Monday\nid,rate,word\n" + ROWS,
        {"skip_top": 1},
        ["id", "rate", "word"],
        29,
    ),
    "no header": (
        ROWS,
        {"names": ["column_1", "column_2", "column_3"]},
        ["column_1", "column_2", "column_3"],
        29,
    ),
    "no header and dates": (
        "".join(f"2026-01-{n:02d},{n}:15,{n},x\n" for n in range(1, 20)),
        {"names": [f"column_{n}" for n in range(1, 5)]},
        [f"column_{n}" for n in range(1, 5)],
        19,
    ),
    "years as names": (
        "country,2023,2024,2025\n" + "".join(f"c{n},1,2,3\n" for n in range(9)),
        {},
        ["country", "2023", "2024", "2025"],
        9,
    ),
    "names of rows, as R writes them": (
        '"x","x"\n"one","1","2"\n"two","3","4"\n',
        {"names": ["row", "x", "x_2"], "skip_top": 1},
        ["row", "x", "x_2"],
        2,
    ),
    "a blank after the last delimiter": (
        'id;word\n1;one;\n2;two;"\n"\n',
        {"delimiter": ";"},
        ["id", "word"],
        2,
    ),
    "blocks of other widths": (
        "id,word\n1,one\n2,two\n3,three,more,and more\n4\n5,five\n",
        {"ragged": "keep"},
        ["id", "word"],
        5,
    ),
    "blank rows between and below": (
        "id,rate,word\n1,2,x\n,,\n3,4,y\n , ,\n,,\n",
        {"blank_rows": "skip"},
        ["id", "rate", "word"],
        2,
    ),
    "groups above the names": (
        "Who,Travel,,Other\n,Air,Rail,\n" + "".join(f"w{n},,{n},x\n" for n in range(9)),
        {"header_rows": 2},
        ["Who", "Travel Air", "Travel Rail", "Other"],
        9,
    ),
    "groups of groups, and a blank row below": (
        "Report,,,,,\nUnit,Staff,,,,Cost\n,Junior,,Senior,,\n,Heads,Time,Heads,Time,\n,,,,,\n"
        + "".join(f"u{n},1,2,3,4,5\n" for n in range(9)),
        {"skip_top": 1, "header_rows": 3, "blank_rows": "skip"},
        ["Unit", "Staff Junior Heads", "Staff Junior Time", "Staff Senior Heads"],
        9,
    ),
    "a note below a name": (
        "Unit,Heads,Total\n,,Restated\n" + "".join(f"u{n},1,2\n" for n in range(9)),
        {"header_rows": 2},
        ["Unit", "Heads", "Total Restated"],
        9,
    ),
    "a first row that is no name": (
        "id,,name\n,x,y\n1,a,b\n2,c,d\n3,e,f\n",
        {},
        ["id", "column_2", "name"],
        4,
    ),
    "text alone": ("name,word\nann,one\nbob,two\n", {}, ["name", "word"], 2),
}


@pytest.mark.parametrize("kind", MESSY)
def test_what_is_proposed_reads_the_whole_file(kind: str) -> None:
    text, options, columns, count = MESSY[kind]
    content = io.BytesIO(text.encode())
    found = preview("a.csv", content, len(text), Table(file="a.csv"), True)
    assert {name: found.options.get(name) for name in options} == options
    assert set(found.options) <= {*options, "quote", "escape"}
    spec = Table(file="a.csv", options=found.options)
    form = FileForm.of(spec, options_model(spec).model_validate(found.options))  # type: ignore[arg-type]
    rows = list(file_rows(form, content, len(text)))
    assert not any(isinstance(row, BadRow) for row in rows) and len(rows) == count
    assert list(rows[0].values)[: len(columns)] == columns  # type: ignore[union-attr]


SALES = "id,amount\n" + "".join(f"{n},{n}.50\n" for n in range(1, 8))
SHOPS = "code,city,since\nA1,Salta,2024-01-02\nB2,Rosario,2025-03-04\n"


@pytest.mark.parametrize(
    ("text", "wanted", "columns", "count"),
    [
        (f"{SALES}\n{SHOPS}", {"skip_bottom": 3}, ["id", "amount"], 7),
        (f"{SALES},,\n{SHOPS}", {"skip_bottom": 3}, ["id", "amount"], 7),
        (f"{SHOPS}\nSales of May\n\n{SALES}", {"skip_top": 6}, ["id", "amount"], 7),
        (f"{SHOPS}Sales\n{SALES}\nThe end\n", {"skip_top": 4}, ["id", "amount"], 7),
    ],
)
def test_several_tables_are_named_and_the_largest_is_proposed(
    text: str, wanted: dict[str, int], columns: list[str], count: int
) -> None:
    found = preview("a.csv", io.BytesIO(text.encode()), len(text), Table(file="a.csv"), True)
    assert {name: found.options.get(name) for name in wanted} == wanted
    assert list(found.columns) == columns and found.looked_at == count and not found.rejects
    first, *each = found.notes
    assert first.startswith("It holds 2 tables") and len(each) == 2
    for note in each:  # what it says of each table reads that table
        said = yaml.safe_load("{" + note.partition("`")[2].partition("`")[0] + "}")
        spec = Table(file="a.csv", options=said)
        rows = preview("a.csv", io.BytesIO(text.encode()), len(text), spec, False)
        names = "id, amount" if "id, amount" in note else "code, city, since"
        assert list(rows.columns) == names.split(", ") and not rows.rejects, note
        assert rows.looked_at == (7 if names == "id, amount" else 2)


def test_lines_above_a_table_are_told() -> None:
    text = f"Report of May\nmade by,ann\n\n{SHOPS.replace('code', 'id')}"
    found = preview("a.csv", io.BytesIO(text.encode()), len(text), Table(file="a.csv"), True)
    assert found.options["skip_top"] == 3 and list(found.columns) == ["id", "city", "since"]
    assert found.notes == ["Lines 1 to 3 hold no rows of the table; `skip_top: 3` leaves them out."]


@pytest.mark.parametrize("kind", MESSY)
def test_one_table_is_not_taken_for_several(kind: str) -> None:
    text = MESSY[kind][0]
    found = preview("a.csv", io.BytesIO(text.encode()), len(text), Table(file="a.csv"), True)
    assert not any("tables" in note for note in found.notes)
