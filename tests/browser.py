"""A headless Chromium, and the page of a lake, for the tests that click."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from ducklake.dashboard.access import COOKIE, Access
from ducklake.dashboard.app import create_app
from lake.config import Config
from lake.storage.paths import LakePaths

expect.set_options(timeout=60_000)  # a busy machine is slower, and no test asserts a time
CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; a page of its own context is a reader of its own."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield started
        finally:
            started.close()


def serious_violations(page: Page) -> list[str]:
    """What keeps somebody from reading or using a page as it is now, by axe's names.

    axe adds a script of its own: the page's context has to bypass the policy that refuses it.
    """
    found = Axe().run(page).response["violations"]
    return [v["id"] for v in found if v["impact"] in ("serious", "critical")]


@dataclass(frozen=True)
class Served:
    """A page that is served."""

    access: Access
    address: str

    @property
    def bearer(self) -> dict[str, str]:
        """The header of a script."""
        return {"authorization": f"Bearer {self.access.token}"}

    @property
    def cookie(self) -> dict[str, str]:
        """That of a reader who has signed in."""
        return {COOKIE: self.access.cookie}

    def signed_in(self, context: BrowserContext) -> BrowserContext:
        context.add_cookies(
            [{"name": n, "value": v, "url": self.address} for n, v in self.cookie.items()]
        )
        return context


@contextmanager
def served(config: Config) -> Iterator[Served]:
    """The page of a lake on a free port."""
    access = Access.of(LakePaths(config.data_dir), "127.0.0.1", None)
    server = uvicorn.Server(
        uvicorn.Config(create_app(config, access), port=0, log_level="critical")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started:
            assert time.monotonic() < deadline and thread.is_alive(), "the page does not start"
            time.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(access, f"http://127.0.0.1:{port}")
    finally:
        server.should_exit = True
        thread.join()
