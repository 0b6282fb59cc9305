"""A PostgreSQL 18 server on TCP only (a Unix socket's path would be too long in deep folders)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from signal import SIGINT
from typing import Any, ClassVar

import psutil
import psycopg2
from psycopg2 import sql

from lake.errors import StackError
from lake.processes.child import LAUNCH
from lake.processes.launch import NOBODY
from lake.storage.operations import write_atomically
from stack.ports import LOOPBACK
from stack.service import Service, on_loopback

_SUPERUSER = "postgres"
_VANISH_SECONDS = 5.0


class Postgres(Service):
    """The target database server."""

    name = "postgres"
    stop_signal: ClassVar[int] = SIGINT  # SIGTERM would wait for every client to leave

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def password_file(self) -> Path:
        """Credentials for `psql` (PGPASSFILE)."""
        return self.folder / "pgpass"

    def identity(self) -> str:
        """PostgreSQL refuses root: run it inside a user namespace, or as nobody.

        Raises:
            StackError: This system allows neither.
        """
        if os.geteuid() != 0:
            return "same"
        if _can_be("namespace", self.folder):
            return "namespace"
        for folder in (self.site.config.data_dir, self.site.folder):
            folder.chmod(0o711)  # may be passed through, not listed
        if _can_be("nobody", self.folder):
            return "nobody"
        raise StackError(
            "PostgreSQL refuses to run as root, and here root may neither make a user namespace"
            f" nor let `nobody` into {self.folder}.",
            "Run `ducklake up` as an ordinary user, or set data_dir to a folder all may enter.",
        )

    def prepare(self) -> None:
        """Make the data directory once."""
        postgres = self.site.config.settings.services.postgres
        write_atomically(
            self.password_file,
            f"{LOOPBACK}:{self.port}:*:{postgres.user}:{self.site.secrets.get('postgres')}\n",
        )
        if self._data.exists():
            self._hand_over()
            self._await_former()
            return
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password = fresh.with_name("superuser")
        write_atomically(password, self.site.secrets.get("postgres_superuser"))
        if self.identity() == "nobody":
            os.chown(fresh, NOBODY, NOBODY)
            os.chown(password, NOBODY, NOBODY)
        try:
            command = [
                str(self.site.tools.postgres_bin / "initdb"),
                "-D",
                str(fresh),
                "-U",
                _SUPERUSER,
                f"--pwfile={password}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--locale=C.UTF-8",
                "--no-sync",
                "--no-instructions",
            ]
            self.run(command, "Initialising PostgreSQL")
        finally:
            password.unlink()
        fresh.replace(self._data)

    def _hand_over(self) -> None:
        """Give the data to whom the server runs as, should that have changed since."""
        owner = NOBODY if self.identity() == "nobody" else os.geteuid()
        if os.geteuid() != 0 or self._data.stat().st_uid == owner:
            return
        for path in (self._data, *self._data.rglob("*")):
            os.chown(path, owner, owner, follow_symlinks=False)

    def _await_former(self) -> None:
        """Let a killed server vanish: a new one refuses to start while its id is in use."""
        note = self._data / "postmaster.pid"
        try:
            pid = int(note.read_text().split()[0])
            former = psutil.Process(pid)
            if former.name() != "postgres":
                return  # somebody else has that id by now, and PostgreSQL can tell
            former.wait(_VANISH_SECONDS)
        except psutil.TimeoutExpired:
            # in a container nobody may collect orphans; a zombie has let go of everything
            if former.status() == psutil.STATUS_ZOMBIE:
                note.unlink(missing_ok=True)
        except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
            return

    def command(self) -> list[str]:
        """The server."""
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 50,
            "shared_buffers": "64MB",
            "max_wal_size": "512MB",
            "wal_level": "minimal",  # no replicas here, and bulk loads skip the log
            "max_wal_senders": 0,
            "timezone": "UTC",
            "log_timezone": "UTC",
            "update_process_title": "off",
        }
        server = [str(self.site.tools.postgres_bin / "postgres"), "-D", str(self._data)]
        return server + [part for k, v in settings.items() for part in ("-c", f"{k}={v}")]

    def _superuser(self, database: str) -> Any:
        return psycopg2.connect(
            host=LOOPBACK,
            port=self.port,
            user=_SUPERUSER,
            password=self.site.secrets.get("postgres_superuser"),
            dbname=database,
            connect_timeout=5,
        )

    def healthy(self) -> bool:
        """Whether it answers a query."""
        connection = self._superuser("postgres")
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                return bool(cursor.fetchone() == (1,))
        finally:
            connection.close()

    def finish(self) -> None:
        """Make the user and the database unless they are there."""
        postgres = self.site.config.settings.services.postgres
        user, database = sql.Identifier(postgres.user), sql.Identifier(postgres.database)
        connection = self._superuser("postgres")
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [postgres.user])
                if cursor.fetchone() is None:
                    cursor.execute(
                        sql.SQL("CREATE ROLE {} LOGIN PASSWORD %s").format(user),
                        [self.site.secrets.get("postgres")],
                    )
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [postgres.database])
                if cursor.fetchone() is None:
                    cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, user))
        finally:
            connection.close()

    def endpoint(self) -> dict[str, Any]:
        """Address, user and password."""
        postgres = self.site.config.settings.services.postgres
        return {
            "host": LOOPBACK,
            "port": self.port,
            "user": postgres.user,
            "password": self.site.secrets.get("postgres"),
            "database": postgres.database,
        }

    def address(self) -> str:
        """Host and port."""
        return on_loopback(self.port)


def _can_be(identity: str, folder: Path) -> bool:
    """Whether a child may take that identity and still enter the folder."""
    start = [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), identity]
    done = subprocess.run([*start, "/bin/sh", "-c", 'cd -- "$0"', str(folder)], capture_output=True)
    return done.returncode == 0
