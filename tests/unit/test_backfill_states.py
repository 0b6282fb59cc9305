"""What has become of requests for backfills, read from the two logs alone."""

from __future__ import annotations

from producers.mysql.backfill_state import MOST_ATTEMPTS, Phase, backfill_states
from producers.mysql.signals import GIVEN_UP, REQUEST, Entry

SIGNALS, NOTIFICATIONS = "signals", "notifications"


def entry(kind: str, number: int, key: str, **value: object) -> Entry:
    return Entry(kind, number, key, value, float(number))


def test_a_request_that_debezium_never_took_is_not_in_the_way_of_the_next() -> None:
    said = [
        entry(SIGNALS, 0, REQUEST, id="one", table="orders"),
        entry(SIGNALS, 1, REQUEST, id="two", table="orders", where="id = 1"),
        *(entry(SIGNALS, 2 + n, "shop", id=f"one/{n + 1}") for n in range(MOST_ATTEMPTS)),
    ]
    [one, two] = backfill_states("shop", said)
    assert (one.phase, one.attempts, one.done) == (Phase.REQUESTED, MOST_ATTEMPTS, False)
    [one, two] = backfill_states("shop", [*said, entry(SIGNALS, 20, GIVEN_UP, id="one")])
    assert one.done and one.phase is Phase.FAILED and f"{MOST_ATTEMPTS} times" in one.reason
    assert not two.done and not one.is_to_settle


def test_a_failure_says_why() -> None:
    about = {"status": "NO_PRIMARY_KEY", "total_rows_scanned": "0"}
    said = [
        entry(SIGNALS, 0, REQUEST, id="one", table="orders"),
        entry(SIGNALS, 1, "shop", id="one/1"),
        entry(NOTIFICATIONS, 0, "", id="one/1", type="STARTED", additional_data={}),
        entry(
            *(NOTIFICATIONS, 1, ""), id="one/1", type="TABLE_SCAN_COMPLETED", additional_data=about
        ),
        entry(NOTIFICATIONS, 2, "", id="one/1", type="COMPLETED", additional_data={}),
    ]
    [one] = backfill_states("shop", said)
    assert one.phase is Phase.FAILED and one.reason == "it has no primary key"
