"""A table more in a `ducklake.yml` that somebody wrote: its text stays, comments and all."""

from __future__ import annotations

import yaml

from lake.config import Config, load_config
from lake.errors import ConfigError
from lake.storage.operations import write_atomically


def with_entry(text: str, source: str, entry: str) -> str:
    """The text of a configuration with one table more in a source.

    Args:
        text: The text.
        source: The source's name.
        entry: The table's name and section, on one line.

    Raises:
        ConfigError: The source's section is written in a way that cannot be extended.
    """
    tables = _node(yaml.compose(text, Loader=yaml.SafeLoader), ("sources", source, "tables"))
    if not isinstance(tables, yaml.MappingNode):
        raise ConfigError(
            f"sources.{source}.tables cannot be extended.", f"Write there yourself: {entry}"
        )
    if tables.flow_style:
        end = tables.end_mark.index - 1
        before = text[:end].rstrip()
        comma = "" if not tables.value else ","
        space = "" if before.endswith("{") else " "
        return f"{before}{comma}{space}{entry}{text[end:]}"
    first = tables.value[0][0]
    at = text.find("\n", _end(tables))
    line = f"\n{' ' * first.start_mark.column}{entry}"
    return f"{text}{line}\n" if at < 0 else f"{text[:at]}{line}{text[at:]}"


def check_text(config: Config, text: str) -> Config:
    """The configuration as it would be with another text.

    Raises:
        ConfigError: It would be none.
    """
    trial = config.path.with_name(f".{config.path.name}.new")
    try:
        trial.write_text(text, encoding="utf-8")
        return load_config(trial)
    except OSError as error:
        raise ConfigError(f"{trial}: {error.strerror}.", "Make its folder writable.") from None
    finally:
        trial.unlink(missing_ok=True)


def replace_text(config: Config, text: str) -> None:
    """Replace the file, with the rights that it has."""
    mode = config.path.stat().st_mode & 0o777
    write_atomically(config.path, text)
    config.path.chmod(mode)


def _node(node: yaml.Node | None, keys: tuple[str, ...]) -> yaml.Node | None:
    for key in keys:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((v for k, v in node.value if k.value == key), None)
    return node


def _end(node: yaml.Node) -> int:
    """Where the text of a node ends: a block's own mark is where the next thing begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)
