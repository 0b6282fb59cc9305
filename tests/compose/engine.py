"""A container engine for the test: the one that runs, or one that is started by hand and ended."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from stack.downloads import cache_dir

START_SECONDS = 60.0
_FOLDER = "ducklake-engine-"
_TOOLS = ("dockerd", "docker", "iptables")
# the second one copies each layer whole, but works on any file system
_DRIVERS = ("overlay2", "vfs")


class NoEngine(Exception):
    """There is no engine and there can be none, or no images for it; says why, in one line."""


class WrongAddress(Exception):
    """Containers and this machine have no address in common; says which one was tried."""


@dataclass
class Engine:
    """Where the engine listens, and how its two command lines are called."""

    environment: dict[str, str]
    compose: list[str] = field(default_factory=list)

    def run(
        self,
        words: Sequence[str],
        check: bool = True,
        timeout: float = 600,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command against this engine; what it said is in the error."""
        done = subprocess.run(
            list(words),
            env={**os.environ, **self.environment},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            said = f"{done.stdout}\n{done.stderr}"[-4000:]
            raise AssertionError(f"{' '.join(words)}: exit {done.returncode}\n{said}")
        return done

    def docker(self, *words: str, check: bool = True, timeout: float = 600) -> str:
        """Run `docker`, and return what it printed."""
        return self.run(["docker", *words], check, timeout).stdout.strip()

    def answers(self) -> bool:
        """Whether an engine is there."""
        if shutil.which("docker") is None:
            return False
        return self.run(["docker", "info"], check=False, timeout=30).returncode == 0


def bridge_address(engine: Engine) -> str:
    """The address of Docker's bridge: where this machine and the containers find the same service.

    Read from the interface. The engine's own description of the bridge lacks the gateway where the
    daemon had to make the bridge, which is its first start on a machine (moby/moby#26799). An empty
    one would make `BOOTSTRAP_SERVERS=:41353`, and Java takes that for 127.0.0.1.

    Raises:
        WrongAddress: The bridge is not an interface of this machine, or has no IPv4 address.
    """
    [described] = json.loads(engine.docker("network", "inspect", "bridge"))
    name = described["Options"].get("com.docker.network.bridge.name", "docker0")
    for found in psutil.net_if_addrs().get(name, ()):
        if found.family == socket.AF_INET:
            return str(found.address)
    raise WrongAddress(f"the engine's bridge {name} has no IPv4 address on this machine")


@contextmanager
def an_engine() -> Iterator[Engine]:
    """The running engine, or a new one with its data in a folder that is removed.

    Raises:
        NoEngine: None runs, and none can be started.
    """
    engine = Engine({})
    if not (compose := _find_compose(engine)):
        raise NoEngine("neither `docker compose` nor docker-compose is installed")
    if engine.answers():
        engine.compose = compose
        yield engine
        return
    if absent := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        raise NoEngine(f"no engine runs, and to start one there is no {', '.join(absent)}")
    if os.geteuid() != 0:
        raise NoEngine("no engine runs, and only root could start one")
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "engine.lock").open("w") as lock:
        # two engines on one machine would hand out the same addresses
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
            _end_leftover(left)
        folder = Path(tempfile.mkdtemp(prefix=_FOLDER))
        try:
            with _started(folder) as engine:
                engine.compose = compose
                yield engine
        finally:
            _remove(folder)


@contextmanager
def _started(folder: Path) -> Iterator[Engine]:
    engine = Engine({"DOCKER_HOST": f"unix://{folder}/socket", "DOCKER_BUILDKIT": "0"})
    for driver in _DRIVERS:
        daemon = _start(folder, driver)
        try:
            deadline = time.monotonic() + START_SECONDS
            while daemon.poll() is None and time.monotonic() < deadline:
                if engine.answers():
                    yield engine
                    return
                time.sleep(0.2)
        finally:
            _end(daemon)
    lines = (folder / "dockerd.log").read_text().strip().splitlines()
    raise NoEngine(f"dockerd does not start: {lines[-1] if lines else 'it says nothing'}")


def _start(folder: Path, driver: str) -> subprocess.Popen[bytes]:
    with (folder / "dockerd.log").open("w") as log:
        return subprocess.Popen(
            [
                "dockerd",
                f"--host=unix://{folder}/socket",
                f"--data-root={folder}/data",
                f"--exec-root={folder}/run",
                f"--pidfile={folder}/pid",
                f"--storage-driver={driver}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(60)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _end_leftover(folder: Path) -> None:
    """An engine whose test was killed, and the networks that it left: they hold its addresses."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder / "pid").read_text())
        if b"dockerd" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + START_SECONDS
            while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
                time.sleep(0.2)
    _remove(folder)


def _find_compose(engine: Engine) -> list[str]:
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]) is None:
            continue
        said = engine.run([*words, "version"], check=False, timeout=30)
        # an old docker takes `compose` for a mistake, and prints its own help
        if said.returncode == 0 and "compose" in said.stdout.lower():
            return words
    return []


def _remove(folder: Path) -> None:
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in sorted((m for m in mounted if m.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=False)
    shutil.rmtree(folder, ignore_errors=True)
