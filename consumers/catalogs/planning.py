"""What a catalogue's table has to do so that it lists what the ledger lists: one step a commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from lake.ledger import LakeFile
from lake.ledger.sealed import SealedFiles, SealedPosition, Totals

FileKey = tuple[Path, int]
"""A file by its path and size: one that was written anew in its old place is another one."""


@dataclass(frozen=True, slots=True)
class Step:
    """One commit of a catalogue's table.

    Attributes:
        position: How far the table has come with it.
        added: Files that it lists from here on, in the ledger's order.
        removed: Files that it lists no more.
    """

    position: SealedPosition
    added: tuple[LakeFile, ...] = ()
    removed: tuple[FileKey, ...] = ()


def key_of(file: LakeFile) -> FileKey:
    """A file of the ledger as a catalogue knows it."""
    return file.path, file.bytes


def appended(sealed: SealedFiles, listed: Totals) -> list[Step] | None:
    """The steps where files have only been added: one for each compaction.

    Args:
        sealed: What there is after the table's position.
        listed: What the table lists.

    Returns:
        The steps; None where the table does not list what the ledger lists up to its position.
    """
    if sealed.known != listed:
        return None
    return _each(sealed.position, _compactions(sealed.new))


def compared(
    sealed: SealedFiles, listed: Iterable[FileKey], position: SealedPosition | None
) -> list[Step]:
    """The steps after a comparison of everything.

    What is removed goes in one commit with all that may hold its rows: the files of a date that was
    rewritten, or of a generation that was rebuilt. Later compactions follow, one by one.

    Args:
        sealed: All public files of the ledger.
        listed: What the table lists.
        position: How far the table says that it has come.
    """
    there = {key_of(file) for file in sealed.new}
    had = set(listed)
    removed = tuple(sorted(had - there))
    missing = [file for file in sealed.new if key_of(file) not in had]
    groups = _compactions(missing)
    if position is None and not had:
        return _each(sealed.position, groups)
    first = _until(sealed, position, removed, groups)
    together = tuple(file for group in groups[:first] for file in group)
    rest = groups[first:]
    at = replace(sealed.position, file_id=rest[0][0].file_id - 1) if rest else sealed.position
    steps = [Step(at, together, removed)] if together or removed or at != position else []
    return steps + _each(sealed.position, rest)


def _until(
    sealed: SealedFiles,
    position: SealedPosition | None,
    removed: Sequence[FileKey],
    groups: Sequence[Sequence[LakeFile]],
) -> int:
    """How many of the compactions go in one commit with what is removed."""
    if position is None or not position.is_comparable(sealed.position):
        return len(groups)
    days = {path.parent for path, _ in removed}
    together = 0
    for number, group in enumerate(groups, 1):
        known = any(file.file_id <= position.file_id for file in group)
        if known or any(file.path.parent in days for file in group):
            together = number
    return together


def _compactions(files: Iterable[LakeFile]) -> list[tuple[LakeFile, ...]]:
    """Files by the transaction that made them public: all of one have the same moment."""
    return [tuple(group) for _, group in groupby(files, lambda file: file.created_at)]


def _each(last: SealedPosition, groups: Iterable[Sequence[LakeFile]]) -> list[Step]:
    return [Step(replace(last, file_id=group[-1].file_id), tuple(group)) for group in groups]
