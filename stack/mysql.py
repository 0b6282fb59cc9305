"""A MySQL 8 server with GTIDs and a row binlog, loaded with the shop's data at its first start."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pymysql
from pymysql.constants import CLIENT

from lake.errors import StackError
from lake.storage.json_files import write_json
from lake.storage.operations import write_atomically
from stack.jars import PROJECT
from stack.ports import LOOPBACK
from stack.service import Service, on_loopback

INIT_SQL = Path("docker", "mysql", "init.sql")
USER = DATABASE = "techstore"
PASSWORD_VARIABLE = "DUCKLAKE_MYSQL_PASSWORD"
"""By which the embedded Kafka Connect knows this server's password."""


class Mysql(Service):
    """The shop's database server."""

    name = "mysql"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _loaded(self) -> Path:
        """There once the shop's data is complete; without it the next start begins anew."""
        return self.folder / "loaded.json"

    @property
    def client_file(self) -> Path:
        """Credentials for the `mysql` program."""
        return self.folder / "client.cnf"

    def prepare(self) -> None:
        """Initialise the data directory unless a complete one is there."""
        write_atomically(
            self.client_file,
            f"[client]\nhost={LOOPBACK}\nport={self.port}\nuser={USER}\n"
            f"password={self.site.secrets.get('mysql')}\n",
        )
        if self._loaded.exists():
            return
        # an interrupted first start leaves half a shop: begin again
        shutil.rmtree(self._data, ignore_errors=True)
        users = self.folder / "users.sql"
        write_atomically(users, self._users())
        try:
            # users exist before the server first listens, so it never does without passwords
            command = [*self._server(), "--initialize-insecure", f"--init-file={users}"]
            fast = ["--innodb-doublewrite=OFF", "--innodb-flush-log-at-trx-commit=0"]
            self.run([*command, *fast], "Initialising MySQL", **self.environment())
        finally:
            users.unlink()

    def _users(self) -> str:
        root, password = self.site.secrets.get("mysql_root"), self.site.secrets.get("mysql")
        user, database = _quoted(USER), DATABASE
        plugin = "IDENTIFIED WITH mysql_native_password BY"
        return "\n".join(
            (
                f"ALTER USER root@localhost {plugin} '{root}';",
                f"CREATE USER root@'{LOOPBACK}' {plugin} '{root}';",
                f"GRANT ALL ON *.* TO root@'{LOOPBACK}' WITH GRANT OPTION;",
                f"CREATE USER {user}@'%' {plugin} '{password}';",
                f"GRANT ALL ON `{database}`.* TO {user}@'%';",
                "GRANT RELOAD, SHOW DATABASES, REPLICATION SLAVE, REPLICATION CLIENT"
                f" ON *.* TO {user}@'%';\n",
            )
        )

    def _server(self) -> list[str]:
        home = self.site.tools.mysql_home
        return [
            str(home / "bin" / "mysqld"),
            "--no-defaults",
            f"--basedir={home}",
            f"--datadir={self._data}",
            *(["--user=root"] if os.geteuid() == 0 else []),
            "--character-set-server=utf8mb4",
            "--default-time-zone=+00:00",
            "--default-authentication-plugin=mysql_native_password",
            # containers run out of the kernel's AIO slots
            "--innodb-use-native-aio=OFF",
            "--innodb-log-file-size=32M",
            "--innodb-buffer-pool-size=64M",
            "--innodb-buffer-pool-dump-at-shutdown=OFF",
            "--performance-schema=OFF",
            "--ssl=OFF",
            "--auto-generate-certs=OFF",
            "--sha256-password-auto-generate-rsa-keys=OFF",
            "--caching-sha2-password-auto-generate-rsa-keys=OFF",
            "--log-error-verbosity=2",
        ]

    def command(self) -> list[str]:
        """The server; its socket's name is relative, since the folder's path may be too long."""
        return [
            *self._server(),
            f"--bind-address={LOOPBACK}",
            f"--port={self.port}",
            "--socket=mysql.sock",
            "--pid-file=mysql.pid",
            "--mysqlx=OFF",
            "--skip-name-resolve",
            "--local-infile=OFF",
            "--max-connections=100",
            "--max-allowed-packet=64M",
            "--server-id=1",
            "--log-bin=binlog",
            "--binlog-format=ROW",
            "--binlog-row-image=FULL",
            # names in the binlog: a definition that does not fit the rows is found out at once
            "--binlog-row-metadata=FULL",
            "--gtid-mode=ON",
            "--enforce-gtid-consistency=ON",
            "--max-binlog-size=64M",
            "--binlog-expire-logs-seconds=604800",
            # to the kernel at every commit: survives kill -9, if not a power cut
            "--innodb-flush-log-at-trx-commit=2",
            "--sync-binlog=0",
        ]

    def environment(self) -> dict[str, str]:
        """Where the libraries are that the system may lack, and files for this user alone."""
        modes = {"UMASK": "0600", "UMASK_DIR": "0700"}  # the server has a umask of its own
        return {"LD_LIBRARY_PATH": str(self.site.tools.libraries), **modes}

    def _root(self, **options: Any) -> pymysql.Connection[Any]:
        return pymysql.connect(
            host=LOOPBACK,
            port=self.port,
            user="root",
            password=self.site.secrets.get("mysql_root"),
            **{"connect_timeout": 5, **options},
        )

    def healthy(self) -> bool:
        """Whether it answers a query."""
        with self._root() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            return bool(cursor.fetchone() == (1,))

    def finish(self) -> None:
        """Load the shop's data once."""
        if self._loaded.exists():
            return
        script = self.site.config.root / INIT_SQL
        script = script if script.exists() else PROJECT / INIT_SQL
        try:
            text = script.read_text(encoding="utf-8")
        except OSError as error:
            raise StackError(
                f"{script}: {error.strerror}.", "Run from a complete clone of the project."
            ) from None
        try:
            with (
                self._root(client_flag=CLIENT.MULTI_STATEMENTS, read_timeout=120) as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(text)
                while cursor.nextset():
                    pass
                connection.commit()
        except pymysql.MySQLError as error:
            raise StackError(
                f"{script} could not be loaded into MySQL ({error.args[-1]}).",
                "Fix the script, then run `ducklake up` again.",
            ) from None
        write_json(self._loaded, {"script": str(INIT_SQL)})

    def before_stop(self) -> None:
        """End replication sessions: this server waits ten seconds for them to notice."""
        with (
            self._root(connect_timeout=1, read_timeout=1) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(
                "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
            )
            for (session,) in cursor.fetchall():
                cursor.execute("KILL %s", [session])

    def endpoint(self) -> dict[str, Any]:
        """Address, user and password, as `MysqlConnection` has them."""
        return {
            "host": LOOPBACK,
            "port": self.port,
            "user": USER,
            "password": self.site.secrets.get("mysql"),
            "database": DATABASE,
            "connect_password": f"${{env:{PASSWORD_VARIABLE}}}",
        }

    def address(self) -> str:
        """Host and port."""
        return on_loopback(self.port)


def _quoted(name: str) -> str:
    return "'" + name.replace("\\", "\\\\").replace("'", "''") + "'"
