"""Commands that watch the lake: its metrics, and who is told what is wrong."""

from __future__ import annotations

from ducklake.cli.options import ConfigOption
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
