"""What notices of a MySQL source say, and the remedy that each names."""

from __future__ import annotations

STOPPED_KIND, REPLACED_KIND = "definition_unknown", "table_replaced"
CHANGED_KIND, FILLED_KIND, ADDED_KIND = "values_changed", "column_filled", "column_added"
READ_AGAIN_KINDS = frozenset({REPLACED_KIND, CHANGED_KIND, FILLED_KIND})
"""What a table is read again for by itself."""
NOTED_ONLY = frozenset({"statement_skipped", "statement_applied", ADDED_KIND})
_AGAIN = "`ducklake backfill {name}` reads the table again and clears this."
_BY_ITSELF = "With `drift: evolve` it is read again by itself. If this stays, " + _AGAIN
ANY_TABLE = (
    "`ducklake verify --against-source --repair` compares all tables, mends what differs and"
    " clears this."
)
TEXTS = {
    STOPPED_KIND: (
        "{rows} rows from {place} on were left out: the table's definition is not known since"
        " {statement}.",
        _AGAIN,
    ),
    "rows_partial": (
        "{rows} rows at {place} were left out: the session that changed them had a binlog_row_image"
        " other than FULL, and the binlog holds only some of their columns.",
        "Have that session use binlog_row_image=FULL, then " + _AGAIN,
    ),
    "rows_unreadable": (
        "Rows at {place} were left out: the binlog holds them in a form that Debezium does not"
        " read, such as parts of JSON documents (binlog_row_value_options=PARTIAL_JSON).",
        "Have the session that changed them use binlog_row_value_options='', then " + _AGAIN,
    ),
    "rows_not_in_binlog": (
        "Rows may differ from MySQL's since {place}: the binlog does not hold the rows that changed"
        " with {statement}.",
        _AGAIN,
    ),
    REPLACED_KIND: (
        "Rows may differ from MySQL's since {place}: another table took the name, with"
        " {statement}.",
        "It is read again by itself. If this stays, " + _AGAIN,
    ),
    "foreign_key": (
        "Rows may differ from MySQL's since {place}: a foreign key (ON DELETE or ON UPDATE) may"
        " have changed some, which the binlog does not tell.",
        _AGAIN,
    ),
    FILLED_KIND: (
        "Rows from before {place} lack a value that MySQL gave them there, with {statement}.",
        _BY_ITSELF,
    ),
    CHANGED_KIND: (
        "Rows from before {place} may differ from MySQL's, which changed values, names or the key"
        " there, with {statement}.",
        _BY_ITSELF,
    ),
    "rolled_back": (
        "Rows may differ from MySQL's since {place}: a distributed transaction was rolled back that"
        " had been prepared before the connector started.",
        _AGAIN,
    ),
}
OTHERWISE = ("Rows may differ from MySQL's since {place}.", _AGAIN)
