"""`ducklake ledger rebuild`, `backup` and `restore`: the ledger lost, kept and brought back."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import typer
from confluent_kafka import Producer
from rich.console import Console
from rich.progress import Progress

from consumers.maintenance import backup
from consumers.maintenance.ledger_rebuild import Restored, restore_ledger
from consumers.replay.range_reader import KafkaReader
from lake.config import Config
from lake.errors import DuckLakeError, ServiceUnreachable
from lake.kafka.clients import kafka_client
from lake.kafka.topics import TopicIdentity, admin, identify, make_topics
from lake.opening import open_lake
from lake.records import CURSORS_TOPIC
from lake.storage.paths import LakePaths

ASK_SECONDS = 5.0
SEND_SECONDS = 30.0


def rebuild_ledger(config: Config, dry: bool, yes: bool, as_json: bool) -> None:
    """Make the ledger anew from the footers of the lake's files.

    Raises:
        LedgerError: A process has the lake open.
    """
    paths = LakePaths(config.data_dir)
    if paths.ledger.exists() and not (yes or dry):
        typer.confirm(
            f"{paths.ledger} is quarantined in orphans/ and rebuilt from the files. Go on?",
            abort=True,
        )
    identities = _identities(config)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading footers", total=None)
        result = restore_ledger(
            paths,
            identities,
            dry,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        print(json.dumps(asdict(result)))
    else:
        _show(result, dry)


def _identities(config: Config) -> dict[str, TopicIdentity]:
    try:
        client = admin(config.endpoints())
        return identify(client, [ref.topic for ref, _ in config.tables()], ASK_SECONDS)
    except DuckLakeError as error:
        print(f"Kafka is not asked: {error}", file=sys.stderr)
        return {}


def _show(result: Restored, dry: bool) -> None:
    would = "would be " if dry else ""
    for name in result.quarantined:
        print(f"{name}: {would}moved to orphans/")
    for sentence in result.unknown:
        print(sentence)
    print(f"{result.tables} tables, {result.files:,} files, {result.rows:,} rows {would}restored")


def back_up(config: Config, folder: Path) -> None:
    """Write ledger and cursors into a new folder, as of one moment each.

    Raises:
        ConfigError: The folder holds something.
        LedgerError: There is no ledger.
        ServiceUnreachable: Kafka does not answer.
    """
    backup.must_be_new(folder)
    made = backup.write_backup(
        LakePaths(config.data_dir), config.settings.name, _cursors(config), folder
    )
    print(f"{folder}: the ledger at commit {made.commit}, {made.cursors} cursors")


def _cursors(config: Config) -> dict[str, str]:
    """All cursors of all producers: key to JSON."""
    cursors: dict[str, str] = {}
    with KafkaReader(config.endpoints()) as kafka:
        end = kafka.newest(CURSORS_TOPIC, 0)
        for batch in kafka.read(CURSORS_TOPIC, 0, kafka.oldest(CURSORS_TOPIC, 0), end):
            for message in batch:
                key = (message.key() or b"").decode()
                value = message.value()
                if value is None:
                    cursors.pop(key, None)
                else:
                    cursors[key] = value.decode()
    return cursors


def restore(config: Config, folder: Path, yes: bool) -> None:
    """Put a backup's ledger in the place of the present one, and cursors that Kafka lacks.

    Raises:
        ConfigError: The folder is no backup of this lake.
        LedgerError: A process is at work; or the lake has files that are newer than the backup.
    """
    paths = LakePaths(config.data_dir)
    about = backup.read_manifest(folder, config.settings.name)
    if paths.ledger.exists() and not yes:
        typer.confirm(f"{paths.ledger} is quarantined in orphans/. Go on?", abort=True)
    quarantined = backup.restore_ledger_of(folder, paths)
    print(f"the ledger is at commit {about.commit}, of {about.made_at}")
    if quarantined is not None:
        print(f"the one before is in {quarantined}")
    _restore_cursors(config, backup.cursors_of(folder))
    with open_lake(config, for_writing=False):
        pass  # a backup that is older than the files is refused here


def _restore_cursors(config: Config, wanted: dict[str, str]) -> None:
    """Send the cursors that Kafka has lost; those that it has are newer, or the same."""
    try:
        endpoints = config.endpoints()
        make_topics(config, endpoints)
        present = _cursors(config)
    except DuckLakeError as error:
        print(f"cursors are not restored: {error}", file=sys.stderr)
        return
    missing = {key: value for key, value in wanted.items() if key not in present}
    producer = kafka_client(Producer, endpoints, enable_idempotence=True)
    for key, value in missing.items():
        producer.produce(CURSORS_TOPIC, key=key.encode(), value=value.encode(), partition=0)
    if producer.flush(SEND_SECONDS):
        raise ServiceUnreachable("Kafka rejected the cursors.", "Run it again.")
    print(f"{len(missing)} cursors restored, {len(wanted) - len(missing)} were in Kafka already")
