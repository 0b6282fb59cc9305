"""What has been told to whom: durable before it is sent, so that nothing is told twice."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from ducklake.monitoring.alert_state import BEGIN, END, Alert, AlertState, Message, alert_state
from ducklake.monitoring.causes import Cause
from lake.storage.json_files import write_json
from lake.storage.operations import make_folder
from lake.storage.paths import LakePaths

log = structlog.get_logger()
MOST_MESSAGES = 1_000
"""Messages that wait; beyond that the oldest are given up."""


class AlertBook:
    """The alerts of a lake; any thread may ask.

    Args:
        paths: The lake.
        targets: Fingerprints of those who are told.
    """

    def __init__(self, paths: LakePaths, targets: Sequence[str]) -> None:
        self._path = paths.alerts
        self._targets = tuple(targets)
        self._mutex = threading.Lock()
        self.changed = threading.Condition(self._mutex)
        kept = alert_state(paths)
        make_folder(paths.root)
        self._active = {alert.key: alert for alert in kept.active}
        self._messages = [m for m in kept.messages if m.target in self._targets]
        self._forget_what_may_have_been_sent()

    @property
    def active(self) -> Mapping[str, Alert]:
        """The alerts that have begun, by their keys."""
        with self._mutex:
            return dict(self._active)

    def update(self, begun: Sequence[Cause], ended: Sequence[str]) -> None:
        """Note what has begun and ended, and a message for everybody who is to know."""
        with self._mutex:
            before = (dict(self._active), list(self._messages))
            for cause in begun:
                self._active[cause.key] = Alert(
                    secrets.token_hex(8),
                    cause.kind,
                    cause.subject,
                    cause.state,
                    cause.since,
                    cause.remedy,
                )
            for alert in list(self._active.values()):
                self._tell_all(alert)
            for key in ended:
                alert = self._active.pop(key)
                self._messages += [
                    Message(alert, END, target, time.time())
                    for target in alert.told
                    if target in self._targets
                ]
            if (self._active, self._messages) != before:
                self._limit()
                self._keep()
                self.changed.notify_all()

    def _tell_all(self, alert: Alert) -> None:
        """A message for everybody who has not got one: one who was added since, too."""
        new = [target for target in self._targets if target not in alert.told]
        if new:
            told = replace(alert, told=(*alert.told, *new))
            self._active[alert.key] = told
            self._messages += [Message(told, BEGIN, target, time.time()) for target in new]

    def take(self, target: str, seconds: float) -> Message | None:
        """The first message for a target, noted as being sent; None: there is none for so long."""
        with self._mutex:
            found = self._first(target)
            if found is None:
                self.changed.wait(seconds)
                found = self._first(target)
            if found is None:
                return None
            taken = replace(found, is_sending=True, attempts=found.attempts + 1)
            self._messages[self._messages.index(found)] = taken
            self._keep()
            return taken

    def sent(self, message: Message) -> None:
        """A message has arrived."""
        with self._mutex:
            self._messages.remove(message)
            self._keep()

    def not_sent(self, message: Message) -> None:
        """A message has not arrived: it is the first one again."""
        with self._mutex:
            at = self._messages.index(message)
            self._messages[at] = replace(message, is_sending=False)
            self._keep()

    def _first(self, target: str) -> Message | None:
        return next((m for m in self._messages if m.target == target), None)

    def _forget_what_may_have_been_sent(self) -> None:
        """Whoever was killed while it sent something does not know whether it was sent.

        It is not sent again: to be told twice is worse than to see it on the page alone.
        """
        for message in [m for m in self._messages if m.is_sending]:
            self._messages.remove(message)
            log.warning(
                "alert_in_doubt",
                message="Its sender ended while it was sent; it is not sent a second time.",
                alert=message.alert.subject,
                told=message.event,
            )

    def _limit(self) -> None:
        surplus = len(self._messages) - MOST_MESSAGES
        if surplus > 0:
            idle = [m for m in self._messages if not m.is_sending][:surplus]
            self._messages = [m for m in self._messages if m not in idle]
            log.warning(
                "alerts_given_up",
                message="Too many messages wait for a target that does not answer.",
                count=len(idle),
            )

    def _keep(self) -> None:
        state = AlertState(tuple(self._active.values()), tuple(self._messages))
        try:
            write_json(self._path, state.dump())
        except OSError:
            return  # a full disk is a reason to tell somebody, not to be silent
