"""`ducklake dashboard`: the page, and the REST API behind it."""
