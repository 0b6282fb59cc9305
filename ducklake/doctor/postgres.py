"""The PostgreSQL database that receives the lake: version, rights, clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg2

from batcher.postgres.failures import no_tls
from ducklake.doctor.clocks import clock
from ducklake.doctor.findings import Finding, well, wrong
from lake.config import Config, Endpoints, PostgresEndpoint

OLDEST = 12
SECONDS = 8
_QUESTION = (
    "SELECT current_setting('server_version'), current_setting('server_version_num')::int,"
    " has_database_privilege(current_database(), 'CREATE'),"
    " pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool,"
    " extract(epoch FROM clock_timestamp())"
)
_REFUSALS = ("authentication failed", "no password supplied", "does not exist", "no pg_hba.conf")


def postgres(config: Config, endpoints: Endpoints) -> Iterator[Finding]:
    """Everything about the database."""
    at = endpoints.postgres
    asked = time.time()
    try:
        answer = _ask(at)
    except psycopg2.Error as error:
        yield _refusal(config, at, error)
        return
    version, number, may_create, is_read_only, theirs = answer
    yield well("postgres", f"PostgreSQL {version} at {at.host}:{at.port}, database {at.database}")
    if number < OLDEST * 10_000:
        remedy = f"pg_upgrade, to {OLDEST} or later"
        yield wrong("DL-503", "postgres", f"version {version} is too old", remedy)
    if not may_create:
        what = f"user {at.user} may not create schemas in database {at.database}"
        remedy = f'GRANT CREATE ON DATABASE "{at.database}" TO "{at.user}"'
        yield wrong("DL-504", "postgres", what, f"Run `{remedy}`")
    if is_read_only:
        what = "it is a standby, or its transactions are read-only"
        remedy = f'ALTER DATABASE "{at.database}" RESET default_transaction_read_only'
        yield wrong("DL-505", "postgres", what, f"Run `{remedy}`, or name the primary")
    if (found := clock("postgres", float(theirs), asked)) is not None:
        yield found


def _ask(at: PostgresEndpoint) -> tuple[Any, ...]:
    database = psycopg2.connect(**at.login(), connect_timeout=SECONDS)
    try:
        with database.cursor() as cursor:
            cursor.execute(_QUESTION)
            row: tuple[Any, ...] | None = cursor.fetchone()
            assert row is not None
            return row
    finally:
        database.close()


def _refusal(config: Config, at: PostgresEndpoint, error: psycopg2.Error) -> Finding:
    text = " ".join(str(error).split())
    if at.password:
        text = text.replace(at.password, "***")
    if (tls := no_tls(at, text)) is not None:
        return wrong("DL-506", "postgres", tls.what, tls.remedy)
    if any(sign in text for sign in _REFUSALS):
        remedy = "Mend services.postgres (user, password, database) in ducklake.yml"
        return wrong("DL-502", "postgres", text, remedy)
    is_embedded = "postgres" in config.settings.services.embedded()
    remedy = "ducklake up" if is_embedded else "Start it, or mend services.postgres"
    return wrong("DL-501", "postgres", text, remedy)
