"""`ducklake dashboard`: serve the page until told to stop."""

from __future__ import annotations

import os
import socket
import sys
import threading

from ducklake.cli.output import note
from lake.config import Config
from lake.errors import ConfigError, StackError
from lake.installation import install_extra
from lake.processes.heartbeat import Heartbeat
from lake.storage.paths import LakePaths

PORT = 18200
"""The preferred port; the next free one where it is taken."""
_TRIED = 50
NICENESS = 10
"""Readers come after ingestion: where cores are scarce, the page waits."""
_BEAT_SECONDS = 1.0
_WITHIN = 60.0


def serve(
    config: Config, host: str, port: int | None, stop: threading.Event, heartbeat: Heartbeat
) -> None:
    """Serve the page.

    Args:
        config: The configuration.
        host: The address to listen on.
        port: The port; None: the first free one from `PORT` on.
        stop: Ends it.
        heartbeat: Told that it serves.

    Raises:
        ConfigError: A package is missing, or the address needs a token.
        StackError: The port is taken.
    """
    try:
        import uvicorn

        from ducklake.dashboard.access import TOKEN, Access
        from ducklake.dashboard.app import create_app
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The page needs the Python package {error.name}.",
            f"Install it with `{install_extra('dashboard')}`.",
        ) from None

    os.nice(max(0, NICENESS - os.nice(0)))
    paths = LakePaths(config.data_dir)
    access = Access.of(paths, host, os.environ.get(TOKEN))
    listening = _listening(host, port)
    address = f"http://{_shown(host)}:{listening.getsockname()[1]}/"
    print(address, flush=True)
    note(sign_in_line(config, address))
    options = uvicorn.Config(
        create_app(config, access),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(options)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="dashboard")
    thread.start()
    while thread.is_alive() and not stop.wait(_BEAT_SECONDS):
        heartbeat.beat("serving", _WITHIN)
    server.should_exit = True
    thread.join()


def sign_in_line(config: Config, address: str) -> str:
    """How to sign in: on a terminal a link that does, elsewhere (a log) only where the token is."""
    from ducklake.dashboard.access import TOKEN, Access, token_file

    paths, given = LakePaths(config.data_dir), os.environ.get(TOKEN)
    if sys.stdout.isatty():
        return f"signed in: {address}#token={Access.of(paths, '127.0.0.1', given).token}"
    return f"the token to sign in: {TOKEN if given else token_file(paths)}"


def free_port() -> int:
    """A free port on loopback, the preferred one if possible."""
    with _listening("127.0.0.1", None) as found:
        return int(found.getsockname()[1])


def _listening(host: str, port: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in (port,) if port is not None else range(PORT, PORT + _TRIED):
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, number))
            found.listen(128)
        except OSError as error:
            found.close()
            reason = error.strerror or str(error)
        else:
            return found
    raise StackError(f"{host} cannot be listened on: {reason}.", "Name another one with --port.")


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
