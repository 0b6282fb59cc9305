"""How many dead letters each table has: counted as they change, since history only grows.

The ledger's own triggers keep the counts, whoever writes dead letters: a commit, a redrive, the
removal of a generation, a rebuild of the ledger.
"""

from __future__ import annotations

from lake.ledger.payloads import MAX_VALUE_BYTES

_KEY = "topic = {row}.topic AND generation = {row}.generation AND source_table = {row}.source_table"


def _change(row: str, sign: str) -> str:
    """The statement that counts a row in or out."""
    return (
        f"UPDATE dead_letter_counts SET total = total {sign} 1,"
        f" dead = dead {sign} ({row}.state = 'dead'),"
        f" dropped = dropped {sign} ({row}.state = 'dropped'),"
        f" dead_bytes = dead_bytes {sign}"
        f" ({row}.state = 'dead') * min({row}.value_bytes, {MAX_VALUE_BYTES})"
        f" WHERE {_KEY.format(row=row)};"
    )


# No upsert: within a trigger, the conflict clause of the outer statement would decide.
_COUNT_IN = (
    "INSERT INTO dead_letter_counts SELECT new.topic, new.generation, new.source_table, 0, 0, 0, 0"
    " WHERE NOT EXISTS (SELECT 1 FROM dead_letter_counts"
    f" WHERE {_KEY.format(row='new')}); {_change('new', '+')}"
)
_COUNT_OUT = (
    f"{_change('old', '-')} DELETE FROM dead_letter_counts WHERE total = 0"
    f" AND {_KEY.format(row='old')};"
)
FROM_7_TO_8 = f"""
CREATE TABLE dead_letter_counts (
    topic TEXT NOT NULL, generation INTEGER NOT NULL, source_table TEXT NOT NULL,
    total INTEGER NOT NULL, dead INTEGER NOT NULL, dropped INTEGER NOT NULL,
    dead_bytes INTEGER NOT NULL, PRIMARY KEY (topic, generation, source_table)
) STRICT, WITHOUT ROWID;
INSERT INTO dead_letter_counts SELECT topic, generation, source_table, count(*),
    sum(state = 'dead'), sum(state = 'dropped'),
    sum((state = 'dead') * min(value_bytes, {MAX_VALUE_BYTES}))
    FROM dead_letters GROUP BY topic, generation, source_table;
CREATE INDEX dead_letters_by_time ON dead_letters (source_table, topic, generation, kafka_ts);
CREATE TRIGGER dead_letter_added AFTER INSERT ON dead_letters BEGIN {_COUNT_IN} END;
CREATE TRIGGER dead_letter_removed AFTER DELETE ON dead_letters BEGIN {_COUNT_OUT} END;
CREATE TRIGGER dead_letter_changed AFTER UPDATE ON dead_letters
    BEGIN {_COUNT_OUT} {_COUNT_IN} END;
"""
