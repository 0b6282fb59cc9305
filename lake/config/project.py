"""A project: validated settings, and the folder to which their relative paths refer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ValidationError

from lake.config.endpoints import Endpoints, StackState, resolve_services
from lake.config.files import missing_files
from lake.config.relations import TableRef
from lake.config.secrecy import without_login
from lake.config.settings import MYSQL, Settings, Table
from lake.config.suggestions import Place, explain, place_of, sentence
from lake.errors import ConfigError
from lake.records import Kind


@dataclass(frozen=True, slots=True)
class Config:
    """Validated settings, their file, and the line of each of its keys."""

    settings: Settings
    path: Path
    lines: Mapping[Place, int] = field(default_factory=dict, repr=False, compare=False)

    @property
    def root(self) -> Path:
        """The project's folder: where the configuration file lies."""
        return self.path.parent

    @property
    def data_dir(self) -> Path:
        """Absolute folder for everything that is written."""
        return (self.root / self.settings.data_dir.expanduser()).absolute()

    @property
    def stack_dir(self) -> Path:
        """Absolute folder of the embedded stack (its data, logs and state file)."""
        return self.data_dir / "stack"

    @property
    def state_file(self) -> Path:
        """Written by the supervisor of the embedded stack once every service is healthy."""
        return self.stack_dir / "state.json"

    @property
    def stack_state(self) -> StackState:
        """What the embedded stack says of itself."""
        return StackState(self.state_file)

    @property
    def dbt_project(self) -> Path:
        """Absolute folder of the dbt project."""
        return (self.root / self.settings.batch.dbt_project.expanduser()).absolute()

    def tables(self) -> Iterator[tuple[TableRef, Table]]:
        """All tables of all sources, in the file's order."""
        for source, spec in self.settings.sources.items():
            for table, entry in spec.tables.items():
                yield TableRef(source, table), entry

    def kind(self, ref: TableRef) -> Kind:
        """How the records of a table are built."""
        return "cdc" if self.settings.sources[ref.source].type in MYSQL else "plain"

    def relation(self, ref: TableRef) -> str:
        """The table's name in the schema raw, the same in DuckDB and in PostgreSQL.

        It is the table's own name, or `{source}__{table}` where two sources have one of that name.
        """
        return self.settings.relations[ref]

    def endpoints(self) -> Endpoints:
        """Resolve the services of the whole lake to addresses.

        Raises:
            StackNotRunning: A service is `embedded` and the stack is not up.
            ConfigError: A certificate or key that a service needs is not there.
        """
        self.check_files()
        return resolve_services(self.settings.services, self.stack_state)

    def check_files(self) -> None:
        """See that the certificates and keys of the services are there.

        Raises:
            ConfigError: One is not; names the key.
        """
        for at, path in missing_files(self.settings.services):
            remedy = "Put the file there, or correct the path."
            raise self.error(at, f"there is no file {path}", remedy)

    # Errors --------------------------------------------------------------------------------

    def place_of(self, at: Iterable[str]) -> str:
        """Where a key stands: file and line, or the variable of the environment that set it."""
        return place_of(tuple(at), self.lines, self.path.name)

    def explain(self, error: ValidationError, model: type[BaseModel], at: Iterable[str]) -> str:
        """What is wrong with a part of the file that a connector's own model validates.

        Args:
            error: What the model says.
            model: The model.
            at: The keys that lead to the part.
        """
        return explain(error, model, tuple(at), self.lines, self.path.name)

    def problem(self, at: Iterable[str], what: str) -> str:
        """A line that says what is wrong with a key, and where it stands."""
        keys = tuple(at)
        said = f"{self.place_of(keys)}: {'.'.join(keys)}: {without_login(what)}"
        return sentence(said)

    def error(self, at: Iterable[str], what: str, remedy: str = "") -> ConfigError:
        """A named error about one key."""
        return ConfigError(self.problem(at, what), remedy)
