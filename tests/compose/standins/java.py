"""Stands in for the entry points of apache/kafka and quay.io/debezium/connect.

Honours just what docker-compose.yml relies on: settings from the environment, the folders, the
ports. The broker, Connect and Debezium are the real ones.
"""

import os
import sys
from pathlib import Path

JAVA = ["/opt/java/bin/java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData"]
LOGGING = "-Dlog4j2.configurationFile=file:///opt/log4j2.properties"


def settings(prefix: str) -> dict[str, str]:
    """`PREFIX_SOME_KEY` as `some.key`."""
    skip = {"KAFKA_HEAP_OPTS", "KAFKA_OPTS"}
    return {
        name.removeprefix(prefix).lower().replace("_", "."): value
        for name, value in os.environ.items()
        if name.startswith(prefix) and name not in skip
    }


def write(name: str, values: dict[str, str]) -> str:
    path = Path("/tmp") / name
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    return str(path)


def kafka() -> list[str]:
    path = write("server.properties", settings("KAFKA_"))
    if not (Path(os.environ["KAFKA_LOG_DIRS"]) / "meta.properties").exists():
        tool = [*JAVA, LOGGING, "kafka.tools.StorageTool", "format"]
        identity = os.environ["CLUSTER_ID"]
        if os.spawnv(os.P_WAIT, JAVA[0], [*tool, "--cluster-id", identity, "--config", path]):
            sys.exit("the storage cannot be formatted")
    return [*os.environ["KAFKA_HEAP_OPTS"].split(), LOGGING, "kafka.Kafka", path]


def connect() -> list[str]:
    plain = {
        "BOOTSTRAP_SERVERS": "bootstrap.servers",
        "GROUP_ID": "group.id",
        "CONFIG_STORAGE_TOPIC": "config.storage.topic",
        "OFFSET_STORAGE_TOPIC": "offset.storage.topic",
        "STATUS_STORAGE_TOPIC": "status.storage.topic",
        "OFFSET_FLUSH_INTERVAL_MS": "offset.flush.interval.ms",
        "SHUTDOWN_TIMEOUT": "task.shutdown.graceful.timeout.ms",
    }
    converter = "org.apache.kafka.connect.json.JsonConverter"
    values = {"key.converter": converter, "value.converter": converter}
    values |= {key: os.environ[name] for name, key in plain.items() if name in os.environ}
    path = write("worker.properties", values | settings("CONNECT_"))
    main = "org.apache.kafka.connect.cli.ConnectDistributed"
    return [*os.environ["HEAP_OPTS"].split(), LOGGING, main, path]


os.environ["CLASSPATH"] = "/opt/jars/*:/kafka/connect/debezium-connector-mysql/ducklake/*"
arguments = {"kafka": kafka, "connect": connect}[sys.argv[1]]()
os.execv(JAVA[0], [*JAVA, *os.environ.get("KAFKA_OPTS", "").split(), *arguments])
