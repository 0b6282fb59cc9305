"""The same records through Spark structured streaming: from_json, typed, Parquet by day.

A program of its own, started by `benchmarks.ingest` where pyspark is installed:

    python -m benchmarks.spark_ingest BOOTSTRAP TOPIC FOLDER JAR,JAR,…
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.broker import peak_rss_mb

AFTER = (
    "order_id BIGINT, customer_id INT, ordered_at STRING, status STRING, payment_method STRING,"
    " shipping_ars STRING, total_ars STRING, updated_at STRING"
)
SOURCE = "ts_ms BIGINT, file STRING, pos BIGINT, row INT"
ENVELOPE = f"op STRING, source STRUCT<{SOURCE}>, after STRUCT<{AFTER}>"
TYPED = (
    "j.after.order_id",
    "j.after.customer_id",
    "CAST(j.after.ordered_at AS TIMESTAMP) ordered_at",
    "j.after.status",
    "j.after.payment_method",
    "CAST(j.after.shipping_ars AS DECIMAL(12,2)) shipping_ars",
    "CAST(j.after.total_ars AS DECIMAL(12,2)) total_ars",
    "CAST(j.after.updated_at AS TIMESTAMP) updated_at",
    "j.op AS _op",
    "timestamp_millis(j.source.ts_ms) AS _source_ts",
    "timestamp AS _kafka_ts",
    "topic AS _topic",
    "partition AS _partition",
    "offset AS _offset",
    "j.source.file AS _binlog_file",
    "j.source.pos AS _binlog_pos",
    "j.source.row AS _binlog_row",
    "year(timestamp) AS year",
    "month(timestamp) AS month",
    "day(timestamp) AS day",
)


def run(spark: Any, bootstrap: str, topic: str, folder: Path, ends: str) -> float:
    """One pass over the topic; returns its seconds."""
    from pyspark.sql.functions import col, from_json

    stream = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("kafka.isolation.level", "read_committed")
        .options(**json.loads(os.environ.get("KAFKA_LOGIN", "{}")))
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", ends)
        .load()
    )
    rows = stream.withColumn("j", from_json(col("value").cast("string"), ENVELOPE))
    began = time.monotonic()
    query = (
        rows.selectExpr(*TYPED)
        .writeStream.format("parquet")
        .option("path", str(folder / "rows"))
        .option("checkpointLocation", str(folder / "checkpoint"))
        .option("compression", "zstd")
        .partitionBy("year", "month", "day")
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    return time.monotonic() - began


def main() -> None:
    """Warm up on the topic once, then measure."""
    from pyspark.sql import SparkSession

    bootstrap, topic, folder, jars = sys.argv[1:]
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.jars", jars)
        .config("spark.driver.memory", "4g")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    run(spark, bootstrap, topic, Path(folder) / "warm", "500000")
    [machine] = psutil.Process().children()
    before = sum(machine.cpu_times()[:2])
    seconds = run(spark, bootstrap, topic, Path(folder) / "measured", "500000")
    written = Path(folder, "measured", "rows").rglob("*.parquet")
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu_seconds": sum(machine.cpu_times()[:2]) - before,
                "rss_mb": peak_rss_mb(machine.pid),
                "bytes_written": sum(path.stat().st_size for path in written),
            }
        )
    )


if __name__ == "__main__":
    main()
