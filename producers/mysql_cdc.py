"""Debezium's life: made, updated and watched through Kafka Connect's REST API.

The rows travel from MySQL through Connect; this class sees to it that the connector exists as
configured and runs, and it knows when everything committed in MySQL has reached Kafka.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import requests
import structlog

from ducklake.config import Config, Endpoints, Source
from ducklake.errors import ServiceUnreachable, SourceError
from producers.base import Batch, Connector, Cursors

log = structlog.get_logger()
TIMEOUT = (5.0, 30.0)
CONFLICT_SECONDS = 0.2
TEMPLATE = Path("connect") / "mysql.json"


class MysqlCdcConnector(Connector):
    """One Debezium connector for all tables of a MySQL database."""

    writes_records = False

    def __init__(self, name: str, source: Source, config: Config, endpoints: Endpoints) -> None:
        super().__init__(name, source, config, endpoints)
        self.connector = f"{config.settings.name}-{name}"
        self._http = requests.Session()
        self._goal: str | None = None
        self._restarted: dict[str, float] = {}

    def close(self) -> None:
        """Close the connections; the connector goes on in Connect."""
        self._http.close()

    def poll(self, cursors: Cursors) -> Iterator[Batch]:
        """Make the connector what it should be; restart what has failed.

        Raises:
            ServiceUnreachable: Connect does not answer, or a task failed for a passing reason.
            SourceError: Connect refuses the configuration.
        """
        wanted = self.configuration()
        current = self._get(f"/connectors/{self.connector}/config") or {}
        if {key: text for key, text in current.items() if key != "name"} != wanted:
            self._put(f"/connectors/{self.connector}/config", wanted)
            log.info("connector configured", connector=self.connector)
        self._watch()
        yield from ()

    def settled(self) -> bool:
        """Whether all that MySQL had committed when this was first asked is in Kafka."""
        if self._goal is None:
            self._goal = str(self._query("SELECT @@GLOBAL.gtid_executed")[0]).replace("\n", "")
        delivered = self._delivered()
        if delivered is None:
            return False
        # MySQL itself compares the two sets of transactions.
        return bool(self._query("SELECT GTID_SUBSET(%s, %s)", self._goal, delivered)[0])

    def count(self) -> dict[str, int]:
        """Ask MySQL for the rows of each table."""
        return {
            table: int(self._query(f"SELECT COUNT(*) FROM `{table}`")[0])
            for table in self.source.tables
        }

    def configuration(self) -> dict[str, str]:
        """The connector's configuration: the template with this source's addresses filled in.

        Raises:
            SourceError: The template cannot be read.
        """
        path = self.config.root / TEMPLATE
        mysql = self.endpoints.mysql
        try:
            template: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SourceError(
                f"{path}: {error}.", "Restore the connector's template from the repository."
            ) from None
        values = {
            "source": self.name,
            # Two connectors of one id would throw each other out of the server.
            "server_id": str(10_000 + zlib.crc32(self.connector.encode()) % 1_000_000_000),
            "replication_factor": str(self.config.settings.topics.replication_factor),
            "kafka": self.endpoints.kafka,
            "host": mysql.host,
            "port": str(mysql.port),
            "user": mysql.user,
            # Connect resolves it: the password is in none of its answers.
            "password": self.endpoints.connect_mysql_password,
            "database": mysql.database,
            "tables": ",".join(f"{mysql.database}.{table}" for table in self.source.tables),
        }
        filled = {}
        for key, text in template.items():
            for name, value in values.items():
                text = text.replace(f"<{name}>", value)
            filled[key] = text
        return filled | {key: str(value) for key, value in self.source.options.items()}

    # Connect -------------------------------------------------------------------------------

    def _watch(self) -> None:
        status = self._get(f"/connectors/{self.connector}/status") or {}
        failed = [task for task in status.get("tasks", []) if task["state"] == "FAILED"]
        if status.get("connector", {}).get("state") == "FAILED" or failed:
            reason = next((task.get("trace", "") for task in failed), "").partition("\n")[0]
            self._request(
                "POST",
                f"/connectors/{self.connector}/restart?includeTasks=true&onlyFailed=true",
            )
            raise ServiceUnreachable(
                f"Debezium's connector {self.connector} had failed ({reason[:300]}).",
                "It was restarted; if it fails again, its log says more.",
            )

    def _delivered(self) -> str | None:
        """The set of transactions that are in Kafka, by the offsets that Connect committed."""
        answer = self._get(f"/connectors/{self.connector}/offsets") or {}
        for entry in answer.get("offsets", []):
            offset = entry.get("offset") or {}
            if offset.get("gtids") and not offset.get("snapshot"):
                return str(offset["gtids"])
        return None

    def _get(self, path: str) -> Any:
        response = self._request("GET", path)
        return None if response.status_code == requests.codes.not_found else response.json()

    def _put(self, path: str, body: dict[str, str]) -> None:
        deadline = time.monotonic() + TIMEOUT[1]
        while True:
            response = self._request("PUT", path, body)
            if response.status_code != requests.codes.conflict or time.monotonic() > deadline:
                return
            time.sleep(CONFLICT_SECONDS)  # 409: Connect is rebalancing, for a moment

    def _request(
        self, method: str, path: str, body: dict[str, str] | None = None
    ) -> requests.Response:
        url = f"{self.endpoints.connect}{path}"
        try:
            response = self._http.request(method, url, json=body, timeout=TIMEOUT)
        except requests.RequestException as error:
            raise ServiceUnreachable(
                f"Kafka Connect at {self.endpoints.connect}: {type(error).__name__}.", "Is it up?"
            ) from None
        if response.status_code == requests.codes.bad_request:
            message = str(response.json().get("message", ""))[:500]
            raise SourceError(
                f"Kafka Connect refuses the connector {self.connector}: {message}",
                "Mend services.mysql, or the source's options.",
            )
        if response.status_code >= requests.codes.internal_server_error:
            raise ServiceUnreachable(
                f"Kafka Connect at {self.endpoints.connect}: {method} {path} answered"
                f" {response.status_code}.",
                "It is tried again.",
            )
        return response

    # MySQL ---------------------------------------------------------------------------------

    def _query(self, sql: str, *args: str) -> tuple[Any, ...]:
        at = self.endpoints.mysql
        try:
            with (
                pymysql.connect(
                    host=at.host,
                    port=at.port,
                    user=at.user,
                    password=at.password,
                    database=at.database,
                    connect_timeout=10,
                ) as db,
                db.cursor() as cursor,
            ):
                cursor.execute(sql, args)
                row: tuple[Any, ...] | None = cursor.fetchone()
        except pymysql.MySQLError as error:
            raise ServiceUnreachable(
                f"MySQL {at.host}:{at.port}: {type(error).__name__} {error.args[:1]}.",
                "Is it up, and may the user read this database?",
            ) from None
        return row or ()
