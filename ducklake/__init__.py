"""What producers, consumers and batcher share: configuration, errors, records and the lake."""

__version__ = "0.1.0"
