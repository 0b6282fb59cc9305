"""Where events go: a file, an address, or both, each with a thread and a queue of its own.

Whoever tells something never waits: a full queue drops its oldest event. What goes wrong is said
once in the log, and stays in `ducklake status` until it is over.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from lake.config import Lineage, Logs
from lake.openlineage.events import Told, event_of
from lake.processes.backoff import Backoff
from lake.processes.heartbeat import RETRYING, Heartbeat, Part
from lake.storage.event_file import append_lines

log = structlog.get_logger()
MOST_WAITING = 5_000
"""Events that wait for a target which does not take them."""
AT_ONCE = 100
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
HTTP_SECONDS = 5.0
"""Seconds until a connection stands, and between two pieces of an answer."""
END_SECONDS = 5.0
"""Seconds that the end of a process waits for what has not been sent."""
REMEDY = (
    "Events wait and are sent later, and nothing else waits for them; check the section `lineage`"
    " of ducklake.yml."
)


class RefusedEvent(Exception):
    """A target refuses an event, and would refuse it again."""


class Target(ABC):
    """A place that takes events.

    Attributes:
        name: For messages.
        kind: `file` or `url`.
    """

    name: str
    kind: str

    @abstractmethod
    def send(self, events: Sequence[Any]) -> None:
        """Hand over events, in order.

        Raises:
            OSError: It does not take them now.
            RefusedEvent: It never will.
        """

    def most(self) -> int:
        """How many events it takes at once."""
        return 1


class FileTarget(Target):
    """One event a line.

    Args:
        path: The file.
        logs: Its size, and how many of those put aside are kept.
    """

    kind = "file"

    def __init__(self, path: Path, logs: Logs) -> None:
        self.name = f"the file {path}"
        self._path = path
        self._limits = round(logs.max_mb * 1024 * 1024), logs.keep

    def most(self) -> int:
        """Whatever waits."""
        return AT_ONCE

    def send(self, events: Sequence[Any]) -> None:
        """Append them."""
        from openlineage.client.serde import Serde

        lines = "".join(f"{Serde.to_json(event)}\n" for event in events)
        append_lines(self._path, lines.encode(), *self._limits)


class UrlTarget(Target):
    """OpenLineage's HTTP API.

    Args:
        lineage: The section, with an address.
    """

    kind = "url"

    def __init__(self, lineage: Lineage) -> None:
        from openlineage.client.transport.http import (
            ApiKeyTokenProvider,
            HttpConfig,
            HttpTransport,
            TokenProvider,
        )

        self.name = str(lineage.url)
        key = lineage.api_key.get_secret_value()
        auth = ApiKeyTokenProvider({"api_key": key}) if key else TokenProvider({})
        settings = HttpConfig(
            str(lineage.url), lineage.endpoint, HTTP_SECONDS, auth=auth, retry={"total": 0}
        )
        self._transport = HttpTransport(settings)

    def send(self, events: Sequence[Any]) -> None:
        """Post each."""
        from requests import HTTPError

        for event in events:
            try:
                self._transport.emit(event)
            except HTTPError as error:
                status = error.response.status_code if error.response is not None else 0
                # Its text may hold the address with whatever is in it: the number says enough.
                if 400 <= status < 500 and status not in (401, 403, 404, 408, 429):
                    raise RefusedEvent(f"it answers {status}") from None
                raise OSError(f"it answers {status}") from None


class Sender:
    """Sends to one target, from a thread.

    Args:
        target: The target.
        namespace: Of the jobs.
        heartbeat: Told while the target takes nothing.
        pauses: Between two tries.
    """

    def __init__(
        self,
        target: Target,
        namespace: str,
        heartbeat: Heartbeat,
        pauses: Backoff | None = None,
    ) -> None:
        self._target = target
        self._part = f"lineage {target.kind}"
        self._namespace = namespace
        self._heartbeat = heartbeat
        self._backoff = pauses or Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self._waiting: deque[Told] = deque()
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._ending = threading.Event()
        self._fails = False
        self._pause = 0.0
        self.lost = 0
        self._thread = threading.Thread(target=self._run, name="lineage", daemon=True)
        self._thread.start()

    def put(self, told: Told) -> None:
        """Take an event; where too many wait, the oldest one goes."""
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                self._waiting.popleft()
                self.lost += 1
            self._waiting.append(told)
        self._news.set()

    def close(self, seconds: float = END_SECONDS) -> None:
        """Send what waits, as far as that works at once.

        Args:
            seconds: It is not waited for longer.
        """
        self._ending.set()
        self._news.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            while self._waiting:
                if not self._send_some():
                    if self._ending.is_set():
                        return
                    self._ending.wait(self._pause)
            if self._ending.is_set():
                return

    def _send_some(self) -> bool:
        with self._lock:
            some = [self._waiting.popleft() for _ in range(self._how_many())]
        try:
            self._target.send([event_of(told, self._namespace) for told in some])
        except RefusedEvent as error:
            self.lost += len(some)
            self._failed(str(error))
            return True  # the next one may be taken
        except Exception as error:  # whatever it is, nobody but the lineage has to do with it
            with self._lock:
                self._waiting.extendleft(reversed(some))
            self._failed(str(error) if type(error) is OSError else type(error).__name__)
            return False
        self._succeeded()
        return True

    def _how_many(self) -> int:
        return min(self._target.most(), len(self._waiting))

    def _failed(self, reason: str) -> None:
        self._pause = self._backoff.pause()
        what = f"OpenLineage events do not reach {self._target.name}: {reason}."
        next_attempt = time.time() + self._pause
        part = Part("step", RETRYING, 0.0, what, REMEDY, next_attempt)
        self._heartbeat.part(self._part, part)
        if not self._fails:
            self._fails = True
            log.warning(
                "lineage_not_sent",
                message="A target of OpenLineage events does not take them; nothing else waits.",
                target=self._target.name,
                reason=f"{what} {REMEDY}",
            )

    def _succeeded(self) -> None:
        if not self._fails:
            return
        self._fails = False
        self._backoff.reset()
        self._heartbeat.forget(self._part)
        log.info(
            "lineage_sent_again",
            message="A target of OpenLineage events takes them again.",
            target=self._target.name,
            lost=self.lost,
        )


def targets(lineage: Lineage, root: Path, logs: Logs) -> list[Target]:
    """The targets that are configured.

    Args:
        lineage: The section.
        root: The project's folder: a path in it is relative to that.
        logs: How much of a file is kept.
    """
    found: list[Target] = []
    if lineage.file is not None:
        found.append(FileTarget((root / lineage.file.expanduser()).absolute(), logs))
    if lineage.url is not None:
        found.append(UrlTarget(lineage))
    return found
