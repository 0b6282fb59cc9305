"""From what a source says of its connection to the server itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from lake.config import EMBEDDED, Config, Connection, EmbeddedPorts, nearest, with_files_of
from lake.errors import ConfigError

Found = TypeVar("Found", bound=Connection)


class NoConnection(Connection):
    """The connection of a source that has none."""


@dataclass(frozen=True, slots=True)
class ConnectionUse:
    """A place in `ducklake.yml` that names a connection.

    Attributes:
        at: The keys that lead there.
        entry: What stands there: a name, `embedded`, or the connection's keys; None for nothing.
        model: The kind of connection that is needed.
        service: The service of the embedded stack that `embedded` means there; may be empty.
        known: Connections that have a name of their own.
    """

    at: tuple[str, ...]
    entry: Any
    model: type[Connection]
    service: str = ""
    known: Mapping[str, Connection] = field(default_factory=dict)

    def is_embedded(self, config: Config) -> bool:
        """Whether the embedded stack has to offer it."""
        return bool(self.entry == EMBEDDED or self._named(config) == EMBEDDED)

    def _named(self, config: Config) -> Any:
        if not isinstance(self.entry, str):
            return None
        return config.settings.connections.get(self.entry)

    def validated(self, config: Config) -> Connection | None:
        """The connection as the file has it; None where it is `embedded`.

        Raises:
            ConfigError: There is no such connection, or a key of it is wrong; names the line.
        """
        if self.is_embedded(config):
            if self.service not in EmbeddedPorts.model_fields:
                what = "the embedded stack has no server for it"
                raise config.error(self.at, what, "Name a server of your own.")
            return None
        if isinstance(self.entry, str):
            named = self._named(config)
            if named is None:
                return self._known(config)
            if isinstance(named, str):
                what = f"expected `{EMBEDDED}` or the connection's keys"
                raise config.error(("connections", self.entry), what)
            return self._model(config, named, ("connections", self.entry), self.entry)
        return self._model(config, self.entry or {}, self.at, self.at[1])

    def _known(self, config: Config) -> Connection:
        if self.entry in self.known:
            return self.known[self.entry].placed(self.entry, ".".join(self.at))
        words = [*config.settings.connections, *self.known]
        words += [EMBEDDED] if self.service else []
        raise config.error(
            self.at,
            f"there is no connection {self.entry!r}{nearest(self.entry, words)}",
            "Connections stand under `connections`.",
        )

    def _model(
        self, config: Config, entry: Mapping[str, Any], at: tuple[str, ...], name: str
    ) -> Connection:
        if self.model is NoConnection and self.entry is not None:
            raise config.error(self.at, "a source of this type has no connection")
        try:
            found = self.model.model_validate(entry).placed(name, ".".join(at))
            return with_files_of(config.root, found)
        except ValidationError as error:
            if self.entry is None:
                what = (
                    f"it is missing: name one of `connections`, or write its keys{self._or_word()}"
                )
                raise config.error(self.at, what) from None
            raise ConfigError(config.explain(error, self.model, at)) from None

    def _or_word(self) -> str:
        return f", or `{EMBEDDED}`" if self.service else ""


def connect(config: Config, use: ConnectionUse) -> Connection:
    """Where a server is.

    Raises:
        ConfigError: There is no such connection, or a key of it is wrong; names the line.
        StackNotRunning: It is `embedded` and the stack is not up.
    """
    found = use.validated(config)
    if found is not None:
        return found
    entry = config.stack_state.entry(use.service)
    return use.model.model_validate(entry).placed(use.service, f"the embedded {use.service}")


def connect_as(config: Config, use: ConnectionUse, kind: type[Found]) -> Found:
    """The same for a use whose kind is known."""
    assert issubclass(use.model, kind)
    return cast(Found, connect(config, use))
