"""A message that says that alerts arrive."""

from __future__ import annotations

import secrets
import time

from ducklake.alerts.targets import targets
from ducklake.monitoring.alert_state import TEST, Alert, Message
from lake.config import Config
from lake.errors import ConfigError, DuckLakeError


def send_trial(config: Config) -> dict[str, str]:
    """Send it to every target, whatever becomes of the others.

    Returns:
        The target, without its address, to what went wrong; empty where nothing did.

    Raises:
        ConfigError: No target is configured, or one is none.
    """
    found, wrong = targets(config)
    if wrong:
        raise wrong[0]
    if not found:
        raise ConfigError(
            f"{config.path.name}: nobody is told of alerts.",
            "Name a target under alerts.to, such as an address that takes JSON.",
        )
    results = {}
    for target in found:
        alert = Alert(secrets.token_hex(8), TEST, "this is a test", "of alerts", time.time())
        try:
            target.send(Message(alert, TEST, target.name.fingerprint, time.time()))
            results[str(target.name)] = ""
        except DuckLakeError as error:
            results[str(target.name)] = error.what
    return results
