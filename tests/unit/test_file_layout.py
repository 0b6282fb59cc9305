"""What `ducklake preview` proposes for messy text reads it: titles above, no header, row names."""

from __future__ import annotations

import io
from typing import Any

import pytest

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
