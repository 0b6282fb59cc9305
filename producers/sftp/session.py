"""A session with the SFTP server: its key is checked, and every refusal has a name."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey
from paramiko.ssh_exception import IncompatiblePeer

from lake.config import SftpConnection
from lake.errors import DuckLakeError, LoginRefused, ServiceUnreachable, SourceError
from producers.sftp.private_key import private_key

CONNECT_SECONDS = 15.0
SILENT_SECONDS = 60.0
KNOWN_HOSTS = Path("~/.ssh/known_hosts")

# It logs, with a traceback, what is raised here by name.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


@contextmanager
def open_session(at: SftpConnection) -> Iterator[paramiko.SFTPClient]:
    """Connect, log in, and close at the end.

    Raises:
        SourceError: The server's key is unknown or another one, or the server refuses the user.
        ServiceUnreachable: It does not answer, or the connection broke.
    """
    client = paramiko.SSHClient()
    try:
        try:
            _connect(client, at)
        except PermissionError as error:
            raise SourceError(
                f"{error.filename or at.host}: {error.strerror}.",
                f"private_key and known_hosts of {at.place} must be readable.",
            ) from None
        with client.open_sftp() as sftp:
            channel = sftp.get_channel()
            if channel is not None:
                channel.settimeout(SILENT_SECONDS)
            yield sftp
    except (FileNotFoundError, PermissionError):
        raise  # about a file, not about the server
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise _named(error, at) from None
    finally:
        client.close()


def _connect(client: paramiko.SSHClient, at: SftpConnection) -> None:
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    known_hosts = (at.known_hosts or KNOWN_HOSTS).expanduser()
    try:
        if known_hosts.exists():
            client.load_host_keys(str(known_hosts))
    except InvalidHostKey:
        raise SourceError(
            f"{at.known_hosts or KNOWN_HOSTS} has a line whose key is not one.",
            "Delete that line; `ssh-keygen -l -f FILE` says which one it is.",
        ) from None
    try:
        _log_in(client, at)
    except paramiko.BadHostKeyException as error:
        # of several keys of one kind paramiko looks at the first: a server that changes its key
        # has two of them for a while
        name = at.host if at.port == 22 else f"[{at.host}]:{at.port}"
        if not _is_listed(known_hosts, name, error.key):
            raise
        client.close()
        client.get_host_keys().clear()
        client.get_host_keys().add(name, error.key.get_name(), error.key)
        _log_in(client, at)


def _is_listed(known_hosts: Path, name: str, key: paramiko.PKey) -> bool:
    """Whether any line of the file has this key for the server."""
    for line in known_hosts.read_text(encoding="utf-8", errors="replace").splitlines():
        alone = paramiko.HostKeys()
        entry = None if line.lstrip().startswith("#") else HostKeyEntry.from_line(line)
        if entry is not None and entry.key == key:
            for host in entry.hostnames or ():
                alone.add(host, key.get_name(), key)
            if alone.check(name, key):
                return True
    return False


def _log_in(client: paramiko.SSHClient, at: SftpConnection) -> None:
    client.connect(
        at.host,
        at.port,
        at.user,
        at.plain_password or None,
        pkey=private_key(at),
        allow_agent=False,
        look_for_keys=False,
        timeout=CONNECT_SECONDS,
        banner_timeout=CONNECT_SECONDS,
        auth_timeout=CONNECT_SECONDS,
    )


def _named(error: Exception, at: SftpConnection) -> DuckLakeError:
    server = f"SFTP {at.host}:{at.port}"
    known_hosts = at.known_hosts or KNOWN_HOSTS
    match error:
        case paramiko.BadHostKeyException():
            return SourceError(
                f"{server}: the server's key is not the one in {known_hosts}: it was changed, or"
                " another server answers.",
                "If it was changed on purpose, replace its line there.",
            )
        case paramiko.AuthenticationException() if _is_lost(error):
            return ServiceUnreachable(
                f"{server}: the connection was lost while logging in.", "It is retried."
            )
        case paramiko.AuthenticationException():
            return LoginRefused(
                f"{server}: the server refuses the user {at.user!r}.",
                f"Check {at.place}.user, and password or private_key" f"{_offered(error)}.",
            )
        case paramiko.SSHException() if "not found in known_hosts" in str(error):
            return SourceError(
                f"{server}: its key is not in {known_hosts}.",
                f"Add it: {_made(known_hosts)}ssh-keyscan -p {at.port} {at.host} >> {known_hosts}"
                " (and compare it with what the server's owner says).",
            )
        case IncompatiblePeer():
            return SourceError(
                f"{server}: {error}.",
                "The server offers only algorithms that are no longer safe; update it.",
            )
        case _:
            return ServiceUnreachable(f"{server}: {error or type(error).__name__}.", "Is it up?")


def _made(known_hosts: Path) -> str:
    """What makes the folder of the file, where it is not there."""
    is_there = known_hosts.expanduser().parent.is_dir()
    return "" if is_there else f"mkdir -p -m 700 {known_hosts.parent} && "


def _offered(error: paramiko.AuthenticationException) -> str:
    """What the server takes instead, where it says so."""
    if isinstance(error, paramiko.BadAuthenticationType):
        return f"; the server takes {' or '.join(error.allowed_types)} only"
    return ""


def _is_lost(error: Exception) -> bool:
    """Whether the server said nothing of the login: paramiko names that like a refusal."""
    text = str(error)
    return "transport shut down" in text or "saw EOF" in text or "timeout" in text.lower()
