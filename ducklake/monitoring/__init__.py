"""Read-only answers about the lake: the one source of every figure that a face shows."""
