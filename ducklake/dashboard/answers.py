"""Answers that all open pages share: fifty readers of the same cost as much as one."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Generic, TypeVar

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse

KEPT = 64
"""Answers that are kept, the newest ones."""
ASKED_BY = ("accept-language", "cookie", "authorization")
"""Headers that a page depends on."""
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Draw = Callable[..., HTMLResponse]
Drawn = Callable[..., Awaitable[HTMLResponse]]


@dataclass(slots=True)
class _Kept(Generic[Value]):
    """An answer, and what it was made from; whoever makes it holds the mutex."""

    mutex: threading.Lock = field(default_factory=threading.Lock)
    state: object = None
    values: tuple[Value, ...] = ()

    def stands(self, state: object) -> bool:
        """Whether it was made, and from this."""
        return bool(self.values) and self.state == state


class SharedAnswers(Generic[Key, Value]):
    """Answers to questions, each made once for as long as what it is made from stays the same."""

    def __init__(self) -> None:
        self._known: dict[Key, _Kept[Value]] = {}
        self._mutex = threading.Lock()

    def get(self, key: Key, state: object, make: Callable[[], Value]) -> Value:
        """The answer to a question.

        Args:
            key: The question.
            state: What the answer is made from: it stands until this is another one.
            make: Makes it; whoever asks the same meanwhile waits for it.
        """
        with self._mutex:
            kept = self._known.pop(key, None) or _Kept()
            self._known[key] = kept
            while len(self._known) > KEPT:
                del self._known[next(iter(self._known))]
        with kept.mutex:
            if not kept.stands(state):
                kept.values, kept.state = (make(),), state
            return kept.values[0]

    def known(self, key: Key, state: object) -> Value | None:
        """The answer to a question, if it is there and still stands."""
        kept = self._known.get(key)
        if kept is None or kept.mutex.locked() or not kept.stands(state):
            return None
        return kept.values[0]


def drawn_once(shown: Callable[[], object]) -> Callable[[Draw], Drawn]:
    """For routes that draw the same for all who are signed in and speak the same language.

    Args:
        shown: What pages show now: as long as it is the same, nothing is drawn again.
    """
    drawings: SharedAnswers[tuple[str, ...], HTMLResponse] = SharedAnswers()

    def once(draw: Draw) -> Drawn:
        async def drawn(request: Request, **values: Any) -> HTMLResponse:
            asked = (request.headers.get(name, "") for name in ASKED_BY)
            key, state = (request.url.path, request.url.query, *asked), shown()
            found = drawings.known(key, state)
            if found is None:
                found = await run_in_threadpool(
                    drawings.get, key, state, lambda: draw(request, **values)
                )
            return HTMLResponse(found.body, headers=dict(found.headers))

        drawn.__signature__ = signature(draw, eval_str=True)  # type: ignore[attr-defined]
        return drawn

    return once
