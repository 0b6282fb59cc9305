"""Sources of files: an SFTP server with its host key, or a folder of this machine."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from ducklake.doctor.findings import Finding, well, wrong
from lake.config import Config, SftpConnection
from lake.errors import DuckLakeError, ServiceUnreachable
from producers.registry import source_connection
from producers.sftp.private_key import KeyUnusable
from producers.sftp.session import KNOWN_HOSTS, open_session


def sftp(config: Config, name: str) -> Iterator[Finding]:
    """The server of a source, and the files that say who it is and who we are."""
    at = source_connection(config, name)
    assert isinstance(at, SftpConnection)
    subject, folder = f"source {name}", config.settings.sources[name].directory
    yield from _private_key(subject, at.private_key)
    try:
        with open_session(at) as session:
            yield well(subject, f"SFTP at {at.host}:{at.port}, its host key is known")
            try:
                session.listdir_attr(folder)
            except OSError:
                what = f"the folder {folder} is not there, or may not be listed"
                yield wrong("DL-605", subject, what, f"Mend sources.{name}.directory, or make it")
    except ServiceUnreachable as error:
        remedy = "ducklake up" if _is_embedded(config, name) else "Start it, or mend its address"
        yield wrong("DL-601", subject, error.what, remedy)
    except KeyUnusable as error:
        yield wrong("DL-606", subject, error.what, error.remedy)
    except DuckLakeError as error:
        yield _refusal(subject, at, error)


def _refusal(subject: str, at: SftpConnection, error: DuckLakeError) -> Finding:
    known_hosts = (at.known_hosts or KNOWN_HOSTS).expanduser()
    if "key is not" in error.what:
        host = at.host if at.port == 22 else f"[{at.host}]:{at.port}"
        file = shlex.quote(str(known_hosts))
        scan = f"ssh-keyscan -p {at.port} {at.host} >> {file}"
        changed = "its key is not the one" in error.what or "server's key is not" in error.what
        forget = f"ssh-keygen -R {shlex.quote(host)} -f {file}; " if changed else ""
        remedy = f"{forget}{scan}   # once its owner has confirmed the key"
        return wrong("DL-602", subject, error.what, remedy)
    return wrong("DL-603", subject, error.what, error.remedy)


def _private_key(subject: str, key: Path | None) -> Iterator[Finding]:
    if key is None or not key.is_file():
        return
    mode = stat.S_IMODE(key.stat().st_mode)
    if mode & 0o077:
        what = f"{key} can be read by other users (mode {mode:o})"
        yield wrong("DL-604", subject, what, f"chmod 600 {shlex.quote(str(key))}")


def _is_embedded(config: Config, name: str) -> bool:
    source = config.settings.sources[name]
    entry = config.settings.connections.get(str(source.connection), source.connection)
    return entry == "embedded"


def local_files(config: Config, name: str) -> Iterator[Finding]:
    """The folder of a source."""
    folder = config.root / Path(config.settings.sources[name].directory).expanduser()
    if folder.is_dir():
        yield well(f"source {name}", f"folder {folder}")
    else:
        remedy = f"mkdir -p {shlex.quote(str(folder))}"
        yield wrong("DL-605", f"source {name}", f"there is no folder {folder}", remedy)
