"""One start of docker-compose.yml under a name and on ports of its own."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.compose.engine import Engine
from tests.compose.images import ROOT
from tests.ports import free_port

PATIENCE = 240.0
# what the image and the compose file are made of; a copy, since tests change it
COPIED = (
    ".dockerignore",
    "LICENSE",
    "Makefile",
    "batcher",
    "connect",
    "consumers",
    "dbt_ducklake",
    "dbt_techstore",
    "docker",
    "docker-compose.yml",
    "lake",
    "stack",
    "techstore",
    "ducklake",
    "ducklake.yml",
    "producers",
)


def wait_until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience:.0f} s: {what}"
        time.sleep(1)


@dataclass
class Project:
    """The containers of one `docker compose up`, of a copy of this project."""

    engine: Engine
    root: Path
    name: str = field(default_factory=lambda: f"ducklaketest{secrets.token_hex(4)}")
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rubbish = shutil.ignore_patterns("__pycache__", "target", "logs", "dbt_packages")
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.root / name, ignore=rubbish)
            else:
                shutil.copy(ROOT / name, self.root / name)
        text = (ROOT / "docker-compose.yml").read_text()
        self.ports = {name: free_port() for name in re.findall(r"\$\{(\w+_PORT)", text)}
        self.engine.environment |= {
            **{name: str(port) for name, port in self.ports.items()},
            "COMPOSE_PROJECT_NAME": self.name,
            "DUCKLAKE_IMAGE": self.image,
        }

    @property
    def image(self) -> str:
        return f"{self.name}:local"

    def make(self, target: str) -> None:
        self.engine.run(["make", target], timeout=900, cwd=self.root)

    def compose(self, *words: str, check: bool = True, timeout: float = 900) -> str:
        return self.engine.run([*self.engine.compose, *words], check, timeout, self.root).stdout

    def shell(self, service: str, script: str, check: bool = True) -> str:
        return self.compose("exec", "-T", service, "sh", "-c", script, check=check).strip()

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--all", "-q", service).split()

    def inspect(self, *containers: str) -> list[dict[str, Any]]:
        if not containers:
            return []
        found: list[dict[str, Any]] = json.loads(self.engine.docker("inspect", *containers))
        return found

    def everything(self) -> list[dict[str, Any]]:
        label = f"label=com.docker.compose.project={self.name}"
        names = self.engine.docker("ps", "--all", "--quiet", "--filter", label).split()
        return self.inspect(*names)

    def unhealthy(self) -> dict[str, str]:
        """Services that are not what they should be, and what they are."""
        wrong = {}
        for container in self.everything():
            service = container["Config"]["Labels"]["com.docker.compose.service"]
            state = container["State"]
            if service == "init":
                good, said = state["Status"] == "exited" and not state["ExitCode"], state["Status"]
            else:
                said = state.get("Health", {}).get("Status", "no health check")
                good = state["Running"] and said == "healthy"
            if not good:
                wrong[service] = said
        return wrong

    def wait_healthy(self) -> None:
        wait_until(lambda: not self.unhealthy(), "all services are healthy")

    def postgres(self, query: str) -> str:
        client = "psql -h 127.0.0.1 -U ducklake -d techstore -At"
        password = 'PGPASSWORD="$(cat /run/ducklake/postgres/password)"'
        return self.shell("postgres", f'{password} {client} -c "{query}"', check=False)

    def mysql(self, query: str) -> str:
        client = "mysql -h 127.0.0.1 -u techstore techstore -N"
        password = 'MYSQL_PWD="$(cat /run/ducklake/mysql/password)"'
        return self.shell("mysql", f'{password} {client} -e "{query}"', check=False)

    def exact(self) -> bool:
        """What `ducklake verify` says in a container."""
        said = self.shell("consumer", "ducklake verify --json", check=False)
        try:
            return bool(json.loads(said.splitlines()[-1])["exact"])
        except (IndexError, ValueError):
            return False

    def left_behind(self) -> list[str]:
        """Containers, volumes, networks and images of this project."""
        label = f"label=com.docker.compose.project={self.name}"
        found = self.engine.docker("ps", "--all", "--quiet", "--filter", label).split()
        for kind in ("volume", "network"):
            found += self.engine.docker(kind, "ls", "--quiet", "--filter", label).split()
        found += self.engine.docker("images", "--quiet", self.image).split()
        title = "label=org.opencontainers.image.title=ducklake-stream"
        dangling = ("--filter", "dangling=true", "--filter", title)
        return found + self.engine.docker("images", "--quiet", *dangling).split()
