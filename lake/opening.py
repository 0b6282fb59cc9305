"""The one way to open a lake: its locks, connections and session, and what has to come first.

    with open_lake(config, for_writing=True) as lake:
        lake.ledger.commits.add(...)

A ledger that is older than the lake's files is refused. Whoever writes first recovers what killed
processes left. Everything is closed in reverse, whatever fails: an opening that fails leaves no
lock, no connection and no session behind.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from typing import Literal, Self, overload

from lake.config import Config
from lake.ledger import Ledger, LedgerReader
from lake.ledger.readers import Readers
from lake.ledger.runs import RunHistory
from lake.ledger.staleness import assert_ledger_current
from lake.recovery import drop_abandoned, pinned, recover
from lake.storage.paths import LakePaths
from lake.storage.session import Session


class ReadableLake:
    """A lake that is looked at: nothing is changed but pins and the run history.

    Attributes:
        paths: Where it lies.
        ledger: Answers; it cannot write.
    """

    ledger: LedgerReader

    def __init__(self, paths: LakePaths) -> None:
        self.paths = paths
        with ExitStack() as opening:
            self._opened = opening
            self._open()
            self._opened = opening.pop_all()

    def _open(self) -> None:
        self.ledger = self._opened.enter_context(LedgerReader(self.paths))
        assert_ledger_current(self.ledger)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @cached_property
    def session(self) -> Session:
        """This process's session, from its first use on: pins and temporary files are its."""
        return self._opened.enter_context(Session(self.paths))

    @cached_property
    def _writing(self) -> Ledger:
        return self._opened.enter_context(Ledger(self.paths))

    @property
    def runs(self) -> RunHistory:
        """The batch's run history, to be added to."""
        return self._writing.runs

    @property
    def readers(self) -> Readers:
        """Where somebody who asks by commit number states how far it has come."""
        return self._writing.readers

    def pinned(self) -> AbstractContextManager[int]:
        """Keep every file that is live now, for the time of the block; gives the newest commit.

        Raises:
            ServiceUnreachable: The files of a date are being exchanged, and that does not end.
        """
        return pinned(self._writing, self.session)


class WritableLake(ReadableLake):
    """A lake that is written to.

    Attributes:
        ledger: With the parts that write.
    """

    ledger: Ledger

    def _open(self) -> None:
        self.ledger = self._opened.enter_context(Ledger(self.paths))
        assert_ledger_current(self.ledger)
        self.session  # noqa: B018  from here on others see that this process lives
        recover(self.ledger)
        drop_abandoned(self.ledger)

    @cached_property
    def _writing(self) -> Ledger:
        return self.ledger


@overload
def open_lake(config: Config, *, for_writing: Literal[True]) -> WritableLake: ...
@overload
def open_lake(config: Config, *, for_writing: Literal[False]) -> ReadableLake: ...
@overload
def open_lake(config: Config, *, for_writing: bool) -> ReadableLake: ...
def open_lake(config: Config, *, for_writing: bool) -> ReadableLake:
    """Open the lake of a configuration for the time of a block.

    Args:
        config: The configuration.
        for_writing: Recover what killed processes left, and give the parts that write.

    Raises:
        LedgerError: The ledger is missing, or older than the lake's files.
        UnsupportedFormatVersion: A later release wrote it.
        ServiceUnreachable: The ledger is being replaced now.
        DiskFull: There is no room for the session's folder.
    """
    return (WritableLake if for_writing else ReadableLake)(LakePaths(config.data_dir))
