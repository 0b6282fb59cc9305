"""Commands that watch the lake: its metrics, and who is told what is wrong."""

from __future__ import annotations

import json

import typer

from ducklake.cli.options import ConfigOption, JsonOption
from ducklake.cli.signals import stop_on_signals
from ducklake.supervision.beating import beating
from lake.config import load_config


def monitor(config: ConfigOption = None) -> None:
    """Look at the lake all the time, serve its metrics, and send alerts."""
    from ducklake.monitor import Monitor

    stop = stop_on_signals()
    settings = load_config(config)
    with beating(settings, "monitor") as heartbeat:
        Monitor(settings, heartbeat).run(stop)


def metrics(config: ConfigOption = None) -> None:
    """Print all metrics once, in Prometheus' text format, for a textfile collector."""
    from ducklake.metrics.exposition import text
    from ducklake.monitoring.snapshot import Looker

    settings = load_config(config)
    print(text(settings, Looker(settings).once()), end="", flush=True)


def alerts_test(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Send a trial to everybody who is told of alerts.

    Exit code 0: everybody has taken it; 1: somebody has not, or nobody is configured.
    """
    from ducklake.alerts.trial import send_trial

    settings = load_config(config)
    results = send_trial(settings)
    for name, problem in results.items():
        if not as_json:
            print(f"{name}: {problem or 'sent'}", flush=True)
    if as_json:
        print(json.dumps({"sent": not any(results.values()), "targets": results}))
    if any(results.values()):
        raise typer.Exit(1)
