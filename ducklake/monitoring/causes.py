"""What of an observation is worth an alert: each cause once, in the words of `ducklake status`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ducklake.monitoring.lineage import Lineage
from ducklake.monitoring.observation import Observation
from ducklake.supervision.condition import NOT_COMPARED, NOT_EQUAL, Problem
from lake.config import Config, seconds_of
from lake.processes.heartbeat import DIFFERS, RETRYING

STALLED, FRESHNESS, TESTS = "stalled", "freshness", "tests"
DEAD_LETTERS, DIFFERENCES = "dead_letters", "differences"
KINDS = (STALLED, FRESHNESS, TESTS, DEAD_LETTERS, DIFFERENCES)
ALERT_TARGET = "alert target"
"""The kind of a part that is told of alerts; one that does not answer is no cause of one."""
HELD_BACK, FAILED = "held back", "failed"
_UNEQUAL = frozenset({NOT_EQUAL, NOT_COMPARED, DIFFERS})
_ROOTS = ("service ", "the embedded stack", "`ducklake ")


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that is wrong.

    Attributes:
        kind: The key under `alerts` that asks for it.
        subject: What: `consume`, `table mysql.orders`, `model consume.daily_sales`.
        state: In the word of `ducklake status` and of the page.
        since: In seconds of the epoch, as far as that is known.
        remedy: The command, or the step, that goes on.
    """

    kind: str
    subject: str
    state: str
    since: float
    remedy: str = ""

    @property
    def key(self) -> str:
        """The same for as long as it is the same cause, whatever becomes of its state."""
        return f"{self.kind}:{self.subject}"

    @property
    def is_root(self) -> bool:
        """Whether other causes follow from it."""
        return self.subject.startswith(_ROOTS)

    @property
    def may_follow(self) -> bool:
        """Whether it may follow from a service that is away, and goes with it."""
        return self.state in (RETRYING, STALLED)


def causes(config: Config, seen: Observation, lineage: Lineage) -> tuple[Cause, ...]:
    """Everything that is wrong, and that the configuration asks for; never contents of rows.

    Args:
        config: The configuration.
        seen: The lake at a moment.
        lineage: Which model reads what: of models that are held back, the first ones count.
    """
    wanted = config.settings.alerts
    found: dict[str, Cause] = {}
    if seconds_of(wanted.stalled) is not None:
        _add(found, _problems(seen))
    if (limit := seconds_of(wanted.freshness)) is not None:
        told = {cause.subject for cause in found.values()}
        _add(found, (cause for cause in _late(seen, limit) if cause.subject not in told))
    if wanted.tests == "on":
        _add(found, _untested(seen, lineage))
    if isinstance(wanted.dead_letters, int):
        _add(found, _dead_letters(seen, wanted.dead_letters))
    if wanted.differences == "on":
        _add(found, _differences(seen))
    return tuple(found.values())


def _add(found: dict[str, Cause], more: Iterator[Cause]) -> None:
    for cause in more:
        found.setdefault(cause.key, cause)


def _problems(seen: Observation) -> Iterator[Cause]:
    for problem in seen.condition.problems:
        if problem.state not in _UNEQUAL and not problem.subject.startswith(ALERT_TARGET):
            yield _of(STALLED, problem)


def _differences(seen: Observation) -> Iterator[Cause]:
    for problem in seen.condition.problems:
        if problem.state in _UNEQUAL:
            yield _of(DIFFERENCES, problem)


def _of(kind: str, problem: Problem) -> Cause:
    return Cause(kind, problem.subject, problem.state, problem.since, problem.remedy)


def _late(seen: Observation, limit: float) -> Iterator[Cause]:
    for table in seen.freshness:
        waited = max((hop.now_s or 0.0 for hop in table.hops.values()), default=0.0)
        if waited > limit:
            yield Cause(FRESHNESS, f"table {table.table}", table.state, seen.at - waited)


def _untested(seen: Observation, lineage: Lineage) -> Iterator[Cause]:
    held = seen.held_back
    named = held.keys() | {relation.partition(".")[2] for relation in held}
    since = seen.run.started_at if seen.run is not None else seen.at
    for relation in held:
        if lineage.upstream(relation) & held.keys():
            continue  # it waits for one that is told
        own = {relation, relation.partition(".")[2]}
        began = [f.since for f in seen.failures if own & {*f.models} and f.since]
        yield Cause(
            TESTS, f"model {relation}", HELD_BACK, min(began, default=since), "ducklake failures"
        )
    for failure in seen.failures:
        if failure.status != "warn" and not named & {*failure.models}:
            yield Cause(
                TESTS, f"test {failure.test}", FAILED, failure.since or since, "ducklake failures"
            )


def _dead_letters(seen: Observation, limit: int) -> Iterator[Cause]:
    for table in seen.tables:
        if table.dead_letters >= limit:
            remedy = f"ducklake dead-letters list {table.table}"
            yield Cause(DEAD_LETTERS, f"table {table.table}", "dead letters", seen.at, remedy)
