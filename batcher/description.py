"""What a dbt project says of a model, besides its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model's key and its documentation.

    Attributes:
        primary_key: The columns of `meta.primary_key`; empty where the model names none.
        text: What it is; empty where nobody says.
        columns: What each described column is, by its name.
    """

    primary_key: tuple[str, ...] = ()
    text: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Differs whenever anything of it does."""
        text = repr((self.primary_key, self.text, sorted(self.columns.items())))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def of_node(cls, node: Any) -> ModelDescription:
        """From a node of dbt's manifest."""
        key = node.config.meta.get("primary_key", ())
        return cls(
            (key,) if isinstance(key, str) else tuple(str(column) for column in key),
            str(node.description or "").strip(),
            {
                str(name): str(column.description).strip()
                for name, column in node.columns.items()
                if str(column.description or "").strip()
            },
        )


NOT_DESCRIBED = ModelDescription()
