"""What a replay found in a table, and did about it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Comparison:
    """What a replay found, and did.

    Attributes:
        compared: Records read from Kafka.
        missing: Rows and dead letters that Kafka has and the lake had not.
        filled: Those that are in the lake now.
        differing: Places of rows with other values: (partition, offset).
        extra: Rows of the lake that Kafka does not have at offsets that it still holds.
        lost_files: Files that are missing or damaged, relative to the lake. The rows of one that
            Kafka no longer holds whole stay missing: it may be put back from a backup.
        repaired: Those that were written again.
        lost: Offsets that are in no file and gone from Kafka: (partition, first, last).
        checksum: Of all rows read from Kafka, as decoded now.
        lake_checksum: Of the lake's rows at the same offsets, before anything was filled.
    """

    table: str
    compared: int = 0
    missing: int = 0
    filled: int = 0
    differing: list[tuple[int, int]] = field(default_factory=list)
    extra: list[tuple[int, int]] = field(default_factory=list)
    lost_files: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    lost: list[tuple[int, int, int]] = field(default_factory=list)
    checksum: int = 0
    lake_checksum: int = 0

    @property
    def exact(self) -> bool:
        """Whether the lake now holds what Kafka holds."""
        return (
            self.missing == self.filled
            and len(self.lost_files) == len(self.repaired)
            and not self.differing
            and not self.extra
            and not self.lost
        )
