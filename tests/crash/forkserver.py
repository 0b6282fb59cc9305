"""Starts `ducklake` processes by fork from a warm one: a start costs no imports.

    python -m tests.crash.forkserver      (one JSON request a line in, one JSON answer a line out)

What runs in the child is the command line itself. Children die with the server, by the kernel.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_PR_SET_PDEATHSIG = 1


class ForkServer:
    """The side of the tests: start, signal and await processes."""

    def __init__(self, code: Path = ROOT) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.forkserver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=code,
            env={**os.environ, "PYTHONPATH": str(code), "OPENBLAS_NUM_THREADS": "1"},
            text=True,
        )

    def _ask(self, **request: Any) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        with self._lock:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            answer = stdout.readline()
        if not answer:
            raise RuntimeError("the fork server has died")
        return json.loads(answer)

    def start(
        self, arguments: list[str], log: Path, failpoint: str, merge_files: int
    ) -> tuple[int, int]:
        """Run `ducklake ARGUMENTS`.

        Returns:
            Its number, which no other process gets as long as the server lives, and the process id.
        """
        number, pid = self._ask(
            start=arguments, log=str(log), failpoint=failpoint, merge_files=merge_files
        )
        return number, pid

    def exit_code(self, number: int) -> int | None:
        """The exit code (minus the signal's number), or None while it runs."""
        code: int | None = self._ask(ended=number)
        return code

    def close(self) -> None:
        """End the server, and with it what it started."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.close()
        self._process.wait(10)
        stdout.close()


def _child(request: dict[str, Any]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    code = 1
    try:
        from consumers.compaction import planning
        from ducklake.cli.app import main
        from lake import failpoints

        failpoints.arm(request["failpoint"])
        planning.MERGED_FILES = request["merge_files"]
        sys.argv = ["ducklake", *request["start"]]
        main()
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve() -> None:
    import consumers.compaction.compactor
    import consumers.ingest.lake_writer
    import consumers.maintenance.verify  # noqa: F401
    import ducklake.cli.app
    import ducklake.cli.checks
    import ducklake.cli.ledger
    import ducklake.cli.replay  # noqa: F401

    # By number: the kernel gives the process id of one that has ended to a later one.
    numbers: dict[int, int] = {}
    ended: dict[int, int] = {}
    started = 0
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            pid = os.fork()
            if pid == 0:
                _child(request)
            started += 1
            numbers[pid] = started
            answer: Any = (started, pid)
        else:
            while True:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    break
                if pid == 0:
                    break
                ended[numbers.pop(pid)] = os.waitstatus_to_exitcode(status)
            answer = ended.get(request["ended"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
