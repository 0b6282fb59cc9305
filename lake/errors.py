"""Every failure of the project has a name, says what happened and what to do.

DuckLakeError
├── TransientError          retry, or seek and go on
│   ├── ServiceUnreachable  a broker, database or server does not answer
│   ├── SourcePaused        somebody has paused a source
│   ├── CommitConflict      the ledger moved under this writer (a zombie is fenced)
│   ├── TableHeld           a rebuild is about to switch; going on in a moment
│   ├── DateHeld            a date's folders change places; going on in a moment
│   └── DiskFull            no room; going on once there is
└── TerminalError           stop: somebody has to decide
    ├── ConfigError         ducklake.yml, or a value in the environment
    ├── StackError          the embedded stack (a port, a download, a library, the platform)
    │   ├── StackNotRunning
    │   └── ProcessFailed   a supervised process ended, or does not answer
    ├── AlreadyRunning      another process does the same for this data folder
    ├── SourceError         a source cannot be read as configured
    │   ├── LoginRefused    a server knows no such user, or not with this password or key
    │   ├── CursorMissing   a topic has rows and its cursor is gone
    │   └── BinlogLost      MySQL's log no longer continues what was read
    ├── ProducerFenced      another producer took over this transactional id
    ├── DataLoss            records vanished before they were read
    │   ├── TopicRecreated
    │   └── PartitionsChanged
    ├── SchemaDrift         a definition changed that must not change unseen
    ├── DeadLetterLimit     a table has more dead letters than its policy allows
    ├── LedgerError         the ledger and the files do not fit together
    │   ├── CommitsJoined   it no longer tells single commits of that time apart
    │   └── UnsupportedFormatVersion  a later release wrote it
    ├── BatchError          dbt, publication or export could not run
    ├── UnexpectedError     a defect: an exception that nobody has named
    └── Interrupted         told to stop; nothing has changed
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path


class DuckLakeError(Exception):
    """A named failure with its remedy.

    Args:
        what: What happened, with its coordinates (file, row, topic, offset); no row contents.
        remedy: What the reader should do about it.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what} {self.remedy}".strip()


class TransientError(DuckLakeError):
    """Try again: nothing is lost."""


class ServiceUnreachable(TransientError):
    """A service does not answer."""


class SourcePaused(TransientError):
    """Somebody has told a source to read no further until it is resumed."""


class CommitConflict(TransientError):
    """The ledger's position is no longer the one from which this writer started."""


class TableHeld(TransientError):
    """A rebuild of the table is at its switch: the same commit can be tried again in a moment."""


class DateHeld(TransientError):
    """The folders of a date change places: files can be pinned again in a moment."""


class DiskFull(TransientError):
    """No room on the file system."""


class TerminalError(DuckLakeError):
    """Stop: going on alone would lose or repeat something."""


class ConfigError(TerminalError):
    """The configuration cannot be used."""


class StackError(TerminalError):
    """The embedded stack cannot do what was asked."""


class StackNotRunning(StackError):
    """A service is set to `embedded` and the stack is not up."""


class ProcessFailed(StackError):
    """A supervised process ended, or does not answer."""


class AlreadyRunning(TerminalError):
    """Another process does the same for this data folder."""


class SourceError(TerminalError):
    """A source cannot be read as configured."""


class LoginRefused(SourceError):
    """A server knows no such user, or not with this password or key."""


class CursorMissing(SourceError):
    """The topic has rows, but the producer's cursor is gone."""


class BinlogLost(SourceError):
    """MySQL's log no longer continues what was read: purged, reset, or another server's."""


class ProducerFenced(TerminalError):
    """Another producer with the same transactional id has taken over."""


class DataLoss(TerminalError):
    """Records were removed before they were read."""


class TopicRecreated(DataLoss):
    """The topic has another identity than the one the ledger knows."""


class PartitionsChanged(DataLoss):
    """The topic has another number of partitions than the ledger knows."""


class SchemaDrift(TerminalError):
    """A table's definition changed, and its drift policy is to stop.

    Args:
        what: What happened.
        remedy: What the reader should do about it.
        accepted: The definition that was accepted as the table stopped; with another one it goes
            on.
    """

    def __init__(self, what: str, remedy: str = "", accepted: object = None) -> None:
        super().__init__(what, remedy)
        self.accepted = accepted


class DeadLetterLimit(TerminalError):
    """A table has a dead letter more than its policy (`dead_letters`) allows.

    Args:
        what: What happened.
        remedy: What the reader should do about it.
        has_ended: Says whether there is room again, so that the table goes on.
    """

    def __init__(
        self, what: str, remedy: str = "", has_ended: Callable[[], bool] = lambda: False
    ) -> None:
        super().__init__(what, remedy)
        self.has_ended = has_ended


class LedgerError(TerminalError):
    """The ledger and the files do not fit together."""


class CommitsJoined(LedgerError):
    """What came after a commit is not known apart from what came before it: take everything."""


class UnsupportedFormatVersion(LedgerError):
    """A later release wrote the ledger, or a file."""


class BatchError(TerminalError):
    """dbt, publication or export could not run."""


class UnexpectedError(TerminalError):
    """A defect: an exception without a name of its own."""

    @classmethod
    def of(cls, where: str, error: BaseException, remedy: str) -> UnexpectedError:
        """Name an exception by its type and place; its message may quote a row.

        Args:
            where: What was being done, such as a source and its connector.
            error: The exception.
            remedy: What the reader should do about it.
        """
        return cls(f"{where}: {type(error).__name__} in {_place(error)}.", remedy)

    @classmethod
    def unless_named(cls, where: str, error: BaseException, remedy: str) -> DuckLakeError:
        """The error itself where it has a name; otherwise as `of` names it."""
        return error if isinstance(error, DuckLakeError) else cls.of(where, error, remedy)


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "an unknown place"
    last = frames[-1]
    return f"{last.name}, line {last.lineno} of {Path(last.filename).name}"


class Interrupted(TerminalError):
    """Told to stop before the end; nothing has changed."""
