"""Decides what has begun and what has ended, and sends it: each target in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import structlog

from ducklake.alerts.book import AlertBook
from ducklake.alerts.targets import Target
from ducklake.monitoring.causes import ALERT_TARGET, STALLED, Cause, causes
from ducklake.monitoring.lineage import Lineage
from ducklake.monitoring.observation import Observation
from lake.config import Config, seconds_of
from lake.errors import DuckLakeError
from lake.failpoints import failpoint
from lake.processes.backoff import Backoff
from lake.processes.heartbeat import RETRYING, RUNNING, Heartbeat, Part
from lake.storage.paths import LakePaths

log = structlog.get_logger()
QUIET_SECONDS = 10.0
"""A cause that is gone for so long has ended: one that comes and goes is one."""
START_SECONDS = 60.0
"""The same of a cause from before the monitor was started: roles need time to find it again."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
TAKE_SECONDS = 1.0
_OF_ROLES = ("source ", "table ", "step ", "file ", "relation ")


class Notifier:
    """Tells all targets of what begins and ends.

    Args:
        config: The configuration.
        targets: Who is told.
        heartbeat: Told which of them cannot be reached.
    """

    def __init__(self, config: Config, targets: Sequence[Target], heartbeat: Heartbeat) -> None:
        self._config = config
        self._paths = LakePaths(config.data_dir)
        self.book = AlertBook(self._paths, [target.name.fingerprint for target in targets])
        self._couriers = [Courier(self.book, target, heartbeat) for target in targets]
        self._seen_first: dict[str, float] = {}
        self._gone_since: dict[str, float] = {}
        self._old = frozenset(self.book.active)
        self._stalled = seconds_of(config.settings.alerts.stalled) or 0.0

    def start(self) -> None:
        """Send what waits, from now on."""
        for courier in self._couriers:
            courier.start()

    def stop(self) -> None:
        """Send no more; what waits is sent after the next start."""
        for courier in self._couriers:
            courier.stop()

    def look(self, seen: Observation, now: float) -> None:
        """Compare what is wrong now with what has begun.

        Args:
            seen: The lake at a moment.
            now: A clock that never goes back.
        """
        found = {c.key: c for c in causes(self._config, seen, Lineage.of(self._paths))}
        active = self.book.active
        begun = [c for c in found.values() if c.key not in active and self._has_lasted(c, now)]
        if any(cause.is_root for cause in found.values()):
            begun = [cause for cause in begun if not cause.may_follow]
        for key in self._seen_first.keys() - found.keys():
            del self._seen_first[key]
        for key in found.keys() & self._gone_since.keys():
            del self._gone_since[key]
        gone = [key for key in active if key not in found]
        ended = [key for key in gone if self._is_over(key, seen, now)]
        self.book.update(begun, ended)

    def _has_lasted(self, cause: Cause, now: float) -> bool:
        first = self._seen_first.setdefault(cause.key, now)
        waited = max(now - first, time.time() - cause.since)
        return cause.kind != STALLED or waited >= self._stalled

    def _is_over(self, key: str, seen: Observation, now: float) -> bool:
        """Whether a cause that is not seen has ended, and not only its witness."""
        subject = key.partition(":")[2]
        roles = {role.name for role in seen.condition.roles}
        troubled = any(problem.subject in roles for problem in seen.condition.problems)
        is_told_by_role = subject.startswith(_OF_ROLES)
        if subject in seen.condition.pending or (
            is_told_by_role and (troubled or seen.condition.pending)
        ):
            self._gone_since.pop(key, None)
            return False
        patience = START_SECONDS if key in self._old and is_told_by_role else QUIET_SECONDS
        if now - self._gone_since.setdefault(key, now) < patience:
            return False
        del self._gone_since[key]
        self._old -= {key}
        return True


class Courier:
    """Sends the messages for one target, one after the other.

    Args:
        book: Has them.
        target: Who is told.
        heartbeat: Told where it cannot be reached.
    """

    def __init__(self, book: AlertBook, target: Target, heartbeat: Heartbeat) -> None:
        self._book = book
        self._target = target
        self._heartbeat = heartbeat
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"alerts-{target.name.number}", daemon=True
        )

    def start(self) -> None:
        """Send from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Send no more; a message on its way is waited for."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        name = str(self._target.name)
        while not self._stop.is_set():
            message = self._book.take(self._target.name.fingerprint, TAKE_SECONDS)
            if message is None:
                continue
            try:
                failpoint("alerts.before_send")
                self._target.send(message)
                failpoint("alerts.after_send")
            except DuckLakeError as error:
                self._book.not_sent(message)
                pause = self._backoff.pause()
                attempt = time.time() + pause
                part = Part(ALERT_TARGET, RETRYING, 0.0, error.what, error.remedy, attempt)
                self._heartbeat.part(name, part)
                if self._backoff.failures == 1:
                    log.warning("alert_not_sent", message="It is tried again.", reason=str(error))
                self._stop.wait(pause)
            else:
                self._book.sent(message)
                self._backoff.reset()
                self._heartbeat.part(name, Part(ALERT_TARGET, RUNNING))
                log.info(
                    "alert_sent",
                    message="An alert was sent.",
                    alert=message.alert.subject,
                    told=message.event,
                    target=name,
                )
