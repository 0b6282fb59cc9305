"""The services of the tests from containers: `SERVICES=docker` instead of the embedded stack.

Kafka, Connect, MySQL, PostgreSQL and SFTP, each as docker-compose.yml describes it, started by
testcontainers; the API server stays embedded. They are published on the address of Docker's bridge,
which is the same for this machine and for the containers: Connect has to find MySQL where tests do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import yaml

from ducklake import containers
from lake.config import Config, load_config
from stack.progress import PlainLines
from stack.tools import write_converter
from techstore.place import place_files
from tests.compose.engine import Engine, WrongAddress, an_engine, bridge_address
from tests.compose.images import ROOT, provide_images
from tests.ports import free_port

PORTS: Mapping[str, int] = {
    "kafka": 19092,
    "connect": 8083,
    "mysql": 3306,
    "postgres": 5432,
    "sftp": 22,
}
START_SECONDS = 180.0
_ENV_PROVIDER = "org.apache.kafka.common.config.provider.EnvVarConfigProvider"


@contextmanager
def container_services(project: Path) -> Iterator[Config]:
    """Start the services, and yield the configuration of a copied project that names them.

    Args:
        project: The copied project; its ducklake.yml is rewritten.
    """
    with ExitStack() as started:
        engine = started.enter_context(an_engine())
        provide_images(engine)
        os.environ |= {**engine.environment, "TESTCONTAINERS_RYUK_DISABLED": "true"}
        gateway = bridge_address(engine)
        ports = {name: free_port(gateway) for name in PORTS}
        folder = project / "containers"
        passwords = _prepare(project, folder, gateway, ports["sftp"])
        specs = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        for name in PORTS:
            spec = _spec(specs[name], name, gateway, ports, passwords)
            published = {PORTS[name]: (gateway, ports[name])}
            made = started.enter_context(_container(spec, folder, project, published))
            _wait_healthy(engine, made, spec["healthcheck"]["test"])
            if name == "kafka":
                _check_reach(engine, made, gateway, ports[name])
        path = project / "ducklake.yml"
        settings = yaml.safe_load(path.read_text())
        settings["services"] |= _services(gateway, ports, passwords)
        settings["connections"] |= _connections(gateway, ports, passwords, folder)
        path.write_text(yaml.safe_dump(settings, sort_keys=False))
        yield load_config(path)


def _prepare(project: Path, folder: Path, gateway: str, port: int) -> dict[str, str]:
    for name in ("kept", "secrets", "sftp", "upload", "converter"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_converter(folder / "converter" / "ducklake-mysql-values.jar", PlainLines())
    passwords = containers.make_passwords(folder / "kept", {})
    containers.hand_out(passwords, folder / "secrets")
    known = folder / "secrets" / "sftp" / "known_hosts"
    containers.make_sftp(folder / "sftp", known, passwords["sftp"])
    key = known.read_text().split(maxsplit=1)[1]
    known.unlink()
    known.write_text(f"[{gateway}]:{port} {key}")
    place_files(project / "docker/sftp", folder / "upload", datetime.now(UTC).date())
    for file in (folder / "upload").iterdir():
        file.chmod(0o644)
    return passwords


def _spec(
    spec: dict[str, Any],
    name: str,
    gateway: str,
    ports: Mapping[str, int],
    passwords: Mapping[str, str],
) -> dict[str, Any]:
    """What docker-compose.yml says of a service, with the addresses of this start."""
    broker = f"{gateway}:{ports['kafka']}"
    changed = {
        "kafka": {"KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://localhost:9092,HOST://{broker}"},
        "connect": {
            "BOOTSTRAP_SERVERS": broker,
            # the tests' connectors name the variable, as with the embedded stack
            "CONNECT_CONFIG_PROVIDERS": "dir,env",
            "CONNECT_CONFIG_PROVIDERS_ENV_CLASS": _ENV_PROVIDER,
            "DUCKLAKE_MYSQL_PASSWORD": passwords["mysql"],
        },
    }
    return {**spec, "environment": {**spec.get("environment", {}), **changed.get(name, {})}}


@contextmanager
def _container(
    spec: dict[str, Any], folder: Path, project: Path, published: dict[int, tuple[str, int]]
) -> Iterator[str]:
    from testcontainers.core.container import DockerContainer

    handed = {f"secret-{s.replace('_', '-')}": folder / "secrets" / s for s in containers.NAMES}
    named = {
        **handed,
        "sftp-config": folder / "sftp",
        "sftp-files": folder / "upload",
        "converter": folder / "converter",
    }
    made = DockerContainer(spec["image"])
    made.env = dict(spec["environment"])
    made.ports = cast(dict[str, int | None], dict(published))  # docker takes the address, too
    if spec.get("command"):
        made.with_command(spec["command"])
    for volume in spec.get("volumes", ()):
        source, target, *mode = volume.split(":")
        if source.startswith("./"):
            made.with_volume_mapping(str(project / source[2:]), target, "ro")
        elif source in named:
            made.with_volume_mapping(str(named[source]), target, mode[0] if mode else "rw")
    with made:
        yield str(made.get_wrapped_container().id)


def _wait_healthy(engine: Engine, container: str, test: list[str]) -> None:
    """As compose would, by the service's own health command; one that ends does not get healthy."""
    words = [word.replace("$$", "$") for word in test[1:]]  # as compose reads them
    command = ["docker", "exec", container, *words]
    deadline = time.monotonic() + START_SECONDS
    while engine.run(command, check=False, timeout=30).returncode != 0:
        state = engine.docker("inspect", "--format", "{{.State.Status}}", container)
        if state != "running" or time.monotonic() > deadline:
            said = engine.run(["docker", "logs", "--tail", "30", container])
            raise AssertionError(f"not healthy, {state}\n{said.stdout}{said.stderr}")
        time.sleep(0.5)


def _check_reach(engine: Engine, container: str, host: str, port: int) -> None:
    """Ask from within a container, before Connect tries it for 30 s and ends."""
    knock = f"exec 3<>/dev/tcp/{host}/{port}"
    words = ["docker", "exec", container, "timeout", "10", "bash", "-c", knock]
    if engine.run(words, check=False, timeout=30).returncode != 0:
        raise WrongAddress(f"containers do not reach Kafka, which is healthy, at {host}:{port}")


def _services(
    gateway: str, ports: Mapping[str, int], passwords: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "kafka": {"bootstrap_servers": f"{gateway}:{ports['kafka']}"},
        "connect": {
            "url": f"http://{gateway}:{ports['connect']}",
            "user": containers.CONNECT_USER,
            "password": passwords["connect"],
        },
        "postgres": {
            "host": gateway,
            "port": ports["postgres"],
            "password": passwords["postgres"],
        },
    }


def _connections(
    gateway: str, ports: Mapping[str, int], passwords: Mapping[str, str], folder: Path
) -> dict[str, Any]:
    logins = {
        name: {
            "host": gateway,
            "port": ports[name],
            "user": "techstore",
            "password": passwords[name],
        }
        for name in ("mysql", "sftp")
    }
    variable = "$${env:DUCKLAKE_MYSQL_PASSWORD}"
    return {
        "shop_db": {**logins["mysql"], "database": "techstore", "connect_password": variable},
        "suppliers": {**logins["sftp"], "known_hosts": str(folder / "secrets/sftp/known_hosts")},
    }
