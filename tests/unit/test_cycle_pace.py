"""When cycles start: what is new does not wait for what fails."""

from __future__ import annotations

import itertools

from batcher.pace import MOST_SECONDS, Pace


def test_two_starts_are_an_interval_apart() -> None:
    pace = Pace(5.0)
    assert pace.may_start(0.0) and pace.is_new(7)
    pace.begins(0.0)
    pace.ended(7, True, 1.0)
    assert not pace.may_start(4.9) and pace.may_start(5.0)
    assert not pace.is_new(7) and pace.is_new(8)


def test_what_was_not_exported_is_tried_less_and_less_often_and_holds_nothing_up() -> None:
    pace = Pace(1.0)
    now = 0.0
    tries: list[float] = []
    while now < 300:
        if pace.may_retry(now) or not tries:
            tries.append(now)
            pace.begins(now)
            pace.ended(7, False, now)
        now += 0.1
        assert pace.is_new(8)
    assert pace.may_start(now)
    pauses = [after - before for before, after in itertools.pairwise(tries)]
    assert len(tries) < 20 and pauses[0] < 2 < pauses[-1] <= MOST_SECONDS + 0.2
    pace.ended(8, True, now)
    assert not pace.may_retry(now + 1000)


def test_a_cycle_that_fails_is_tried_again_after_a_longer_pause_each_time() -> None:
    pace = Pace(1.0)
    pauses = []
    for _ in range(8):
        pace.begins(0.0)
        pace.failed(0.0)
        assert pace.is_new(7)
        pauses.append(next(n for n in range(1, 400) if pace.may_start(n / 10)) / 10)
    assert pauses[0] < 2 and pauses[-1] > 20
    pace.ended(7, True, 0.0)
    pace.failed(0.0)
    assert pace.may_start(1.3)


def test_an_export_that_is_tried_again_shows_no_newer_commit() -> None:
    pace = Pace(1.0)
    pace.ended(7, False, 0.0)
    pace.retried(True, 100.0)
    assert not pace.may_retry(1000.0)
    assert pace.is_new(8) and not pace.is_new(7)
