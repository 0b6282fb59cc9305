"""`type: dlt`: any source of the library dlt, its incremental state included."""
