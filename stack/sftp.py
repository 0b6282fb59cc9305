"""The suppliers' SFTP server: password login into one folder, nothing above it.

python -m stack.sftp --port N --folder DIR     (DIR holds root/, password, host_key)
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import signal
from pathlib import Path

import asyncssh


class _Login(asyncssh.SSHServer):  # type: ignore[misc]
    """Lets one user in, by password."""

    def __init__(self, user: str, password: str) -> None:
        self._user = user
        self._password = password

    def begin_auth(self, username: str) -> bool:
        """Every user has to log in."""
        return True

    def password_auth_supported(self) -> bool:
        """Only by password."""
        return True

    def validate_password(self, username: str, password: str) -> bool:
        """Compare without telling by time how much was right."""
        return hmac.compare_digest(
            f"{username}\0{password}".encode(), f"{self._user}\0{self._password}".encode()
        )


async def serve(host: str, port: int, user: str, folder: Path) -> None:
    """Serve until SIGTERM or SIGINT."""
    root = str(folder / "root")
    password = (folder / "password").read_text(encoding="utf-8").strip()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = await asyncssh.create_server(
        lambda: _Login(user, password),
        host,
        port,
        server_host_keys=[str(folder / "host_key")],
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=root),
        allow_scp=False,
    )
    print(f"listening on {host}:{port}", flush=True)
    await ended.wait()
    server.close()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--user", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.host, arguments.port, arguments.user, arguments.folder))


if __name__ == "__main__":
    main()
