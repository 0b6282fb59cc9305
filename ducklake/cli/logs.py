"""`ducklake logs`: the logs of roles and services in the order of their lines, and what comes."""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ducklake.monitoring.printable import printable
from lake.config import Config, nearest
from lake.errors import ConfigError
from lake.storage.paths import LakePaths

FOLLOW_SECONDS = 0.5
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line.

    Attributes:
        role: Whose.
        moment: As the line says it; a line without one has that of the line before.
        text: Without colours, control characters escaped.
    """

    role: str
    moment: str
    text: str


def log_files(config: Config) -> dict[str, Path]:
    """The logs that there are: of each role, and of each service of the embedded stack."""
    folders = (LakePaths(config.data_dir).logs, config.stack_dir / "logs")
    found = (path for folder in folders for path in sorted(folder.glob("*.log")))
    return {path.stem: path for path in found}


def chosen_logs(config: Config, roles: Sequence[str]) -> dict[str, Path]:
    """The logs of some roles; of all roles where none is named.

    Raises:
        ConfigError: One of them has no log.
    """
    files = log_files(config)
    if not files:
        raise ConfigError(
            f"{config.data_dir} has no logs yet.", "`ducklake up` and `ducklake run` write them."
        )
    for role in roles:
        if role not in files:
            raise ConfigError(f"There is no log of {role!r}{nearest(role, files)}")
    return {role: files[role] for role in roles} if roles else files


class LogTail:
    """Reads what is new in a log, over its rotation.

    Args:
        role: Whose.
        path: The file; the one before it has `.1` at its end.
    """

    def __init__(self, role: str, path: Path) -> None:
        self._role = role
        self._path = path
        self._inode = 0
        self._at = 0
        self._rest = b""
        self._moment = ""

    def last(self, count: int) -> list[LogLine]:
        """The last lines; `new` goes on behind them."""
        return list(deque(self._older(count), maxlen=count))

    def _older(self, count: int) -> Iterator[LogLine]:
        newest = list(self.new())
        before = self._path.with_name(f"{self._path.name}.1")
        if len(newest) < count and before.exists():
            yield from self._lines(before.read_bytes().splitlines())
        yield from newest

    def new(self) -> Iterator[LogLine]:
        """The whole lines that have come since."""
        try:
            with self._path.open("rb") as file:
                inode = self._path.stat().st_ino
                if inode != self._inode or self._path.stat().st_size < self._at:
                    yield from self._end_of_the_old_one()
                    self._inode, self._at = inode, 0
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return
        self._at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        yield from self._lines(lines)

    def _end_of_the_old_one(self) -> Iterator[LogLine]:
        """What was written to the file before it was put aside."""
        before = self._path.with_name(f"{self._path.name}.1")
        if self._inode and before.exists() and before.stat().st_ino == self._inode:
            with before.open("rb") as file:
                file.seek(self._at)
                yield from self._lines((self._rest + file.read()).splitlines())
        self._rest = b""

    def _lines(self, lines: Iterable[bytes]) -> Iterator[LogLine]:
        for line in lines:
            text = printable(_COLOUR.sub("", line.decode(errors="replace")).rstrip("\r"))
            found = _MOMENT.search(text[:60])
            self._moment = found[0].replace(" ", "T").replace(",", ".") if found else self._moment
            yield LogLine(self._role, self._moment, text)


def logs(
    config: Config,
    roles: Sequence[str],
    count: int,
    stop: threading.Event | None,
    as_json: bool,
) -> None:
    """Print the last lines of logs, in the order of their moments.

    Args:
        config: The configuration.
        roles: Whose; all where none is named.
        count: Lines of each.
        stop: Ends it; None: only what is there now.
        as_json: Whether each line is one of JSON.

    Raises:
        ConfigError: There are no logs, or a role has none.
    """
    tails = {role: LogTail(role, path) for role, path in chosen_logs(config, roles).items()}
    _print([tail.last(count) for tail in tails.values()], as_json)
    while stop is not None and not stop.wait(FOLLOW_SECONDS):
        if not roles:
            for role, path in log_files(config).items():
                tails.setdefault(role, LogTail(role, path))
        _print([list(tail.new()) for tail in tails.values()], as_json)


def _print(found: Iterable[Iterable[LogLine]], as_json: bool) -> None:
    lines = sorted((line for lines in found for line in lines), key=lambda line: line.moment)
    for line in lines:
        text = json.dumps(asdict(line)) if as_json else f"{line.role:<10} {line.text}"
        print(text, flush=True)
