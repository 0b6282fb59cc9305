"""`ducklake.yml` from text to settings: environment, lines, and every error with its line."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lake.config.files import with_files_of_services
from lake.config.project import Config
from lake.config.relations import name_collisions
from lake.config.secrecy import names_a_secret
from lake.config.settings import Settings
from lake.config.suggestions import Place, explain, place_of, sentence
from lake.config.table_names import WrongName, name_tables
from lake.config.trust import assert_believed
from lake.errors import ConfigError

CONFIG_NAME = "ducklake.yml"
_INTERPOLATION = re.compile(
    r"(?<!\$)\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*?))?\}$"
)


def find_config(start: Path | None = None) -> Path:
    """Find `ducklake.yml`: `DUCKLAKE_CONFIG`, else here or in a folder above.

    One that is named is believed; one that is found must be of this user or of root.

    Raises:
        ConfigError: There is none, or the nearest one is another user's.
    """
    named = os.environ.get("DUCKLAKE_CONFIG")
    if named:
        return Path(named).expanduser().absolute()
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        found = folder / CONFIG_NAME
        if found.is_file():
            remedy = f"If you trust it, name it: `--config {shlex.quote(str(found))}`."
            assert_believed(found, "the configuration", remedy)
            return found
    raise ConfigError(
        f"No {CONFIG_NAME} in {here} or above.",
        "Make one with `ducklake init`, or name one with --config or DUCKLAKE_CONFIG.",
    )


def load_config(path: Path | None = None) -> Config:
    """Read and validate the configuration.

    What only a connector knows (its options, the keys of its connection) it validates itself.

    Args:
        path: The file; None looks for it (`find_config`).

    Raises:
        ConfigError: It cannot be read, or a value is wrong; names the line and the remedy.
    """
    path = path.expanduser().absolute() if path else find_config()
    lines: dict[Place, int] = {}
    raw = _parse(path, lines)
    _refuse_plain_secrets(raw, lines, path.name)
    data = _interpolate(raw, (), lines, path.name)
    _name_tables(data, lines, path.name)
    try:
        settings = Settings(**data)
    except ValidationError as error:
        raise ConfigError(explain(error, Settings, (), lines, path.name)) from None
    config = Config(with_files_of_services(path.parent, settings), path, lines)
    for collision in name_collisions(settings.relations):
        at = ("sources", collision.ref.source, "tables", collision.ref.table)
        raise config.error(at, collision.what, "Give one of them another name.")
    _check_live(config)
    return config


def _check_live(config: Config) -> None:
    """Refuse live figures of tables that there are not."""
    if (live := config.settings.live) is None:
        return
    keys = {ref.topic: table.key for ref, table in config.tables()}
    said = [config.problem(("live", *at), what) for at, what in live.problems(keys)]
    if said:
        raise ConfigError("\n".join(said))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `ducklake.yml`, for editors."""
    return Settings.model_json_schema()


def _name_tables(data: dict[str, Any], lines: dict[Place, int], name: str) -> None:
    """Give MySQL's tables their names in the lake, and their lines under these names."""
    said = []
    for found in list(name_tables(data.get("sources"))):
        if isinstance(found, WrongName):
            where = f"{place_of(found.at, lines, name)}: {'.'.join(found.at)}"
            said.append(f"{sentence(f'{where}: {found.what}')} {found.remedy}")
            continue
        at, new = found
        for place, line in list(lines.items()):
            if place[: len(at)] == at:
                lines[(*at[:-1], new, *place[len(at) :])] = line
    if said:
        raise ConfigError("\n".join(said))


class _Loader(yaml.SafeLoader):
    """Takes keys as they are written: `2020_01`, `on` and `null` are names of tables, too."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        return {
            str(key.value): self.construct_object(value, deep=True) for key, value in node.value
        }


def _parse(path: Path, lines: dict[Place, int]) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}.", "Name another file with --config."
        ) from None
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is not None:
            _note_lines(node, (), lines)
        raw = yaml.load(text, _Loader) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise ConfigError(f"{path.name}{where}: {problem}.", "Fix the YAML there.") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path.name}: expected keys at the top level.", "See the README.")
    return raw


def _note_lines(node: yaml.Node, at: Place, lines: dict[Place, int]) -> None:
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            here = (*at, str(key.value))
            if here[-1] in seen:  # YAML itself would take the last one without a word
                raise yaml.MarkedYAMLError(
                    problem=f"{'.'.join(here)} stands twice, first in line {seen[here[-1]]}",
                    problem_mark=key.start_mark,
                )
            lines[here] = seen[here[-1]] = key.start_mark.line + 1
            _note_lines(value, here, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _note_lines(value, (*at, str(index)), lines)


def _interpolate(value: Any, at: Place, lines: dict[Place, int], name: str) -> Any:
    if isinstance(value, dict):
        return {key: _interpolate(v, (*at, str(key)), lines, name) for key, v in value.items()}
    if isinstance(value, list):
        return [_interpolate(v, (*at, str(i)), lines, name) for i, v in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    match = _INTERPOLATION.match(value)
    if match:
        found = os.environ.get(match["name"], match["default"])
        if found is None:
            raise ConfigError(
                f"{name}, line {lines.get(at, 1)}: {match['name']} is not set.",
                f"Set it in the environment, or write ${{{match['name']}:-default}}.",
            )
        value = found
    return value.replace("$${", "${")


def _refuse_plain_secrets(raw: dict[str, Any], lines: dict[Place, int], name: str) -> None:
    """Options are free-form: a secret that stands in the file itself would be copied with it."""
    for at, value in _options(raw):
        key = next(part for part in reversed(at) if not part.isdigit())
        if not names_a_secret(key) or isinstance(value, bool) or value in (None, ""):
            continue
        if isinstance(value, str) and "${" in value:
            continue
        variable = re.sub(r"\W+", "_", f"{at[1]}_{key}").upper()
        raise ConfigError(
            f"{name}, line {lines.get(at, 1)}: {'.'.join(at)}: a secret in plain text.",
            f"Take it from the environment: ${{{variable}}}.",
        )


def _options(raw: dict[str, Any]) -> Iterator[tuple[Place, Any]]:
    """Every option of every source and table that is no mapping itself, with its place."""
    sources = raw.get("sources")
    for source, spec in sources.items() if isinstance(sources, dict) else ():
        if not isinstance(spec, dict):
            continue
        at = ("sources", str(source))
        yield from _leaves(spec.get("options"), (*at, "options"))
        tables = spec.get("tables")
        for table, entry in tables.items() if isinstance(tables, dict) else ():
            if isinstance(entry, dict):
                yield from _leaves(entry.get("options"), (*at, "tables", str(table), "options"))


def _leaves(value: Any, at: Place) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*at, str(key)))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*at, str(index)))
    else:
        yield at, value
