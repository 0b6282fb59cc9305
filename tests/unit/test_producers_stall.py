"""A reader that is behind and does not move is seen; one that moves or is idle is left alone."""

from __future__ import annotations

from producers.mysql.stall import STALL_SECONDS, StallWatch


def test_a_reader_that_is_behind_and_does_not_move_is_stalled() -> None:
    watch = StallWatch()
    assert not watch.look("a", True, 0.0)
    assert not watch.look("a", True, STALL_SECONDS - 1)
    assert watch.look("a", True, STALL_SECONDS)


def test_a_reader_that_moves_is_not_stalled() -> None:
    watch = StallWatch()
    for second in range(100):
        assert not watch.look(str(second), True, second * STALL_SECONDS)


def test_an_idle_reader_is_not_stalled_and_its_rest_does_not_count() -> None:
    watch = StallWatch()
    for second in range(100):
        assert not watch.look("a", False, second * STALL_SECONDS)
    assert not watch.look("a", True, 100 * STALL_SECONDS)
    assert not watch.look("a", True, 101 * STALL_SECONDS - 1)
