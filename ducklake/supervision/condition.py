"""What runs and what does not: supervisors, roles, sources and tables, from what they last told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from consumers.ingest.announcements import SchemaChange, last_changes
from ducklake.reconciliation.result import DIFFERENT, FAILED, LastResults, TableResult
from ducklake.supervision.roles import SUPERVISOR
from lake.config import Config
from lake.processes import lock
from lake.processes.heartbeat import RUNNING, Part, RoleReport, role_reports
from lake.processes.status_file import HANGING, HEALTHY, ProcessEntry, Report
from lake.storage.paths import LakePaths
from producers.registry import embedded_services
from stack.supervisor import LOCK, STATUS_FILE

NOT_EQUAL, NOT_COMPARED = "differs from its source", "not compared"
"""States of a table whose last comparison with its source found something, or failed."""
KAFKA, STACK = "service kafka", "the embedded stack"
GONE = "gone"
"""State of a process that ended without a word, as one that was killed does."""
_ON_THE_WAY = frozenset({"waiting", "preparing", "starting", "loading"})
_ACTIVE = frozenset({"starting", "up"})


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that should run and does not.

    Attributes:
        subject: What: `consume`, `source sftp`, `table mysql.orders`, `service kafka`.
        state: `hanging`, `crash-looping`, `restarting`, `retrying`, `stopped`, `paused` or `gone`;
            of a table also `differs from its source` or `not compared`.
        since: When it came into that state, in seconds of the epoch.
        reason: What happened.
        remedy: What the reader should do about it.
        next_attempt: When it is tried again, in seconds of the epoch.
    """

    subject: str
    state: str
    since: float
    reason: str
    remedy: str
    next_attempt: float | None = None

    def line(self) -> str:
        """One line for people."""
        text = f"{self.subject} {self.state} since {_ago(self.since)}"
        if self.next_attempt is not None:
            text += f", next try in {max(0.0, self.next_attempt - time.time()):.0f} s"
        said = " ".join(part for part in (self.reason, self.remedy) if part)
        return f"{text}: {said}" if said else text


@dataclass(frozen=True, slots=True)
class RoleView:
    """One role as seen now."""

    name: str
    state: str
    pid: int | None
    since: float
    restarts: int
    doing: str
    log: str
    parts: dict[str, Part]


@dataclass(frozen=True, slots=True)
class Condition:
    """Everything that was started, and what of it is not well.

    Attributes:
        roles: All roles.
        problems: What should run and does not.
        pending: What is still on its way.
        reconciled: The last comparison of each table with its source.
        schema_changes: The newest change of each table's definition.
    """

    roles: tuple[RoleView, ...] = ()
    problems: tuple[Problem, ...] = ()
    pending: tuple[str, ...] = ()
    reconciled: tuple[TableResult, ...] = ()
    schema_changes: tuple[SchemaChange, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether everything that was started is at work."""
        return not self.problems and not self.pending

    def summary(self) -> str:
        """The problems in one line; empty where there is none."""
        if not self.problems:
            return ""
        names = "; ".join(f"{problem.subject} {problem.state}" for problem in self.problems)
        count = len(self.problems)
        return f"{count} {'problem' if count == 1 else 'problems'}: {names}"

    def dump(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "healthy": self.healthy,
            "roles": {role.name: _plain(role) for role in self.roles},
            "problems": [asdict(problem) for problem in self.problems],
            "reconciliation": {result.table: result.dump() for result in self.reconciled},
            "schema_changes": [asdict(change) for change in self.schema_changes],
        }


def look(config: Config) -> Condition:
    """Read what supervisors and roles last told, and whether they live."""
    folder = LakePaths(config.data_dir).run
    told = list(role_reports(folder))
    roles: list[RoleView] = []
    problems: list[Problem] = list(_stack_problems(config))
    pending: list[str] = []
    supervisors = list(_supervisors(folder))
    for path, report, alive in supervisors:
        if not alive and report.phase not in _ACTIVE:
            continue  # it was told to stop
        if not alive:
            problems.append(_killed_supervisor(path, report))
        for name, entry in report.processes.items():
            if alive and entry.state in _ON_THE_WAY:
                pending.append(name)
            view = _supervised(name, entry, alive, told)
            roles.append(view)
            if alive:
                problems += _problems_of(view, entry.reason, f"Its log: {entry.log}.")
    for last in told:
        if not any(_is_told_by(report, alive, last) for _, report, alive in supervisors):
            view = _alone(last)
            roles.append(view)
            problems += _problems_of(view, last.hangs() or last.reason, _remedy(last))
    reconciled = tuple(_reconciled(config))
    problems += _unequal(reconciled)
    return Condition(
        tuple(roles), tuple(problems), tuple(pending), reconciled, tuple(last_changes(config))
    )


def _reconciled(config: Config) -> Iterator[TableResult]:
    """The last comparison of each table that is configured and was compared."""
    results = LastResults(LakePaths(config.data_dir))
    for ref, _ in config.tables():
        found = results.of(ref.topic)
        if found is not None:
            yield found


def _unequal(results: tuple[TableResult, ...]) -> Iterator[Problem]:
    """What the last comparisons with the sources found."""
    for result in results:
        subject, command = f"table {result.table}", f"`ducklake verify {result.table}"
        if result.state == DIFFERENT:
            reason = f"Its rows are not those of MySQL: {result.summary()}."
            remedy = result.remedy or f"{command} --against-source --repair` mends them."
            yield Problem(subject, NOT_EQUAL, result.at, reason, remedy)
        elif result.state == FAILED:
            remedy = result.remedy or f"Try {command} --against-source`."
            yield Problem(subject, NOT_COMPARED, result.at, result.reason, remedy)


def _supervisors(folder: Path) -> Iterator[tuple[Path, Report, bool]]:
    """The status files, and whether the supervisor of each lives."""
    for path in sorted(folder.glob(f"*{SUPERVISOR}")):
        report = Report.read(path)
        if report is not None:
            yield path, report, lock.holder(path.with_suffix(".lock")) is not None


def _is_told_by(report: Report, alive: bool, last: RoleReport) -> bool:
    """Whether a supervisor tells how this role is."""
    if last.alive:
        return alive and last.pid in {entry.pid for entry in report.processes.values()}
    entry = report.processes.get(last.role)
    return entry is not None and (alive or entry.pid == last.pid)


def _supervised(name: str, entry: ProcessEntry, alive: bool, told: list[RoleReport]) -> RoleView:
    last = next((report for report in told if report.alive and report.pid == entry.pid), None)
    state = entry.state if alive else GONE
    doing, parts = (last.doing, last.parts) if last else ("", {})
    return RoleView(name, state, entry.pid, entry.since, entry.restarts, doing, entry.log, parts)


def _alone(last: RoleReport) -> RoleView:
    """A role that nobody supervises, as in a container of its own."""
    state, since = last.state, last.since
    if state == RUNNING:
        state = HEALTHY
        if not last.alive:
            state, since = GONE, last.beaten
        elif last.hangs():
            state, since = HANGING, last.beaten
    pid = last.pid if last.alive else None
    return RoleView(last.role, state, pid, since, 0, last.doing, "", last.parts)


def _remedy(last: RoleReport) -> str:
    if last.remedy:
        return last.remedy
    if last.alive:
        return "End it and start it again; nothing is lost."
    return f"It ended without a word. Start it again: `ducklake {last.role.partition('-')[0]}`."


def _problems_of(view: RoleView, reason: str, remedy: str) -> Iterator[Problem]:
    if view.state != HEALTHY and view.state not in _ON_THE_WAY:
        yield Problem(view.name, view.state, view.since, reason, remedy)
    if view.pid is None:
        return  # what it last told of its parts is over with it
    for name, part in view.parts.items():
        state, said = part.state, part.reason
        if state == RUNNING:
            still = part.stalled()
            if still is None:
                continue
            state, said = HANGING, f"It does not move since {still:.0f} s."
        yield Problem(
            f"{part.kind} {name}", state, part.since, said, part.remedy, part.next_attempt
        )


def _killed_supervisor(path: Path, report: Report) -> Problem:
    name = path.name.removesuffix(SUPERVISOR)
    command = "ducklake run" if name == "run" else "ducklake consume --workers"
    return Problem(
        f"`{command}`",
        GONE,
        path.stat().st_mtime,
        f"Its process {report.pid} ended without a word, and its roles with it.",
        "Start it again; nothing is lost.",
    )


def _stack_problems(config: Config) -> Iterator[Problem]:
    """What the supervisor of the embedded services last told."""
    if not embedded_services(config):
        return
    path = config.stack_dir / STATUS_FILE
    report = Report.read(path)
    if report is None or report.phase not in _ACTIVE:
        return
    if lock.holder(config.stack_dir / LOCK) is None:
        yield Problem(
            STACK,
            GONE,
            path.stat().st_mtime,
            f"Its supervisor (process {report.pid}) ended without a word, and the services with"
            " it.",
            "Start it again with `ducklake up`.",
        )
        return
    for name, entry in report.processes.items():
        if entry.state != HEALTHY and entry.state not in _ON_THE_WAY:
            remedy = f"Its log: {entry.log}."
            yield Problem(f"service {name}", entry.state, entry.since, entry.reason, remedy)


def _plain(role: RoleView) -> dict[str, Any]:
    plain = asdict(role)
    del plain["name"]
    for part in plain["parts"].values():
        del part["moved"], part["within"]
    return plain


def _ago(moment: float) -> str:
    seconds = max(0.0, time.time() - moment)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
