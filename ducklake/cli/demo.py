"""The main job: the stack, all sources once or for ever, and the report."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from rich.console import Console

from batcher.cycle import Batch, once
from consumers.compaction.compactor import Compactor
from consumers.ingest.lake_writer import LakeWriter
from ducklake.cli.dashboard import free_port, sign_in_line
from ducklake.cli.live import LiveView
from ducklake.cli.report import gather, show
from ducklake.cli.steps import Steps
from ducklake.supervision.roles import RoleSupervisor, all_roles
from lake.config import Config, Endpoints
from lake.errors import TerminalError
from lake.openlineage.recording import lineage_told
from producers.runner import SourceRunner
from stack import lifecycle
from stack.progress import PlainLines, for_stderr

DEMO_RATE = 5.0


def demo_once(config: Config, stop: threading.Event, as_json: bool) -> None:
    """One full pass over everything that is in the sources; then stop what was started.

    Raises:
        TerminalError: It was interrupted, or dbt's tests failed.
    """
    steps = Steps()
    began = time.monotonic()
    was_up = lifecycle.is_up(config)
    try:
        with steps.step("stack", "Starting the stack"):
            lifecycle.up(config, PlainLines() if as_json else for_stderr())
        endpoints = config.endpoints()
        with lineage_told(config):
            _one_pass(config, endpoints, steps, stop)
        _check(stop)
        report = gather(config, endpoints)
        steps.seconds["total"] = time.monotonic() - began
    finally:
        if not was_up:
            lifecycle.down(config)
    if as_json:
        print(json.dumps({**report.counts(), "seconds": _seconds(steps)}), flush=True)
    else:
        show(report, Console())
        print(f"\nOne pass took {steps.seconds['total']:.0f} s. Next:")
        for line in next_commands(config):
            print(f"  {line}")
    if report.dbt.get("failed"):
        raise TerminalError(
            f"{report.dbt['failed']} models or tests failed: {', '.join(report.held_back)}.",
            "Held-back models stay at their last good state; the report names the tests.",
        )


def _one_pass(config: Config, endpoints: Endpoints, steps: Steps, stop: threading.Event) -> None:
    batch = Batch(config, endpoints, steps.detail)
    try:
        # dbt's import takes seconds and needs nothing: meanwhile the sources are read.
        loading = threading.Thread(target=batch.load, name="dbt-import")
        loading.start()
        with steps.step("ingest", "Sources to Kafka to raw Parquet"):
            _ingest(config, endpoints, steps, stop)
        _check(stop)
        loading.join()
        with steps.step("batch", "dbt, publication and PostgreSQL"):
            cycle = once(batch)
    finally:
        batch.close()
    steps.seconds |= {"dbt": cycle.seconds["dbt"]}
    steps.seconds |= {"export": cycle.seconds["publish"] + cycle.seconds["export"]}


def _ingest(config: Config, endpoints: Endpoints, steps: Steps, stop: threading.Event) -> None:
    sources = SourceRunner(
        config, endpoints, progress=lambda topic, rows: steps.detail(f"{topic}: {rows:,} sent")
    )
    sources.run(stop, once=True)
    writer = LakeWriter(
        config,
        endpoints,
        once=True,
        progress=lambda rows: steps.detail(f"{rows:,} rows committed"),
    )
    try:
        writer.run(stop)
    finally:
        writer.close()
    compactor = Compactor(config)
    try:
        compactor.pass_once(force=True)
    finally:
        compactor.close()


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise TerminalError("Interrupted; what was committed is safe.", "Run it again to continue.")


def _seconds(steps: Steps) -> dict[str, float | None]:
    install = os.environ.get("DUCKLAKE_INSTALL_SECONDS")
    names = ("stack", "ingest", "dbt", "export", "total")
    seconds: dict[str, float | None] = {"install": float(install) if install else None}
    return seconds | {name: round(steps.seconds[name], 2) for name in names}


def demo(config: Config, stop: threading.Event, rate: float = DEMO_RATE) -> None:
    """Bring everything up with a shop that sells, and keep it running until told to stop."""
    was_up = lifecycle.is_up(config)
    port = free_port()
    roles = {
        **all_roles(config),
        "simulate": ("simulate", "--rate", str(rate)),
        "dashboard": ("dashboard", "--port", str(port)),
    }
    supervisor = RoleSupervisor(config, roles)
    try:
        lifecycle.up(config)
        if stop.is_set():
            return
        print(f"The page: http://127.0.0.1:{port}/")
        print(sign_in_line(config, f"http://127.0.0.1:{port}/").capitalize())
        print("The shop is open. In another terminal:")
        for line in next_commands(config):
            print(f"  {line}")
        print("Ctrl-C ends everything.", flush=True)
        run_roles(config, stop, supervisor)
    finally:
        # From here on Ctrl-C must not leave anything behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if not was_up:
            lifecycle.down(config)
    print("Stopped; the data stay. `ducklake reset` starts over.")


def run_roles(config: Config, stop: threading.Event, supervisor: RoleSupervisor) -> None:
    """Look after the roles and show what arrives, until told to stop."""
    view = LiveView(config, sys.stderr)
    supervisor.start()
    try:
        while not stop.wait(view.wait_seconds):
            supervisor.look()
            view.refresh()
    finally:
        view.close()
        supervisor.stop()


def next_commands(config: Config) -> list[str]:
    """Lines to paste next."""
    program = os.path.relpath(Path(sys.executable).with_name("ducklake"))
    return [
        f"{program} report                 # rows per layer, freshness, tests, the shop's figures",
        f"{program} status                 # the lines that open psql, mysql, sftp, duckdb",
        f"{program} reset                  # stop and start over",
    ]
