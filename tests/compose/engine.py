"""A container engine for the test: the one that runs, or one that is started by hand and ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 60.0
_TOOLS = ("dockerd", "docker", "debootstrap")


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
            list(words), env={**os.environ, **self.environment}, cwd=cwd,
            capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
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


def lacking() -> str:
    """What is missing to run the test; empty where nothing is."""
    if not _find_compose(Engine({})):
        return "neither `docker compose` nor docker-compose is installed"
    if Engine({}).answers():
        return ""
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if absent:
        return f"no engine runs, and to start one there is no {', '.join(absent)}"
    return "" if os.geteuid() == 0 else "no engine runs, and only root could start one"


@contextmanager
def an_engine() -> Iterator[Engine]:
    """The running engine, or a new one with its data in a folder that is removed."""
    engine = Engine({})
    if engine.answers():
        engine.compose = _find_compose(engine)
        yield engine
        return
    folder = Path(tempfile.mkdtemp(prefix="ducklake-engine-"))
    with (folder / "dockerd.log").open("w") as log:
        daemon = subprocess.Popen(
            [
                "dockerd", f"--host=unix://{folder}/socket", f"--data-root={folder}/data",
                f"--exec-root={folder}/run", f"--pidfile={folder}/pid", "--storage-driver=overlay2",
            ],
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    engine = Engine({"DOCKER_HOST": f"unix://{folder}/socket", "DOCKER_BUILDKIT": "0"})
    try:
        deadline = time.monotonic() + START_SECONDS
        while not engine.answers():
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((folder / "dockerd.log").read_text()[-4000:])
            time.sleep(0.2)
        engine.compose = _find_compose(engine)
        yield engine
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(60)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
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
