"""Answers that all open pages share: made once, and anew when what they are made from changes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ducklake.dashboard.answers import KEPT, SharedAnswers


def test_fifty_readers_of_the_same_cost_as_much_as_one() -> None:
    answers: SharedAnswers[str, int] = SharedAnswers()
    together, made = threading.Barrier(50), []

    def make() -> int:
        made.append(1)
        return 7

    def ask() -> int:
        together.wait(30)
        return answers.get("trust", "look", make)

    with ThreadPoolExecutor(50) as readers:
        found = [reader.result(30) for reader in [readers.submit(ask) for _ in range(50)]]
    assert found == [7] * 50 and len(made) == 1


def test_an_answer_is_made_anew_when_something_has_changed() -> None:
    answers: SharedAnswers[str, str] = SharedAnswers()
    assert answers.get("trust", 1, lambda: "old") == "old"
    assert answers.get("trust", 1, lambda: "new") == "old"
    assert answers.get("trust", 2, lambda: "new") == "new"
    assert answers.get("flow", 2, lambda: "other") == "other"


def test_what_cannot_be_answered_is_tried_again() -> None:
    answers: SharedAnswers[str, str] = SharedAnswers()

    def fail() -> str:
        raise ValueError("no ledger")

    with pytest.raises(ValueError):
        answers.get("tables", 1, fail)
    assert answers.get("tables", 1, lambda: "there") == "there"


def test_a_slow_answer_holds_up_nobody_who_asks_something_else() -> None:
    answers: SharedAnswers[str, str] = SharedAnswers()
    asked, go_on = threading.Event(), threading.Event()

    def slowly() -> str:
        asked.set()
        assert go_on.wait(30)
        return "sales"

    with ThreadPoolExecutor(1) as reader:
        slow = reader.submit(answers.get, "shop", 1, slowly)
        assert asked.wait(30)
        assert answers.get("trust", 1, lambda: "good") == "good"
        go_on.set()
        assert slow.result(30) == "sales"


def test_only_the_newest_answers_are_kept() -> None:
    answers: SharedAnswers[int, int] = SharedAnswers()
    for number in range(KEPT + 1):
        answers.get(number, 1, lambda number=number: number)  # type: ignore[misc]
    assert answers.get(0, 1, lambda: -1) == -1
    assert answers.get(KEPT, 1, lambda: -1) == KEPT
