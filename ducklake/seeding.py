"""What a container does once before its roles start: `python -m ducklake.seeding`.

It notes the host key of each SFTP server whose file of known hosts is not there yet, and puts the
demo's files on the suppliers' server, where that has none. What is there stays, so that a run that
was killed begins anew.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import paramiko

from lake.config import Config, SftpConnection, load_config
from lake.errors import DuckLakeError, ServiceUnreachable
from lake.storage.operations import write_atomically
from producers.registry import source_connection
from producers.sftp.session import CONNECT_SECONDS, open_session
from techstore.place import place_files

SAMPLE_FILES = Path("docker", "sftp")
SWITCH = "DUCKLAKE_SAMPLE_FILES"
"""In the environment, `0`: the demo's files are not wanted."""
_SHOP_TIME = ZoneInfo("America/Argentina/Buenos_Aires")


def note_host_key(at: SftpConnection) -> str:
    """Write the server's key into a file of known hosts that is not there yet.

    Args:
        at: The server; it is believed once, so this is for a private network.

    Returns:
        The key's fingerprint, which the server's owner knows; empty where the file is there.

    Raises:
        ServiceUnreachable: The server does not answer.
    """
    if at.known_hosts is None or at.known_hosts.exists():
        return ""
    try:
        plain = socket.create_connection((at.host, at.port), timeout=CONNECT_SECONDS)
        with plain, paramiko.Transport(plain) as server:
            server.start_client(timeout=CONNECT_SECONDS)
            key = server.get_remote_server_key()
    except (OSError, EOFError, paramiko.SSHException) as error:
        said = str(error) or type(error).__name__
        raise ServiceUnreachable(f"SFTP {at.host}:{at.port}: {said}.", "Is it up?") from None
    name = at.host if at.port == 22 else f"[{at.host}]:{at.port}"
    write_atomically(at.known_hosts, f"{name} {key.get_name()} {key.get_base64()}\n")
    return str(key.fingerprint)


def place_samples(at: SftpConnection, source: Path, directory: str) -> list[str]:
    """Put the demo's files, with dates of today, on a server that does not have them.

    Args:
        at: The server.
        source: The folder of the files.
        directory: The folder there.

    Returns:
        The names of the files that were put there.

    Raises:
        SourceError: The server refuses the user, or is another one.
        ServiceUnreachable: It does not answer.
    """
    with tempfile.TemporaryDirectory() as folder, open_session(at) as session:
        place_files(source, Path(folder), datetime.now(_SHOP_TIME).date())
        there = {*session.listdir(directory)}
        placed = sorted(file for file in Path(folder).iterdir() if file.name not in there)
        for file in placed:
            part = f"{directory.rstrip('/')}/.{file.name}.part"
            session.put(str(file), part)
            session.posix_rename(part, f"{directory.rstrip('/')}/{file.name}")
    return [file.name for file in placed]


def seed(config: Config, wants_samples: bool) -> Iterator[str]:
    """Do what has to be done once; a line for each step.

    Args:
        config: The configuration.
        wants_samples: Whether the demo's files are placed.

    Raises:
        DuckLakeError: A server does not answer, or refuses.
    """
    for name, source in config.settings.sources.items():
        if source.type != "sftp":
            continue
        at = source_connection(config, name)
        assert isinstance(at, SftpConnection)
        if fingerprint := note_host_key(at):
            yield f"source {name}: the host key of {at.host} is {fingerprint}: compare it"
        samples = config.root / SAMPLE_FILES
        if wants_samples and samples.is_dir():
            placed = place_samples(at, samples, source.directory)
            yield f"source {name}: {len(placed)} sample files were placed"


def main() -> None:
    """Seed, and exit with 1 where that failed."""
    try:
        for line in seed(load_config(), os.environ.get(SWITCH) != "0"):
            print(line)
    except DuckLakeError as error:
        print(f"ducklake: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
