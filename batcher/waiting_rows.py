"""At which hops a table's new rows wait, because something that reads them is held back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

STAGING, CONSUME, POSTGRES = "staging", "consume", "postgres"
_FOLLOWS = "depends on "
"""How the reason begins of a model that only waits for another one."""


def waiting_rows(
    parents: Mapping[str, Sequence[str]],
    held_back: Mapping[str, str],
    not_exported: Mapping[str, str],
) -> dict[str, dict[str, str]]:
    """Where new rows of each raw relation wait.

    Args:
        parents: Relation of each model to the relations that it reads.
        held_back: Relation to the reason why its last good state stays published.
        not_exported: Relation to the reason why PostgreSQL keeps its last state.

    Returns:
        Raw relation to hop to the reason; what is not named has everything that was built.
    """
    found: dict[str, dict[str, str]] = {}
    # What waits for another one says less than that one.
    held = sorted(held_back.items(), key=lambda item: (item[1].startswith(_FOLLOWS), item))
    for relation, reason in held:
        # What reads it shows no newer rows either, whether or not it was to be built.
        behind = [relation, *(m for m in parents if relation in upstream(parents, m))]
        reached = {STAGING if m.startswith(f"{STAGING}.") else CONSUME for m in behind}
        for source in sources(parents, relation):
            hops = found.setdefault(source, {})
            for hop in (*reached, POSTGRES):
                hops.setdefault(hop, f"{relation} is held back: {reason}")
    for relation, reason in sorted(not_exported.items()):
        for source in sources(parents, relation):
            found.setdefault(source, {}).setdefault(POSTGRES, reason)
    return found


def sources(parents: Mapping[str, Sequence[str]], relation: str) -> frozenset[str]:
    """The raw relations from which a relation comes; a raw one comes from itself."""
    found = {relation, *upstream(parents, relation)}
    return frozenset(name for name in found if name.startswith("raw."))


def upstream(parents: Mapping[str, Sequence[str]], relation: str) -> frozenset[str]:
    """Everything from which a relation comes."""
    found: set[str] = set()
    pending = list(parents.get(relation, ()))
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += parents.get(name, ())
    return frozenset(found)
