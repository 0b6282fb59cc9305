"""Sources of APIs: whether their servers answer, whatever they answer."""

from __future__ import annotations

from collections.abc import Iterator

import requests

from ducklake.doctor.findings import Finding, well, wrong
from lake.config import Config, without_login
from producers.connections import connect
from producers.http.connection import RestConnection
from producers.registry import connector_class

TIMEOUT = (5.0, 20.0)


def api(config: Config, name: str) -> Iterator[Finding]:
    """Each server that a source asks."""
    source = config.settings.sources[name]
    for use in connector_class(config, name).connections_used(name, source):
        at = connect(config, use)
        if not isinstance(at, RestConnection):
            continue
        subject, shown = f"source {name}", without_login(str(at.base_url))
        try:
            answer = requests.get(str(at.base_url), timeout=TIMEOUT, stream=True)
            answer.close()
        except requests.RequestException as error:
            what = f"{shown} does not answer ({type(error).__name__})"
            remedy = "ducklake up" if use.is_embedded(config) else f"curl -sS -o /dev/null {shown}"
            yield wrong("DL-701", subject, what, remedy)
        else:
            yield well(subject, f"{shown} answers")
