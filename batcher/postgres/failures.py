"""What PostgreSQL's errors mean here, each with a remedy; none quotes a value."""

from __future__ import annotations

import re

import psycopg2
from psycopg2 import errorcodes

from lake.config import PostgresEndpoint
from lake.errors import BatchError, DiskFull, DuckLakeError, ServiceUnreachable
from lake.identifiers import fitting

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_QUOTE_VALUES = "22"
"""The class of errors whose messages quote a value."""
_AGAIN = ("40", "53", "57")
"""Classes of what passes: rollbacks, a lack of resources, and what an operator ended."""
_DEPENDENT = frozenset({errorcodes.FEATURE_NOT_SUPPORTED, errorcodes.DEPENDENT_OBJECTS_STILL_EXIST})
_NO_RIGHT = frozenset({errorcodes.INSUFFICIENT_PRIVILEGE})
_OF_CERTIFICATES = re.compile(r"alert (unknown ca|\w* ?certificate)")
"""What a server says to a client's certificate, or to none."""
NEXT = "Its last state is kept; the next cycle retries."


class NoTls(ServiceUnreachable):
    """PostgreSQL and this side do not agree on TLS."""


def split(relation: str) -> tuple[str, str]:
    """Schema and name in PostgreSQL of a `schema.name` of the lake."""
    schema, _, name = relation.partition(".")
    return schema, fitting(name)


def quoted_name(name: str) -> str:
    """An identifier as it may stand in a statement, in quotes only where it needs them."""
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def shown(relation: str) -> str:
    """A relation as it may stand in a statement."""
    return ".".join(map(quoted_name, split(relation)))


def unreachable(at: PostgresEndpoint, error: psycopg2.Error) -> ServiceUnreachable:
    """The database does not answer."""
    reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    if (found := no_tls(at, str(error))) is not None:
        return found
    return ServiceUnreachable(
        f"PostgreSQL at {at.host}:{at.port}, database {at.database}: {reason[0]}.",
        "Is it up, and may this user log in?",
    )


def no_tls(at: PostgresEndpoint, said: str) -> NoTls | None:
    """What libpq says of TLS; None if it says nothing of it."""
    server = f"PostgreSQL at {at.host}:{at.port}"
    if "certificate verify failed" in said:
        return NoTls(
            f"{server}: its certificate is not trusted.",
            "Name the file of the authority that signed it in services.postgres.sslrootcert.",
        )
    if "client certificate" in said or _OF_CERTIFICATES.search(said):
        return NoTls(
            f"{server}: it takes connections with a client certificate of its own authority only.",
            "Name the certificate in services.postgres.sslcert, and its key in sslkey.",
        )
    if "does not match host name" in said:
        return NoTls(
            f"{server}: its certificate is for another host name.",
            "Write a name that the certificate has into services.postgres.host.",
        )
    if "does not support SSL" in said:
        return NoTls(
            f"{server}: it offers no TLS, and sslmode is {at.sslmode}.",
            "Set ssl=on at the server; nothing is sent in plain text unless"
            " services.postgres.sslmode allows it.",
        )
    if "no encryption" in said and at.sslmode in ("disable", "allow", "prefer"):
        return NoTls(
            f"{server}: it takes connections with TLS only, and sslmode is {at.sslmode}.",
            "Set services.postgres.sslmode to verify-full, with sslrootcert.",
        )
    return None


def named(at: PostgresEndpoint, relation: str, error: psycopg2.Error) -> DuckLakeError:
    """An error of a statement that concerns a relation, while the connection lives."""
    code, place = error.pgcode, shown(relation)
    if code == errorcodes.LOCK_NOT_AVAILABLE:
        return ServiceUnreachable(f"PostgreSQL: {place} is locked by another session.", NEXT)
    if code is None:
        return unreachable(at, error)
    reason = error.diag.message_primary or type(error).__name__
    if code == errorcodes.DISK_FULL:
        return DiskFull(f"PostgreSQL: no room for {place}: {reason}.", f"Make room there. {NEXT}")
    if code.startswith(_AGAIN):
        return ServiceUnreachable(f"PostgreSQL: {place}: {reason}.", NEXT)
    if code.startswith(_QUOTE_VALUES):
        reason = errorcodes.lookup(code).lower().replace("_", " ")
    if code in _DEPENDENT and error.diag.message_detail:
        reason += f" ({error.diag.message_detail.strip()})"
    what = f"PostgreSQL: {place}: {reason}."
    if code in _NO_RIGHT:
        return BatchError(what, f"Run `{_grant(at, relation, reason)}`; the next cycle retries.")
    return BatchError(
        what,
        f"Remove what stands in the way, or the table (`DROP TABLE {place} CASCADE` also drops"
        " its views); the next cycle exports it again, whole.",
    )


def _grant(at: PostgresEndpoint, relation: str, reason: str) -> str:
    """The statement that gives a right that is missing."""
    user = quoted_name(at.user)
    if "temporary" in reason:
        return f"GRANT TEMPORARY ON DATABASE {quoted_name(at.database)} TO {user}"
    if "database" in reason:
        return f"GRANT CREATE ON DATABASE {quoted_name(at.database)} TO {user}"
    if "schema" in reason:
        return f"GRANT USAGE, CREATE ON SCHEMA {quoted_name(split(relation)[0])} TO {user}"
    return f"ALTER TABLE {shown(relation)} OWNER TO {user}"
