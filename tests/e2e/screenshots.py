"""Pictures of the page over a demo's real data: `make screenshots` writes them to docs/images.

python -m tests.e2e.screenshots [FOLDER]

The demo runs in a folder of its own, with a shop that sells, until all its tables are well.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import requests

from lake.config import Config, load_config
from tests.browser import Served, chromium, served
from tests.conftest import ROOT, copy_project

IMAGES = ROOT / "docs" / "images"
PATIENCE = 540.0
LEAST_CYCLES = 8
"""So many are to be seen."""
MOST_BYTES = 200_000
DESKTOP, PHONE = (1280, 800), (390, 844)
SHOTS = (
    ("trust", "trust", DESKTOP, "light"),
    ("flow", "flow", DESKTOP, "light"),
    ("shop", "shop", DESKTOP, "dark"),
    ("runs", "runs", DESKTOP, "light"),
    ("tables/mysql.orders", "table", DESKTOP, "light"),
    ("models/consume.daily_sales", "model", DESKTOP, "light"),
    ("trust", "trust-phone", PHONE, "light"),
    ("shop", "shop-phone", PHONE, "dark"),
)


@contextmanager
def demo(folder: Path) -> Iterator[Config]:
    """A demo that runs; gives its configuration."""
    config = load_config(copy_project(folder) / "ducklake.yml")
    command = [sys.executable, "-m", "ducklake.cli", "demo", "--config", str(config.path)]
    with (folder / "demo.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield config
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def compare(config: Config) -> None:
    """Compare all tables of MySQL with their source: nothing is known to be complete before."""
    command = [sys.executable, "-m", "ducklake.cli", "verify", "--against-source"]
    subprocess.run([*command, "--config", str(config.path)], stdout=subprocess.DEVNULL, check=False)


def await_cycles(page: Served, count: int) -> None:
    """Wait for some cycles; for more than one, until no table is unknown either.

    Raises:
        SystemExit: They are not, in time.
    """
    deadline, state = time.monotonic() + PATIENCE, None
    while time.monotonic() < deadline:
        state, cycles = (
            requests.get(f"{page.address}/api/{path}", headers=page.bearer, timeout=60).json()
            for path in ("state", "cycles")
        )
        lights = state.get("lights", {})
        is_known = count == 1 or (lights.get("good") and not lights.get("unknown"))
        if is_known and isinstance(cycles, list) and len(cycles) >= count:
            return
        time.sleep(1)
    raise SystemExit(f"the demo is not well after {PATIENCE:.0f} s: {state}")


def shoot(page_of: Served, folder: Path) -> None:
    """Write a picture of each page."""
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for path, name, (width, height), scheme in SHOTS:
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
                locale="en",
                has_touch=width < 500,
                is_mobile=width < 500,
            )
            page = page_of.signed_in(context).new_page()
            page.goto(f"{page_of.address}/{path}")
            page.wait_for_selector("#live:not(:empty)")
            picture = folder / f"page-{name}.png"
            page.screenshot(path=picture)
            size = picture.stat().st_size
            print(f"{picture}: {size:,} bytes", flush=True)
            if size > MOST_BYTES:
                raise SystemExit(f"{picture} has more than {MOST_BYTES:,} bytes")
            context.close()


def main() -> None:
    """Run the demo, and show it."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    with TemporaryDirectory() as made, demo(Path(made)) as config, served(config) as page:
        await_cycles(page, 1)
        compare(config)
        await_cycles(page, LEAST_CYCLES)
        shoot(page, folder)


if __name__ == "__main__":
    main()
