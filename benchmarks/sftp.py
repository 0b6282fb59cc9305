"""A large CSV from an SFTP server to Kafka: rows per second and peak memory of the producer.

make bench NAME=sftp [MB=2048]
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import asyncssh
import psutil
import yaml

from benchmarks.broker import broker, note, peak_rss_mb
from lake.config import Config, load_config

PASSWORD = "bench"
HEADER = b"sku;warehouse;quantity;reserved;unit_cost_ars;counted_on;supplier;note\n"


def write_file(path: Path, megabytes: int) -> int:
    """A CSV of that size; its number of rows."""
    rows = 0
    with path.open("wb") as file:
        size = file.write(HEADER)
        while size < megabytes << 20:
            block = b"".join(
                b'SKU-%08d;CABA;%d;%d;1.234,%02d;26/11/2026;"Proveedor %d";row %d of the file\n'
                % (n, n % 997, n % 7, n % 100, n % 31, n)
                for n in range(rows, rows + 20_000)
            )
            rows += 20_000
            size += file.write(block)
    os.utime(path, (time.time() - 3600,) * 2)
    return rows


def start_server(folder: Path) -> tuple[subprocess.Popen[bytes], dict[str, object]]:
    """An SFTP server over `folder/root`; its process and the keys of its connection."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(str(folder / "host_key"))
    (folder / "password").write_text(PASSWORD)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "stack.sftp", "--port", str(port), "--user", "bench"]
    server = subprocess.Popen([*command, "--folder", str(folder)], stdout=subprocess.PIPE)
    assert server.stdout is not None
    server.stdout.readline()  # it listens
    public = key.export_public_key().decode().split()
    hosts = folder / "known_hosts"
    hosts.write_text(f"[127.0.0.1]:{port} {public[0]} {public[1]}\n")
    keys = {"host": "127.0.0.1", "port": port, "user": "bench", "password": PASSWORD}
    return server, {**keys, "known_hosts": str(hosts)}


def make_config(config: Config, folder: Path, connection: dict[str, object]) -> Config:
    """A source of one file on the broker of a benchmark."""
    table = {"file": "stock.csv", "key": ["sku"], "options": {"delimiter": ";"}}
    made = {
        "name": "bench_sftp",
        "data_dir": "data_sftp",
        "services": {
            "kafka": {
                "bootstrap_servers": config.endpoints().kafka,
                "options": config.endpoints().kafka_options,
            },
            "connect": {"url": "http://127.0.0.1:1"},
            "postgres": {"host": "127.0.0.1"},
        },
        "topics": {"partitions": 2, "retention_mb": 65_536},
        "sources": {
            "drops": {"type": "sftp", "connection": connection, "tables": {"stock": table}}
        },
    }
    path = folder / "sftp.yml"
    path.write_text(yaml.safe_dump(made))
    return load_config(path)


def main() -> None:
    """Run it."""
    megabytes = int(os.environ.get("MB", "2048"))
    with broker() as (config, folder):
        root = folder / "server" / "root"
        root.mkdir(parents=True)
        note(f"writing {megabytes:,} MB ...")
        rows = write_file(root / "stock.csv", megabytes)
        server, connection = start_server(folder / "server")
        try:
            lake = make_config(config, folder, connection)
            note(f"reading {rows:,} rows ...")
            began = time.monotonic()
            worker = psutil.Popen(
                [sys.executable, "-m", "ducklake.cli", "produce", "--once"],
                env={**os.environ, "DUCKLAKE_CONFIG": str(lake.path)},
            )
            rss = 0.0
            while worker.poll() is None:
                rss = max(rss, peak_rss_mb(worker.pid))
                time.sleep(0.2)
            seconds = time.monotonic() - began
        finally:
            server.terminate()
            server.wait(30)
    if worker.returncode:
        sys.exit(f"the producer ended with code {worker.returncode}")
    note(f"{rows:,} rows in {seconds:.0f} s, {rss:.0f} MB")
    result = {"rows_per_s": round(rows / seconds), "rss_mb": round(rss), "rows": rows}
    print(json.dumps({**result, "mb": megabytes}))


if __name__ == "__main__":
    main()
