"""Several tables in one delimited text: where each is, and the options that read it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from producers.files.layout import csv_reader, is_data, layout, lines_of

MOST_FOOTER_ROWS = 1000
_NAMED_COLUMNS = 6


@dataclass(slots=True)
class _Part:
    """Rows without a blank one between them, or a table with what follows it."""

    first: int
    last: int
    rows: list[Sequence[str]] = field(default_factory=list)


def described(
    text: str, delimiter: str, quote: str, escape: str | None, is_whole: bool
) -> tuple[dict[str, Any], list[str]]:
    """Options that read the largest table of a text, and what was found, in words.

    Args:
        text: The beginning of the file.
        delimiter: One character; several are not looked at.
        quote: May be empty.
        escape: None for none.
        is_whole: Whether it is the whole file. Else the last table is proposed: it goes on.
    """
    parts = _parts(text, delimiter, quote, escape) if len(delimiter) == 1 else []
    tables = _tables(parts)
    if len(tables) < 2:
        found = layout(text, delimiter, quote, escape)
        return found, _above(found)
    lines = lines_of(text)
    options: list[dict[str, Any]] = []
    notes = [f"It holds {len(tables)} tables; of one file, one is read. Keep the others apart."]

    def is_blank(line: str) -> bool:
        return delimiter in line and not line.replace(delimiter, "").strip()

    for table in tables:
        own = layout("".join(lines[table.first - 1 : table.last]), delimiter, quote, escape)
        own["skip_top"] = own.get("skip_top", 0) + table.first - 1
        footer = sum(len(part.rows) for part in parts if part.first > table.last)
        if footer:
            own["skip_bottom"] = footer
        if any(map(is_blank, lines[table.first - 1 :])):
            own["blank_rows"] = "skip"
        own = {name: value for name, value in own.items() if value}
        options.append(own)
        notes.append(_said(table, own, footer, is_whole))
    if not is_whole:
        return options[-1], notes
    fitting = [n for n, own in enumerate(options) if own.get("skip_bottom", 0) <= MOST_FOOTER_ROWS]
    return options[max(fitting, key=lambda n: len(tables[n].rows))], notes


def _above(found: dict[str, Any]) -> list[str]:
    if "skip_top" not in found:
        return []
    lines = found["skip_top"]
    return [f"Lines 1 to {lines} hold no rows of the table; `skip_top: {lines}` leaves them out."]


def _said(table: _Part, own: dict[str, Any], footer: int, is_whole: bool) -> str:
    names = ", ".join(cell.strip() for cell in table.rows[0][:_NAMED_COLUMNS])
    more = ", …" if len(table.rows[0]) > _NAMED_COLUMNS else ""
    where = f"Lines {table.first} to {table.last}: {names}{more} ({len(table.rows) - 1:,} rows)."
    if footer > MOST_FOOTER_ROWS or (footer and not is_whole):
        return f"{where} No options read it alone: too much follows."
    said = ", ".join(f"{name}: {value}" for name, value in own.items())
    return f"{where} {f'`{said}` read it.' if said else 'The default options read it.'}"


def _parts(text: str, delimiter: str, quote: str, escape: str | None) -> list[_Part]:
    """Rows between blank ones, and between those that are a title alone."""
    reader = csv_reader(text, delimiter, quote, escape)
    parts: list[_Part] = []
    before, is_open = 0, False
    try:
        for cells in reader:
            filled = sum(bool(cell.strip()) for cell in cells)
            if not filled:
                is_open = False
            else:
                if not is_open or filled == 1:
                    parts.append(_Part(before + 1, 0))
                parts[-1].rows.append(cells)
                parts[-1].last = reader.line_num
                is_open = filled > 1
            before = reader.line_num
    except csv.Error:
        return []
    return parts


def _tables(parts: Sequence[_Part]) -> list[_Part]:
    """Those that begin with names of their own; what begins otherwise goes on with the last one."""
    tables: list[_Part] = []
    titles: list[_Part] = []
    for part in parts:
        if _begins_a_table(part) and (not tables or _differs(part, tables[-1])):
            tables.append(_Part(part.first, part.last, list(part.rows)))
            titles = []  # they were above it, and are of no table
            continue
        titles.append(part)
        if tables and sum(bool(cell.strip()) for cell in part.rows[0]) > 1:
            for more in titles:
                tables[-1].rows += more.rows
                tables[-1].last = more.last
            titles = []
    return tables


def _begins_a_table(part: _Part) -> bool:
    header, *body = part.rows
    names = [cell.strip() for cell in header]
    if len(names) > 1 and not names[-1]:
        names.pop()
    return (
        len(names) > 1
        and bool(body)
        and all(names)
        and len(set(names)) == len(names)
        and not any(map(is_data, names))
        and all(len(row) in (len(names), len(header)) for row in body)
    )


def _differs(part: _Part, last: _Part) -> bool:
    """Whether its first row is a header, and no further row of the table above."""
    header, *body = part.rows
    if [*header] == [*last.rows[0]]:
        return False
    if len(header) != len(last.rows[0]):
        return True
    return any(
        all(is_data(row[n]) for row in rows if n < len(row))
        for rows in (body, last.rows[1:])
        for n in range(len(header))
    )
