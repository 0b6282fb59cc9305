"""What is wrong with the tables of a source of files, before anything is read."""

from __future__ import annotations

from collections.abc import Iterator

from lake.config import Section, Source, Table, nearest
from producers.base import Problem
from producers.files.matching import pattern_problem
from producers.files.reading import suffixes
from producers.formats import FORMATS


def options_model(spec: Table) -> type[Section]:
    """The model of a table's options: that of its format."""
    return FORMATS[suffixes(spec)[0]].options


def file_problems(source: Source) -> Iterator[Problem]:
    """Tables whose files cannot be found, or not be read."""
    for table, spec in source.tables.items():
        at = ("tables", table, "file")
        known = ", ".join(FORMATS)
        if not spec.file:
            yield Problem(at, f"it is missing: name a file that ends in {known}")
            continue
        if (problem := pattern_problem(spec.file)) is not None:
            yield Problem(at, problem)
        suffix, packing = suffixes(spec)
        if spec.options.get("format") and suffix not in FORMATS:
            said = str(spec.options["format"])
            near = nearest(said, [name.lstrip(".") for name in FORMATS])
            yield Problem(("tables", table, "options", "format"), f"unknown format {said!r}{near}")
        elif suffix not in FORMATS:
            hint = "; or name the format in `options.format`"
            yield Problem(at, f"{spec.file!r} has no known format; known: {known}{hint}")
        elif spec.options.get("mode") == "append" and (packing or not FORMATS[suffix].has_lines):
            yield Problem(
                ("tables", table, "options", "mode"),
                "only a text file of lines that is not packed can be read as it grows",
            )
        yield from _types(table, spec)


def _types(table: str, spec: Table) -> Iterator[Problem]:
    """Columns of the key that the options say the file has not."""
    names = spec.options.get("names")
    if isinstance(names, list):
        for column in [*spec.key, *spec.columns]:
            if column not in names:
                where = "key" if column in spec.key else "columns"
                known = nearest(column, map(str, names))
                yield Problem(("tables", table, where), f"`names` has no column {column!r}{known}")
