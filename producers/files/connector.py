"""Files that suppliers drop: read once for each content, never half-written, one by one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, time

import structlog

from lake.config import NOWHERE, Config, Endpoints, Section, Source, Table
from lake.errors import DeadLetterLimit
from producers.base import Batch, Connector, Cursors, Problem, TableState, Trouble
from producers.cursors import committed_cursors
from producers.files.batches import FileReader, Unsettled
from producers.files.checks import changed_options, file_problems, options_model
from producers.files.column_checks import column_problems
from producers.files.folder import FileMissing, FileState, FileUnavailable, Folder, shown
from producers.files.matching import is_pattern, matching_files
from producers.files.quiet import QuietFiles
from producers.files.reading import FileForm, count_rows
from producers.files.requests import requested_at
from producers.files.spool import fetched
from producers.files.stopped import StoppedTables
from producers.files.troubles import Troubles
from producers.files.version import FileVersion, options_digest
from producers.formats import FileOptions, UnreadableFile

log = structlog.get_logger()


class FileConnector(Connector):
    """Reads the files of each table; `poll` sees new files, and new content under the same name.

    Whatever is wrong with one file costs that file: it is named, and the next one goes on.
    """

    def __init__(self, name: str, source: Source, config: Config, endpoints: Endpoints) -> None:
        super().__init__(name, source, config, endpoints)
        self._forms = {
            table: FileForm.of(spec, self._options(table)) for table, spec in source.tables.items()
        }
        self._digests = {
            table: options_digest(spec, self._options(table))
            for table, spec in source.tables.items()
        }
        self._quiet = QuietFiles()
        self._troubles = Troubles(name, source.directory)
        self._stopped = StoppedTables(name)
        self._lost: dict[str, int] = {}  # by file: how often the connection broke at it
        self._unsettled = False

    @abstractmethod
    def open_folder(self) -> AbstractContextManager[Folder]:
        """Open the folder."""

    @classmethod
    def table_options_model(cls, table: str, spec: Table) -> type[Section]:
        """Those of the format that the file's suffix names."""
        return options_model(spec)

    @classmethod
    def problems(cls, source: Source) -> Iterator[Problem]:
        """Tables without a file, or with one of an unknown format."""
        yield from file_problems(source)

    @classmethod
    def server_problems(cls, config: Config, name: str) -> Iterator[Problem]:
        """Columns that the newest files lack, and tables whose files are read again.

        They are, since options of their reader have changed.
        """
        source = config.settings.sources[name]
        made = cls(name, source, config, NOWHERE)
        with made.open_folder() as folder:
            for table, spec in source.tables.items():
                yield from column_problems(folder, table, spec, made._forms[table])
        cursors = committed_cursors(config.endpoints(), name)
        yield from changed_options(source, cursors)

    def settled(self) -> bool:
        """False while a file has not held still long enough to be read."""
        return not self._unsettled

    def troubles(self) -> list[Trouble]:
        """The files that cannot be read now."""
        return self._troubles.current()

    def table_states(self) -> Sequence[TableState]:
        """The tables whose policy for dead letters has stopped them."""
        return self._stopped.states()

    def _options(self, table: str) -> FileOptions:
        options = self.table_options[table]
        assert isinstance(options, FileOptions)
        return options

    # Polling -------------------------------------------------------------------------------

    def poll(self, cursors: Cursors) -> Iterator[Batch]:
        """Read the files whose content is new and that have held still, the oldest first."""
        self._unsettled = False
        with self.open_folder() as folder:
            self._troubles.begin()
            for table in self.source.tables:
                self._stopped.release(folder, table, self._requested_at)
            for table, path in self._found(folder):
                if table in self._stopped:
                    continue
                try:
                    yield from self._visit(folder, table, path, cursors)
                    self._lost.pop(path, None)
                except DeadLetterLimit as error:
                    again = self._requested_at(table, path)
                    self._stopped.stop(table, path, folder.state(path), again, error)
                except FileMissing as error:
                    self._troubles.missing(path, error)
                except FileUnavailable as error:
                    self._troubles.unavailable(path, error)
                except Exception:  # such as a connection that breaks: it comes last next time
                    self._lost[path] = self._lost.get(path, 0) + 1
                    raise
            self._troubles.end()

    def _requested_at(self, table: str, path: str) -> str:
        return requested_at(self.config, self.name, table, shown(path))

    def _found(self, folder: Folder) -> Iterator[tuple[str, str]]:
        """Every file with its table; those last at which the connection broke."""
        later: list[tuple[int, str, str]] = []
        for table, spec in self.source.tables.items():
            assert spec.file is not None, "checked at the start"
            try:
                for path in self._in_order(folder, spec.file):
                    if path in self._lost:
                        later.append((self._lost[path], table, path))
                    else:
                        yield table, path
            except FileMissing as error:
                self._troubles.missing(spec.file, error)
            except FileUnavailable as error:
                self._troubles.unavailable(spec.file, error)
        yield from ((table, path) for _, table, path in sorted(later))

    def _in_order(self, folder: Folder, file: str) -> list[str]:
        paths = list(matching_files(folder, file))
        if not is_pattern(file):
            return paths
        times: dict[str, int] = {}
        for path in paths:
            try:
                times[path] = folder.state(path).mtime
            except FileUnavailable as error:
                self._troubles.unavailable(path, error)
        return sorted(times, key=lambda path: (times[path], path))

    def _visit(self, folder: Folder, table: str, path: str, cursors: Cursors) -> Iterator[Batch]:
        options = self._options(table)
        state = folder.state(path)
        version = FileVersion.load(cursors.get(f"{table}:{shown(path)}", {}))
        if self._is_too_old(state, options):
            return
        digest = self._digests[table]
        again = self._requested_at(table, path)
        is_known = (
            version is not None
            and version.has_state(state)
            and version.read_with(digest)
            and version.seen_at >= again
        )
        if version is not None and version.complete and is_known and options.changes == "time":
            self._put_away(folder, path, version, options)
            return
        if not self._is_ready(folder, path, state, options):
            self._unsettled = True
            return
        reader = FileReader(
            self.name, table, self.source.tables[table], self._forms[table], digest, again
        )
        early = self._quiet.ends_too_early(path, state, options.quiet_seconds)
        try:
            with fetched(folder, path, state) as file:
                if file.size != state.size or folder.state(path) != state:
                    raise Unsettled
                yield from reader.batches(file, shown(path), state, version, early)
        except Unsettled:
            self._unsettled = True
            if not early:
                self._quiet.forget(path)
            return
        if reader.version is not None:
            self._put_away(folder, path, reader.version, options)

    def _is_too_old(self, state: FileState, options: FileOptions) -> bool:
        if options.start_date is None:
            return False
        return state.mtime < datetime.combine(options.start_date, time(), UTC).timestamp()

    def _is_ready(self, folder: Folder, path: str, state: FileState, options: FileOptions) -> bool:
        if options.done_marker is not None:
            before, slash, name = path.rpartition("/")
            marker = before + slash + options.done_marker.replace("{name}", name)
            try:
                folder.state(marker)
            except FileMissing:
                return False
        return self._quiet.is_quiet(path, state, options.quiet_seconds)

    def _put_away(
        self, folder: Folder, path: str, version: FileVersion, options: FileOptions
    ) -> None:
        """Do with a file what is wanted once its rows are in Kafka; a rejected one stays."""
        if options.after_reading == "leave" or version.reason or not version.complete:
            return
        if options.after_reading == "delete":
            folder.remove(path)
        else:
            before, slash, name = path.rpartition("/")
            folder.move(path, f"{before}{slash}{options.move_to}/{name}")
        log.info(
            "file_put_away",
            message="A file that has been read was moved or deleted.",
            source=self.name,
            file=shown(path),
            how=options.after_reading,
        )

    # Counting ------------------------------------------------------------------------------

    def count(self) -> dict[str, int]:
        """Read every file again and count its rows; what cannot be read has none."""
        counts = dict.fromkeys(self.source.tables, 0)
        with self.open_folder() as folder:
            for table, path in self._found(folder):
                try:
                    with fetched(folder, path, folder.state(path)) as file:
                        counts[table] += count_rows(self._forms[table], file.content, file.size)
                except (FileUnavailable, UnreadableFile):
                    continue
        return counts
