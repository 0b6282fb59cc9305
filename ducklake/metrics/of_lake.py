"""Metrics of the lake as a whole: its roles and problems, its cycles, models and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ducklake import __version__
from ducklake.metrics.definition import LIGHTS, Definition, Fill, Sample
from ducklake.monitoring.causes import KINDS
from ducklake.monitoring.light import COLOURS
from ducklake.monitoring.snapshot import Snapshot
from lake.config import Config
from lake.processes.status_file import HEALTHY
from lake.storage.disk_use import DAY


def _info(config: Config, found: Snapshot) -> Iterator[Sample]:
    yield (config.settings.name, __version__), 1


def _of_problems(config: Config, found: Snapshot) -> Iterator[Sample]:
    counts: dict[str, int] = dict.fromkeys(("role", "service", "source", "table", "other"), 0)
    roles = {role.name for role in found.seen.condition.roles}
    for problem in found.seen.condition.problems:
        kind = problem.subject.partition(" ")[0]
        known = "role" if problem.subject in roles else kind if kind in counts else "other"
        counts[known] += 1
    yield from (((kind,), count) for kind, count in counts.items())


def _problem(config: Config, found: Snapshot) -> Iterator[Sample]:
    seen = dict.fromkeys((p.subject, p.state) for p in found.seen.condition.problems)
    yield from ((pair, 1) for pair in seen)


def _roles_up(config: Config, found: Snapshot) -> Iterator[Sample]:
    for role in found.seen.condition.roles:
        yield (role.name,), float(role.state == HEALTHY and role.pid is not None)


def _restarts(config: Config, found: Snapshot) -> Iterator[Sample]:
    yield from (((role.name,), role.restarts) for role in found.seen.condition.roles)


def _active_alerts(config: Config, found: Snapshot) -> Iterator[Sample]:
    counts = dict.fromkeys(KINDS, 0)
    for alert in found.alerts.active:
        counts[alert.kind] = counts.get(alert.kind, 0) + 1
    yield from (((kind,), count) for kind, count in counts.items())


def _alert_messages(config: Config, found: Snapshot) -> Iterator[Sample]:
    yield (), len(found.alerts.messages)


def _free(config: Config, found: Snapshot) -> Iterator[Sample]:
    yield (), found.free_bytes


def _used(config: Config, found: Snapshot) -> Iterator[Sample]:
    yield from (((part,), size) for part, size in found.disk.parts.items())


def _full_in(config: Config, found: Snapshot) -> Iterator[Sample]:
    if found.disk.days_left is not None:
        yield (), found.disk.days_left * DAY


def _look_seconds(config: Config, found: Snapshot) -> Iterator[Sample]:
    yield (), found.seconds


def _look_at(config: Config, found: Snapshot) -> Iterator[Sample]:
    yield (), found.seen.at


def _model_light(config: Config, found: Snapshot) -> Iterator[Sample]:
    for model in found.seen.models:
        for aspect in ("fresh", "complete", "tested", "light"):
            yield (model.model, aspect), COLOURS.index(getattr(model, aspect).colour)


def _commits(config: Config, found: Snapshot) -> Iterator[Sample]:
    yield (), found.seen.commit


def _cycles(config: Config, found: Snapshot) -> Iterator[Sample]:
    yield (), found.seen.run.number if found.seen.run is not None else 0


def _of_run(figure: Callable[[Snapshot], float]) -> Fill:
    """A figure of the newest cycle; nothing before the first one."""

    def fill(config: Config, found: Snapshot) -> Iterator[Sample]:
        if found.seen.run is not None:
            yield (), figure(found)

    return fill


def _run_at(found: Snapshot) -> float:
    assert found.seen.run is not None
    return found.seen.run.started_at


def _run_seconds(found: Snapshot) -> float:
    assert found.seen.run is not None
    return found.seen.run.seconds


def _steps(config: Config, found: Snapshot) -> Iterator[Sample]:
    if found.seen.run is not None:
        yield from (((name,), value) for name, value in found.seen.run.summary.seconds.items())


def _tests(config: Config, found: Snapshot) -> Iterator[Sample]:
    for failure in found.seen.failures:
        for relation in dict.fromkeys(failure.models):
            yield (failure.test, relation, failure.status), 1


def _held_back(config: Config, found: Snapshot) -> Iterator[Sample]:
    yield from (((relation,), 1) for relation in found.seen.held_back)


def _not_exported(config: Config, found: Snapshot) -> Iterator[Sample]:
    if found.seen.run is not None:
        yield from (((relation,), 1) for relation in found.seen.run.summary.not_exported)


LAKE = (
    Definition(
        "ducklake_info", "gauge", ("lake", "version"), "Always 1; which lake this is.", _info
    ),
    Definition(
        "ducklake_model_light",
        "gauge",
        ("model", "aspect"),
        f"How far a model can be trusted: {LIGHTS}.",
        _model_light,
    ),
    Definition("ducklake_commits_total", "counter", (), "Commits of the ledger.", _commits),
    Definition("ducklake_cycles_total", "counter", (), "Cycles of the batch.", _cycles),
    Definition(
        "ducklake_last_cycle_timestamp_seconds",
        "gauge",
        (),
        "When the newest cycle began.",
        _of_run(_run_at),
    ),
    Definition(
        "ducklake_last_cycle_seconds",
        "gauge",
        (),
        "How long the newest cycle took.",
        _of_run(_run_seconds),
    ),
    Definition(
        "ducklake_last_cycle_step_seconds",
        "gauge",
        ("step",),
        "How long the steps of the newest cycle took; export is that of the models.",
        _steps,
    ),
    Definition(
        "ducklake_failing_tests",
        "gauge",
        ("test", "relation", "status"),
        "1 for each test that found something, or could not run, when it last ran.",
        _tests,
    ),
    Definition(
        "ducklake_held_back_relations",
        "gauge",
        ("relation",),
        "1 for each model whose last good state stays published.",
        _held_back,
    ),
    Definition(
        "ducklake_not_exported_relations",
        "gauge",
        ("relation",),
        "1 for each relation whose last state stays in PostgreSQL.",
        _not_exported,
    ),
    Definition(
        "ducklake_problems",
        "gauge",
        ("kind",),
        "What should run, move or be equal, and does not, is not, as `ducklake status` counts it.",
        _of_problems,
    ),
    Definition(
        "ducklake_problem_info",
        "gauge",
        ("subject", "state"),
        "1 for each of them, with its state in the word of `ducklake status`.",
        _problem,
    ),
    Definition("ducklake_role_up", "gauge", ("role",), "Whether a role runs and moves.", _roles_up),
    Definition(
        "ducklake_role_restarts_total",
        "counter",
        ("role",),
        "How often a role was started again by its supervisor.",
        _restarts,
    ),
    Definition(
        "ducklake_active_alerts",
        "gauge",
        ("kind",),
        "Alerts that have begun and not ended.",
        _active_alerts,
    ),
    Definition(
        "ducklake_waiting_alert_messages",
        "gauge",
        (),
        "Messages about alerts that are not sent yet.",
        _alert_messages,
    ),
    Definition("ducklake_disk_free_bytes", "gauge", (), "Room on the disk of the lake.", _free),
    Definition(
        "ducklake_disk_used_bytes",
        "gauge",
        ("part",),
        "What each entry of the data folder takes, as of the compactor's last look (hourly).",
        _used,
    ),
    Definition(
        "ducklake_disk_full_in_seconds",
        "gauge",
        (),
        "When the disk is full at the rate of the last day; absent where it does not fill up.",
        _full_in,
    ),
    Definition(
        "ducklake_look_seconds", "gauge", (), "How long the look at the lake took.", _look_seconds
    ),
    Definition(
        "ducklake_look_timestamp_seconds",
        "gauge",
        (),
        "When the lake was looked at; an old one means that nobody looks.",
        _look_at,
    ),
)
