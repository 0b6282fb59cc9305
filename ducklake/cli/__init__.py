"""The command line: `ducklake COMMAND`. It alone knows producers, consumers and batcher."""

from ducklake.cli.app import main

__all__ = ["main"]
