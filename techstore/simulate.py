"""Shop traffic against the real MySQL: orders, their progress, prices, addresses, cancellations.

A change is one row inserted, updated or deleted, and so one record on its way through the lake: an
order with three items is four changes. Each business event is one transaction; who falls behind the
wished rate puts several of them into one.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from lake.config import MYSQL, Config, MysqlConnection
from lake.errors import ConfigError, ServiceUnreachable, SourceError
from producers.mysql.encryption import connected, refused
from producers.registry import source_connection
from techstore.traffic import Happened, Traffic

OUTAGE_SECONDS = 60.0  # how long MySQL may be away before the traffic gives up
MAX_ROWS = 200  # in one transaction
MAX_LAG_SECONDS = 2.0  # what is further behind is forgotten: a burst is no shop traffic
# A transaction that lost a race is only rolled back; these mean that waiting does not help.
_REFUSED = {1044, 1045, 1049, 1142, 1143, 1146, 1698, 3118}


@dataclass(slots=True)
class Counts:
    """What the traffic changed, as far as MySQL confirmed it.

    A commit whose answer was lost with the connection is not counted, though it may have happened.
    """

    changes: int = 0
    transactions: int = 0
    events: Counter[str] = field(default_factory=Counter)


def shop_connection(config: Config) -> MysqlConnection:
    """The demo shop's MySQL: that of the first MySQL source with a table `orders`.

    Raises:
        ConfigError: There is none, or its connection is wrong.
        StackNotRunning: It is `embedded` and the stack is not up.
    """
    for name, source in config.settings.sources.items():
        if source.type in MYSQL and "orders" in source.tables:
            found = source_connection(config, name)
            assert isinstance(found, MysqlConnection)
            return found
    raise ConfigError(
        "No MySQL source has a table 'orders': there is no shop to trade in.",
        "Add the demo's source to ducklake.yml.",
    )


def simulate(
    endpoint: MysqlConnection,
    rate: float,
    stop: threading.Event,
    seed: int | None = None,
    on_change: Callable[[str], None] | None = None,
) -> Counts:
    """Trade until `stop` is set.

    Args:
        endpoint: The shop's MySQL.
        rate: Changed rows per second, evenly paced.
        stop: Ends the traffic, within a moment and between two transactions.
        seed: Makes the choices repeatable (on the same data).
        on_change: Is told each committed event in words.

    Raises:
        ConfigError: The rate is not positive.
        ServiceUnreachable: MySQL was away for more than a minute.
        SourceError: MySQL refuses the user, or it holds no shop.
    """
    if not rate > 0:
        raise ConfigError(
            f"A rate of {rate:g} changes per second is not a positive rate.", "Use --rate 5."
        )
    rng, counts = Random(seed), Counts()
    outage = _Outage(endpoint)
    while not stop.is_set():
        before = counts.transactions
        try:
            with _connected(endpoint) as connection:
                _trade(Traffic(connection, rng), rate, stop, counts, on_change)
        except (pymysql.OperationalError, pymysql.InterfaceError, OSError) as error:
            if isinstance(error, pymysql.MySQLError) and (no_tls := refused(error, endpoint)):
                raise no_tls from None
            code = _refusal(error, endpoint)
            stop.wait(outage.next_wait(code, is_new=counts.transactions > before))
        except pymysql.MySQLError as error:
            raise SourceError(
                f"MySQL at {endpoint.host}:{endpoint.port} rejects the shop's changes "
                f"(error {_refusal(error, endpoint)}).",
                "Its tables should be those of docker/mysql/init.sql; `ducklake reset` loads it.",
            ) from None
    return counts


class _Outage:
    """Since when MySQL has been away, and how often it was tried.

    Args:
        endpoint: The server.
    """

    def __init__(self, endpoint: MysqlConnection) -> None:
        self._endpoint = endpoint
        self._since: float | None = None
        self._attempts = 0

    def next_wait(self, code: int | str, is_new: bool) -> float:
        """Seconds to wait before the next attempt.

        Args:
            code: Of the error that was met now.
            is_new: Whether the server has answered since the last one.

        Raises:
            ServiceUnreachable: It has been away for too long.
        """
        now = time.monotonic()
        if self._since is None or is_new:
            self._since, self._attempts = now, 0
        if now - self._since > OUTAGE_SECONDS:
            raise ServiceUnreachable(
                f"MySQL at {self._endpoint.host}:{self._endpoint.port} has been away for "
                f"{OUTAGE_SECONDS:.0f} s (error {code}).",
                "Look at `ducklake status`.",
            ) from None
        self._attempts += 1
        return float(min(0.1 * 2 ** (self._attempts - 1), 5.0))


def _connected(endpoint: MysqlConnection) -> Connection[Cursor]:
    return connected(
        endpoint,
        database=endpoint.database,
        charset="utf8mb4",
        autocommit=False,
        connect_timeout=5,
        read_timeout=30,
        write_timeout=30,
    )


def _refusal(error: Exception, endpoint: MysqlConnection) -> int | str:
    """The error's code; only that is told on, since a driver's text is not ours to vouch for.

    Raises:
        SourceError: Waiting will not help.
    """
    code = error.args[0] if error.args else type(error).__name__
    if code in _REFUSED:
        raise SourceError(
            f"MySQL at {endpoint.host}:{endpoint.port} refuses user {endpoint.user} or has no "
            f"shop in database {endpoint.database} (error {code}).",
            f"Check {endpoint.place} in ducklake.yml, and that docker/mysql/init.sql is loaded.",
        ) from None
    return code if isinstance(code, int) else type(error).__name__


def _trade(
    shop: Traffic,
    rate: float,
    stop: threading.Event,
    counts: Counts,
    on_change: Callable[[str], None] | None,
) -> None:
    """Make the changes that are due, wait for the next, until stopped or disconnected."""
    start, done = time.monotonic(), 0
    while not stop.wait(max(start + done / rate - time.monotonic(), 0)):
        lag = time.monotonic() - start - done / rate
        if lag > MAX_LAG_SECONDS:
            start += lag
        due = min(lag * rate, MAX_ROWS)
        rows = 0
        events: list[Happened] = []
        while not events or rows < due:
            events.append(shop.event())
            rows += events[-1].rows
        shop.connection.commit()
        done += rows
        counts.changes += rows
        counts.transactions += 1
        for event in events:
            counts.events[event.kind] += 1
            if on_change:
                on_change(event.words)
