"""All services of the stack by name, and the two that are small Python servers."""

from __future__ import annotations

import shutil
import socket
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import requests

from lake.storage.operations import write_atomically
from producers.registry import embedded_services
from stack.connect import Connect
from stack.jars import PROJECT
from stack.kafka import Kafka
from stack.mysql import Mysql
from stack.ports import LOOPBACK
from stack.postgres import Postgres
from stack.service import Service, StackContext, on_loopback

SAMPLE_FILES = Path("docker", "sftp")
SFTP_USER = "techstore"
_SHOP_TIME = ZoneInfo("America/Argentina/Buenos_Aires")


class Sftp(Service):
    """The suppliers' file server, with the shop's sample files."""

    name = "sftp"

    @property
    def upload(self) -> Path:
        """The folder that clients see as /upload."""
        return self.folder / "root" / "upload"

    @property
    def known_hosts(self) -> Path:
        """The server's public key, as ssh and paramiko read it."""
        return self.folder / "known_hosts"

    @property
    def password_file(self) -> Path:
        """The password, for people and for the server."""
        return self.folder / "password"

    def prepare(self) -> None:
        """Make the host key, the password file and the sample files once."""
        import asyncssh

        key_file = self.folder / "host_key"
        if not key_file.exists():
            key = asyncssh.generate_private_key("ssh-ed25519")
            write_atomically(key_file, key.export_private_key("openssh"))
        public = asyncssh.read_private_key(str(key_file)).export_public_key("openssh").decode()
        kind, blob = public.split()[:2]
        write_atomically(self.known_hosts, f"[{LOOPBACK}]:{self.port} {kind} {blob}\n")
        write_atomically(self.password_file, self.site.secrets.get("sftp") + "\n")
        if not self.upload.exists():
            self._place_files()

    def _place_files(self) -> None:
        from techstore.place import place_files

        source = self.site.config.root / SAMPLE_FILES
        source = source if source.exists() else PROJECT / SAMPLE_FILES
        fresh = self.folder / "files.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        place_files(source, fresh, datetime.now(_SHOP_TIME).date())
        self.upload.parent.mkdir(exist_ok=True)
        fresh.replace(self.upload)

    def command(self) -> list[str]:
        """The server's module; the password is in a file."""
        return [
            sys.executable,
            "-m",
            "stack.sftp",
            "--port",
            str(self.port),
            "--user",
            SFTP_USER,
            "--folder",
            str(self.folder),
        ]

    def healthy(self) -> bool:
        """Whether it introduces itself as an SSH server."""
        with socket.create_connection((LOOPBACK, self.port), timeout=5) as connection:
            return connection.recv(8).startswith(b"SSH-2.0")

    def endpoint(self) -> dict[str, Any]:
        """Address, user, password and host key."""
        return {
            "host": LOOPBACK,
            "port": self.port,
            "user": SFTP_USER,
            "password": self.site.secrets.get("sftp"),
            "known_hosts": str(self.known_hosts),
        }

    def address(self) -> str:
        """Host and port."""
        return on_loopback(self.port)


class Api(Service):
    """The server that answers like the two public APIs."""

    name = "api"

    def command(self) -> list[str]:
        """The server's module."""
        return [
            sys.executable,
            "-m",
            "techstore.api_server",
            "--host",
            LOOPBACK,
            "--port",
            str(self.port),
        ]

    def healthy(self) -> bool:
        """Whether its health page says so."""
        return requests.get(f"{self.address()}/health", timeout=5).ok

    def endpoint(self) -> dict[str, Any]:
        """Where it is."""
        return {"base_url": self.address()}

    def address(self) -> str:
        """Its address."""
        return f"http://{on_loopback(self.port)}"


ALL: dict[str, type[Service]] = {
    kind.name: kind for kind in (Kafka, Mysql, Connect, Postgres, Sftp, Api)
}


def services_of(site: StackContext) -> list[Service]:
    """The services that this configuration wants embedded."""
    wanted = embedded_services(site.config)
    return [kind(site) for name, kind in ALL.items() if name in wanted]
