"""OpenLineage events: from each table of a source to its table in PostgreSQL, to a file or a URL.

`recording` is what the parts of the lake call; `datasets` is where a dataset gets its name.
"""
