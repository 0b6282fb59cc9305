"""Who is told: an HTTP address, an address of Apprise (e-mail, chat, …), or a command."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests
from pydantic import SecretStr

from ducklake.alerts.wording import payload, text, title
from ducklake.monitoring.alert_state import END, Message
from lake.config import AlertCommand, Config
from lake.errors import ConfigError, ServiceUnreachable

if TYPE_CHECKING:
    from apprise import Apprise

HTTP_SECONDS = (5.0, 15.0)
COMMAND_SECONDS = 30.0
_HTTP = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class TargetName:
    """What may be shown of a target: addresses carry secrets.

    Attributes:
        number: Its place under `alerts.to`, from 1 on.
        kind: `webhook`, `command`, or Apprise's word: `mailto`, `slack`.
        fingerprint: The same for as long as the address is.
    """

    number: int
    kind: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.number} ({self.kind})"


class Target(ABC):
    """Somebody who is told.

    Args:
        name: What may be shown of it.
        lake: The lake's name.
    """

    def __init__(self, name: TargetName, lake: str) -> None:
        self.name = name
        self.lake = lake

    @abstractmethod
    def send(self, message: Message) -> None:
        """Tell it.

        Raises:
            ServiceUnreachable: It was not told; it may be tried again.
        """


class Webhook(Target):
    """An HTTP address that takes JSON."""

    def __init__(self, name: TargetName, lake: str, url: str) -> None:
        super().__init__(name, lake)
        self._url = url

    def send(self, message: Message) -> None:
        """POST it; any answer below 300 will do."""
        try:
            answer = requests.post(
                self._url,
                json=payload(self.lake, message),
                headers={"Idempotency-Key": message.id},
                timeout=HTTP_SECONDS,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise _unreachable(self.name, f"it does not answer ({type(error).__name__})") from None
        if answer.status_code >= requests.codes.multiple_choices:
            raise _unreachable(self.name, f"it answered {answer.status_code}")


class Command(Target):
    """A program of the user's: the alert is JSON on its standard input."""

    def __init__(self, name: TargetName, config: Config, words: list[str]) -> None:
        super().__init__(name, config.settings.name)
        self._words = words
        self._folder = config.root

    def send(self, message: Message) -> None:
        """Run it; exit code 0 will do."""
        try:
            done = subprocess.run(
                self._words,
                input=json.dumps(payload(self.lake, message)),
                text=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self._folder,
                timeout=COMMAND_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise _unreachable(self.name, f"it ran for {COMMAND_SECONDS:.0f} s") from None
        except OSError as error:
            raise _unreachable(self.name, f"it cannot be run ({error.strerror})") from None
        if done.returncode:
            raise _unreachable(self.name, f"it ended with exit code {done.returncode}")


class AppriseTarget(Target):
    """An address that Apprise knows."""

    def __init__(self, name: TargetName, lake: str, service: Apprise) -> None:
        super().__init__(name, lake)
        self._service = service

    def send(self, message: Message) -> None:
        """Hand it to Apprise, which says whether it was taken."""
        kind = "success" if message.event == END else "warning"
        try:
            taken = self._service.notify(
                title=title(self.lake, message),
                body=text(message),
                notify_type=kind,
                body_format="text",
            )
        except Exception as error:  # of any of its hundred plugins; it may quote the address
            raise _unreachable(self.name, f"it cannot be sent ({type(error).__name__})") from None
        if not taken:
            raise _unreachable(self.name, "it does not take the message")


def targets(config: Config) -> tuple[list[Target], list[ConfigError]]:
    """All targets of the configuration, and what is wrong with entries that are none.

    An error names the line of its entry, not what stands there: that may be a secret.
    """
    found: list[Target] = []
    wrong: list[ConfigError] = []
    for number, entry in enumerate(config.settings.alerts.to, 1):
        try:
            found.append(_target(config, number, entry))
        except ConfigError as error:
            wrong.append(error)
    return found, wrong


def _target(config: Config, number: int, entry: SecretStr | AlertCommand) -> Target:
    if isinstance(entry, AlertCommand):
        return Command(_name(number, "command", "\0".join(entry.command)), config, entry.command)
    address, lake = entry.get_secret_value(), config.settings.name
    service = _apprise(address)
    if service is not None:
        kind = address.partition("://")[0] or "apprise"
        return AppriseTarget(_name(number, kind, address), lake, service)
    if address.startswith(_HTTP):
        return Webhook(_name(number, "webhook", address), lake, address)
    raise config.error(
        ("alerts", "to", str(number - 1)),
        "it is no address that Apprise knows, and none with http:// or https://",
        "Apprise's pages list them: mailtos://, slack://, tgram://, ntfy://, …",
    )


def _apprise(address: str) -> Apprise | None:
    """The service of an address; None where Apprise knows none. Loaded here: it takes a second."""
    with warnings.catch_warnings():  # its plugins load modules that Python will not have one day
        warnings.simplefilter("ignore", DeprecationWarning)
        from apprise import Apprise, AppriseAsset

        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        service = Apprise(asset=AppriseAsset(app_id="DuckLake Stream", async_mode=False))
        return service if service.add(address) else None


def _name(number: int, kind: str, address: str) -> TargetName:
    return TargetName(number, kind, hashlib.sha256(address.encode()).hexdigest()[:16])


def _unreachable(name: TargetName, what: str) -> ServiceUnreachable:
    return ServiceUnreachable(
        f"Alert target {name}: {what}.", "It is tried again; `ducklake alerts test` tries it now."
    )
