"""What is wrong with the tables of a source of files, before anything is read."""

from __future__ import annotations

from collections.abc import Iterator

from lake.config import Section, Source, Table, nearest
from producers.base import Cursors, Problem
from producers.files.matching import pattern_problem
from producers.files.reading import suffixes
from producers.files.version import FileVersion, options_digest
from producers.formats import FORMATS, FileOptions


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


def changed_options(source: Source, cursors: Cursors) -> Iterator[Problem]:
    """Tables of which files were read with other options than those that are configured now."""
    for table, spec in source.tables.items():
        options = options_model(spec).model_validate(spec.options)
        assert isinstance(options, FileOptions)
        digest = options_digest(spec, options)
        versions = [
            version
            for key, cursor in cursors.items()
            if key.startswith(f"{table}:") and (version := FileVersion.load(cursor)) is not None
        ]
        count = sum(not version.read_with(digest) for version in versions)
        if count:
            files = "1 file is" if count == 1 else f"{count:,} files are"
            what = f"options of its reader, its key or its columns have changed: {files} read again"
            yield Problem(("tables", table), what, is_error=False)


def _types(table: str, spec: Table) -> Iterator[Problem]:
    """Columns of the key that the options say the file has not."""
    names = spec.options.get("names")
    if isinstance(names, list):
        for column in [*spec.key, *spec.columns]:
            if column not in names:
                where = "key" if column in spec.key else "columns"
                known = nearest(column, map(str, names))
                yield Problem(("tables", table, where), f"`names` has no column {column!r}{known}")
