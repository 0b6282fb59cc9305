"""Kafka Connect: whether it answers, writes exactly once, has our connector, and runs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import requests

from ducklake.doctor.findings import Finding, well, wrong
from lake.config import MYSQL_CDC, Config, Endpoints, without_login

TIMEOUT = (5.0, 30.0)
CONNECTOR = "ducklake.MysqlConnector"
_PAUSED = frozenset({"PAUSED", "STOPPED"})


def connect(config: Config, endpoints: Endpoints) -> Iterator[Finding]:
    """Everything about Connect; nothing where no source needs it."""
    sources = [n for n, source in config.settings.sources.items() if source.type == MYSQL_CDC]
    if not sources:
        return
    shown = without_login(endpoints.connect)
    try:
        yield from _asked(config, endpoints.connect, sources)
    except (requests.RequestException, ValueError) as error:
        if _is_refused(error):
            what, remedy = (
                f"{shown} refuses the login",
                "Mend user and password of services.connect",
            )
            yield wrong("DL-305", "connect", what, remedy)
            return
        what = f"{shown} does not answer as Kafka Connect does ({type(error).__name__})"
        remedy = (
            "ducklake up"
            if "connect" in config.settings.services.embedded()
            else "Start it, or mend services.connect.url in ducklake.yml"
        )
        yield wrong("DL-301", "connect", what, remedy)


def _is_refused(error: Exception) -> bool:
    answer = error.response if isinstance(error, requests.RequestException) else None
    codes = (requests.codes.unauthorized, requests.codes.forbidden)
    return answer is not None and answer.status_code in codes


def _asked(config: Config, url: str, sources: list[str]) -> Iterator[Finding]:
    yield well("connect", f"Kafka {_get(url, '/')['version']}")
    plugins = {plugin["class"] for plugin in _get(url, "/connector-plugins")}
    if CONNECTOR not in plugins:
        what = f"it has no {CONNECTOR}"
        remedy = "ducklake converter FILE.jar, into the folder of Debezium's connector; restart it"
        yield wrong("DL-303", "connect", what, remedy)
    elif not _writes_once(url):
        what = "its workers run without exactly.once.source.support=enabled"
        remedy = "echo exactly.once.source.support=enabled >> worker.properties; restart it"
        yield wrong("DL-302", "connect", what, remedy)
    for name in sources:
        yield from _connector(f"{config.settings.name}-{name}", url, name)


def _writes_once(url: str) -> bool:
    """Whether the workers take a connector that must write exactly once."""
    wanted = {
        "connector.class": CONNECTOR,
        "name": "ducklake-doctor",
        "tasks.max": "1",
        "exactly.once.support": "required",
    }
    short = CONNECTOR.rpartition(".")[2]
    answer = requests.put(
        f"{url}/connector-plugins/{short}/config/validate", json=wanted, timeout=TIMEOUT
    )
    answer.raise_for_status()
    values = [entry.get("value") or {} for entry in answer.json().get("configs", [])]
    return not any(v.get("name") == "exactly.once.support" and v.get("errors") for v in values)


def _connector(connector: str, url: str, source: str) -> Iterator[Finding]:
    answer = requests.get(f"{url}/connectors/{connector}/status", timeout=TIMEOUT)
    if answer.status_code == requests.codes.not_found:
        yield well(f"connector {connector}", "`ducklake produce` makes it")
        return
    answer.raise_for_status()
    found = answer.json()
    states = [found["connector"]["state"], *(task["state"] for task in found["tasks"])]
    if "FAILED" in states:
        what = "it has failed; `ducklake status` says why"
        yield wrong(
            "DL-304", f"connector {connector}", what, f"ducklake connector restart {source}"
        )
    elif _PAUSED & {*states}:
        what = f"it is {found['connector']['state'].lower()}"
        yield wrong("DL-304", f"connector {connector}", what, f"ducklake connector resume {source}")
    else:
        yield well(f"connector {connector}", found["connector"]["state"].lower())


def _get(url: str, path: str) -> Any:
    answer = requests.get(f"{url}{path}", timeout=TIMEOUT)
    answer.raise_for_status()
    return answer.json()
