"""One container engine, and all tests that need one: `python -m tests.compose`.

Where no engine runs and none can be started, a line says so, and that is no failure: everything
else of `make test` needs none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from tests.compose.engine import Engine, NoEngine, WrongAddress, an_engine, bridge_address
from tests.compose.images import ROOT, provide_images

# MySQL through Connect and Kafka into the lake, and transactions; the services are containers
BOTH_WAYS = ("tests/integration/test_live.py", "tests/integration/test_producers_transactions.py")


def main() -> int:
    """Provide the images and run the tests; the first exit code that is not 0."""
    try:
        with an_engine() as engine:
            began = time.monotonic()
            replaced = provide_images(engine)
            spent = time.monotonic() - began
            print(f"images in {spent:.0f} s; stand-ins: {', '.join(replaced) or 'none'}")
            print(f"the bridge is at {bridge_address(engine)}", flush=True)
            return _pytest(engine, "tests/compose") or _pytest(
                engine, *BOTH_WAYS, SERVICES="docker"
            )
    except NoEngine as reason:
        print(f"the tests in containers are left out: {reason}")
        return 0
    except WrongAddress as reason:
        print(f"the tests in containers cannot work: {reason}")
        return 1


def _pytest(engine: Engine, *words: str, **environment: str) -> int:
    command = [sys.executable, "-m", "pytest", "-q", *words]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **engine.environment, **environment}
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
