"""What a container's health check asks: `python -m ducklake.health`.

Healthy is a role whose process is neither stopped nor dead, whose main loop moves (its heartbeat),
and whose nearest service answers; the API server and the page answer themselves. Only the standard
library: it runs every few seconds.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

TIMEOUT = 3.0
_ANSWER = {
    "techstore.api_server": (8080, "the API"),
    "dashboard": (18200, "the page"),
    "dagster": (3000, "Dagster"),
}
_KAFKA = "DUCKLAKE_SERVICES__KAFKA__BOOTSTRAP_SERVERS"
_POSTGRES = ("DUCKLAKE_SERVICES__POSTGRES__HOST", "DUCKLAKE_SERVICES__POSTGRES__PORT")
_SHOP = ("DUCKLAKE_CONNECTIONS__SHOP_DB__HOST", "DUCKLAKE_CONNECTIONS__SHOP_DB__PORT")
# role → the variables that hold the address of the service without which it does nothing
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "produce": (_KAFKA,),
    "consume": (_KAFKA,),
    "live": (_KAFKA,),
    "run": (_KAFKA,),
    "monitor": (_KAFKA,),
    "batch": _POSTGRES,
    "simulate": _SHOP,
}
_COMPACTOR = "compact"  # it needs no service but the lake
_PORTS = {_POSTGRES[0]: "5432", _SHOP[0]: "3306"}


def problem(words: Sequence[str], state: str, environment: Mapping[str, str]) -> str | None:
    """Why a role is not healthy; None where it is.

    Args:
        words: The command line of the container's first process.
        state: Its state as the kernel tells it, one letter.
        environment: The container's environment.
    """
    if state in "TtZX":
        return f"the process does not run (state {state})"
    for word, (port, what) in _ANSWER.items():
        if word in words:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=TIMEOUT):
                    return None
            except OSError as error:
                return f"{what} does not answer: {error}"
    role = next((word for word in words if word in _NEEDS or word == _COMPACTOR), None)
    if role and (still := _stands_still(role, environment)):
        return still
    address = _address(_NEEDS[role], environment) if role and role in _NEEDS else None
    if address is None:
        return None
    try:
        socket.create_connection(address, timeout=TIMEOUT).close()
    except OSError as error:
        return f"{address[0]}:{address[1]} does not answer: {error}"
    return None


def _stands_still(role: str, environment: Mapping[str, str]) -> str | None:
    """What the heartbeat of this container's role says against it; None where all is well."""
    folder = environment.get("DUCKLAKE_DATA_DIR")
    if not folder or role == "run":
        return None  # of a supervisor, which looks after its roles itself
    host = socket.gethostname()
    for file in Path(folder, "run").glob(f"{role}*.json"):
        try:
            told, beat = json.loads(file.read_text()), file.stat().st_mtime
        except (OSError, ValueError):
            continue  # replaced at this moment
        if told.get("host") != host:
            continue  # of another container on the same lake
        limit, silent = told.get("within"), time.time() - beat
        if limit is not None and silent > limit:
            return f"the main loop has not moved for {silent:.0f} s, while {told.get('doing')}"
        return None
    return "it has no heartbeat"


def _address(variables: tuple[str, ...], environment: Mapping[str, str]) -> tuple[str, int] | None:
    named = environment.get(variables[0])
    if not named:
        return None
    host, _, port = named.split(",")[0].partition(":")
    if len(variables) > 1:
        port = environment.get(variables[1], _PORTS[variables[0]])
    return host, int(port)


def main() -> None:
    """Exit 0 for healthy, else 1 with a line that says why."""
    words = Path("/proc/1/cmdline").read_text(errors="replace").split("\0")
    # the name in brackets may hold blanks
    state = Path("/proc/1/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    found = problem(words, state, os.environ)
    if found:
        print(found)
        sys.exit(1)


if __name__ == "__main__":
    main()
