"""The dbt project of a lake: for each table a source, a tested model, and a history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ducklake.projects.found import FoundTable
from ducklake.projects.history import history_sql
from ducklake.projects.names import in_jinja, in_sql, in_yaml

FOLDER = "dbt"
_TEMPLATE = Path(__file__).with_name("template")


def project_files(name: str) -> Iterator[tuple[str, str]]:
    """(path within the project, text) of what it has once.

    Args:
        name: The lake's name.
    """
    for file in sorted(_TEMPLATE.rglob("*.*")):
        text = file.read_text(encoding="utf-8").replace("LAKE_NAME", name)
        yield file.relative_to(_TEMPLATE).as_posix(), text


def table_files(table: FoundTable, relation: str, history: bool) -> Iterator[tuple[str, str]]:
    """(path within the project, text) of a table's source and models.

    Args:
        table: The table.
        relation: Its name in the schema raw.
        history: Whether its versions become a model, too.
    """
    staging, model = "models/staging", f"stg_{relation}"
    has_model = bool(table.key_columns and table.fields)
    yield f"{staging}/{model}.yml", _source(table, relation) + (
        _staging_yaml(table, model) if has_model else ""
    )
    if has_model:
        yield f"{staging}/{model}.sql", _staging_sql(table, relation)
    if history and table.has_history:
        name = f"{relation}_history"
        yield f"models/history/{name}.yml", _history_yaml(table, name)
        yield f"models/history/{name}.sql", history_sql(table, relation)


def _source(table: FoundTable, relation: str) -> str:
    description = in_yaml(_unrendered(f"{table.origin}; every version of every row."))
    return (
        "version: 2\n\nsources:\n  - name: raw\n    schema: raw\n    tables:\n"
        f"      - name: {in_yaml(relation)}\n        description: {description}\n"
    )


def _staging_sql(table: FoundTable, relation: str) -> str:
    source = f"source('raw', {in_jinja(relation)})"
    rows = (
        f"newest_files({source})"
        if table.kind == "files"
        else f"dbt_ducklake.latest_version({source}, {_key_argument(table)})"
    )
    own = [name for name in table.key_columns if name not in table.columns.values()]
    columns = _listed([*own, *table.columns.values()])
    return (
        "with\n\nsource as (\n\n    {{ " + rows + " }}\n\n),\n\nrenamed as (\n\n    select\n"
        f"{columns}\n    from source\n\n)\n\nselect * from renamed\n"
    )


def _key_argument(table: FoundTable) -> str:
    """The key as an argument of `latest_version`: SQL, in which names are quoted."""
    quoted = ('"' + name.replace('"', '""') + '"' for name in table.key_columns)
    return in_jinja(", ".join(quoted))


def _listed(columns: Sequence[str]) -> str:
    return ",\n".join(f"        {in_sql(name)}" for name in columns)


def _staging_yaml(table: FoundTable, model: str) -> str:
    what = "The rows of the newest version of" if table.kind == "files" else "The current rows of"
    return _model_yaml(model, f"{what} {table.origin}.", table.key_columns, ())


def _model_yaml(
    model: str, description: str, key: Sequence[str], more: Sequence[tuple[str, str]]
) -> str:
    """A model with its key, by which it is tested, and descriptions of more columns."""
    lines = [
        "",
        "models:",
        f"  - name: {model}",
        f"    description: {in_yaml(_unrendered(description))}",
        "    config:",
        "      meta:",
        f"        primary_key: {in_yaml(list(key))}",
    ]
    if len(key) > 1:
        lines += [
            "    data_tests:",
            "      - unique_combination:",
            "          arguments:",
            f"            columns: {in_yaml(list(key))}",
        ]
    lines.append("    columns:")
    for name in key:
        lines += [f"      - name: {in_yaml(name)}", "        quote: true"]
        lines += ["        data_tests:", *(["          - unique"] if len(key) == 1 else [])]
        lines.append("          - not_null")
    for name, text in more:
        lines += [f"      - name: {name}", f"        description: {text}"]
    return "\n".join(lines) + "\n"


def _history_yaml(table: FoundTable, name: str) -> str:
    more = [
        ("version", "Counts the versions of a row, from 1."),
        ("valid_from", "When the source committed this version; of a first reading, when it was."),
        ("valid_to", "When the next version followed, or the row was deleted; NULL for what is."),
        ("is_current", "Whether this is how the row is now."),
    ]
    description = f"Every version of the rows of {table.origin}, and from when to when it held."
    text = _model_yaml(name, description, (*table.key_columns, "version"), more[1:])
    return "version: 2\n" + text


def _unrendered(text: str) -> str:
    """A description as dbt will not render it."""
    return text.replace("{", "(").replace("}", ")")
