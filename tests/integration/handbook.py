"""A project on somebody's own services that follows the pages of the documentation."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import psycopg2
import yaml

from lake.config import Config
from producers.registry import source_connection
from stack.secrets import Secrets
from stack.supervisor import SECRETS
from tests.conftest import copy_project
from tests.integration.producers_lab import file_server, keys_of, shop_server

ROOT = Path(__file__).resolve().parents[2]
COMMAND_SECONDS = 150.0
FENCE = re.compile(r"(?P<before>.*?)^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
ORDER = re.compile(r"(Create|Append to|Add to)\s+`([^`]+)`")


@dataclass(frozen=True)
class Handbook:
    """A project on own services that follows the pages."""

    folder: Path
    environment: dict[str, str] = field(repr=False)  # it holds passwords

    def run(self, script: str) -> str:
        """Run a block of commands as a reader would paste it."""
        process = subprocess.Popen(
            ["bash", "-ec", script],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=COMMAND_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # bash alone would leave its command behind
            process.communicate()
            raise
        assert process.returncode == 0, f"{script}\n{out}\n{err}"
        return out + err

    def follow(
        self, page: str, section: str = "", words: Mapping[str, str] | None = None
    ) -> list[str]:
        """Do what every block of a page says, in order; returns what the commands printed.

        Args:
            page: The page's path.
            section: The heading of the only section to follow.
            words: What to write instead of which words (the page's dates are not today's).
        """
        printed = []
        text = section_of(page, section)
        for old, new in (words or {}).items():
            assert old in text, f"{page}: nothing says {old}"
            text = text.replace(old, new)
        for block in FENCE.finditer(text):
            if block["language"] == "text":
                continue  # what one should see
            if block["language"] == "sh":
                printed.append(self.run(block["text"]))
                continue
            orders = ORDER.findall(block["before"])
            assert orders, f"{page}: nothing says what to do with {block['text'][:80]!r}"
            verb, name = orders[-1]
            path = self.folder / name
            if verb == "Create":
                path.parent.mkdir(exist_ok=True)
                path.write_text(block["text"], encoding="utf-8")
            elif verb == "Append to":
                path.write_text(path.read_text(encoding="utf-8") + block["text"], encoding="utf-8")
            else:
                text = path.read_text(encoding="utf-8")
                path.write_text(text.replace("\nsources:\n", f"\nsources:\n{block['text']}", 1))
        return printed

    def blocks(self, page: str, section: str) -> list[str]:
        """The blocks of commands of a section."""
        found = FENCE.finditer(section_of(page, section))
        return [block["text"] for block in found if block["language"] == "sh"]

    def lake(self, query: str) -> list[tuple[object, ...]]:
        """Ask what people open."""
        with duckdb.connect(str(self.folder / "data" / "lake.duckdb"), read_only=True) as lake:
            found: list[tuple[object, ...]] = lake.execute(query).fetchall()
        return found

    def files(self, table: str, query: str) -> list[tuple[object, ...]]:
        """Ask the public files of a table, by glob; `{raw}` in the query stands for them."""
        tree = str(self.folder / "data" / "raw" / table / "*/*/*/*.parquet")
        found = duckdb.execute(query.format(raw=f"read_parquet('{tree}')")).fetchall()
        return list(found)


def section_of(page: str, section: str) -> str:
    """The text of a page, or of one of its sections."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if section:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
        assert text, f"{page} has no section {section!r}"
    return text


def own_servers(config: Config, database: str) -> dict[str, object]:
    """The sections for services and servers that the reader already has."""
    at = config.endpoints()
    shop, files, api = (source_connection(config, name) for name in ("mysql", "sftp", "api"))
    passwords = {"shop_db": "DUCKLAKE_MYSQL_PASSWORD", "suppliers": "DUCKLAKE_SFTP_PASSWORD"}
    connections = {"shop_db": keys_of(shop), "suppliers": keys_of(files)}
    connections |= dict.fromkeys(("argentinadatos", "dolarapi"), keys_of(api))
    for name, variable in passwords.items():
        connections[name]["password"] = f"${{{variable}}}"
    # as the embedded Connect, which stands for the reader's own, knows this password
    connections["shop_db"]["connect_password"] = "$${env:DUCKLAKE_MYSQL_PASSWORD}"
    return {
        "services": {
            "kafka": {"bootstrap_servers": at.kafka, "options": at.kafka_options},
            "connect": {"url": at.connect},
            "postgres": {
                "host": at.postgres.host,
                "port": at.postgres.port,
                "user": at.postgres.user,
                "password": "${DUCKLAKE_POSTGRES_PASSWORD}",
                "database": database,
            },
        },
        "connections": connections,
    }


def make_database(config: Config, name: str) -> None:
    """A database of its own, so that no other test finds its tables changed."""
    at = config.endpoints().postgres
    password = Secrets(config.stack_dir / SECRETS).get("postgres_superuser")
    database = psycopg2.connect(
        host=at.host, port=at.port, user="postgres", password=password, dbname="postgres"
    )
    try:
        database.autocommit = True
        with database.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}" OWNER "{at.user}"')
    finally:
        database.close()


def make_handbook(config: Config, folder: Path, name: str, database: str) -> Handbook:
    """A copy of the project on the services of a running stack.

    Args:
        config: Of the stack.
        folder: Where to.
        name: Of the lake.
        database: In PostgreSQL; made if it is named after the lake.
    """
    copy_project(folder)
    (folder / ".venv").symlink_to(sys.prefix)
    at = config.endpoints()
    file = folder / "ducklake.yml"
    text = file.read_text(encoding="utf-8").replace("name: techstore", f"name: {name}", 1)
    servers = yaml.safe_dump(own_servers(config, database), sort_keys=False)
    file.write_text(
        re.sub(r"(?ms)^services:.*?^(?=embedded)", lambda _: f"{servers}\n", text, count=1)
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DUCKLAKE_")}
    environment |= {
        "DUCKLAKE_MYSQL_PASSWORD": shop_server(config).plain_password,
        "DUCKLAKE_POSTGRES_PASSWORD": at.postgres.password,
        "DUCKLAKE_SFTP_PASSWORD": file_server(config).plain_password,
        "PYTHONPATH": str(folder),
    }
    if database == name:
        make_database(config, name)
    return Handbook(folder, environment)
