"""Another try, for what is worth one: how often, after how long, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ingestion.retrying import Retrier
from pipeline.base.errors import OriginAway, OriginError


class Failing:
    """A call that raises its errors, one after the other, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def away(retry_after_s: float = 0.0) -> OriginAway:
    made = OriginAway("the API answers 500")
    made.retry_after_s = retry_after_s
    return made


def retrier(waits: list[float], report: Callable[[str], None] = lambda text: None, **more: Any) -> Retrier:
    return Retrier(report, sleep=waits.append, **more)


def test_what_is_away_is_asked_again_and_each_try_is_counted_and_told() -> None:
    waits: list[float] = []
    said: list[str] = []
    again = retrier(waits, said.append)
    call = Failing(away(), away())
    assert again(call) == "answer" and call.calls == 3 and again.retries == 2
    assert [text.partition(" in ")[0] for text in said] == [
        "the API answers 500; attempt 2 of 6",
        "the API answers 500; attempt 3 of 6",
    ]
    assert again(Failing(away())) == "answer" and again.retries == 3


def test_the_last_try_gives_the_error_and_says_how_many_there_were() -> None:
    call = Failing(*(away() for _ in range(10)))
    with pytest.raises(OriginAway, match=r"^the API answers 500 \(tried 4 times\)$"):
        retrier([], attempts=4)(call)
    assert call.calls == 4


@pytest.mark.parametrize("error", [OriginError("wrong password"), ValueError("a bug")])
def test_nothing_else_is_tried_twice(error: Exception) -> None:
    call = Failing(error)
    with pytest.raises(type(error)) as raised:
        retrier([])(call)
    assert call.calls == 1 and "tried" not in str(raised.value)


def test_waits_grow_are_jittered_and_bounded() -> None:
    runs = []
    for _ in range(200):
        waits: list[float] = []
        retrier(waits, attempts=9, first_s=1.0, longest_s=20.0)(Failing(*(away() for _ in range(8))))
        runs.append(waits)
    bounds = [1, 2, 4, 8, 16, 20, 20, 20]
    for waits in zip(*runs, strict=True):
        bound = bounds.pop(0)
        assert 0 <= min(waits) < bound / 4 and bound * 3 / 4 < max(waits) <= bound


def test_a_server_that_says_how_long_is_left_alone_so_long_but_not_for_ever() -> None:
    waits: list[float] = []
    assert retrier(waits)(Failing(away(retry_after_s=120.0))) == "answer" and waits == [120.0]
    call = Failing(away(retry_after_s=7200.0))
    with pytest.raises(OriginAway):
        retrier(waits, patience_s=600.0)(call)
    assert call.calls == 1 and waits == [120.0]


def test_what_was_given_up_is_not_tried_again_around_it() -> None:
    calls = Failing(*(away() for _ in range(100)))
    inner, counted = retrier([], attempts=4, count=lambda: counts.append(1)), retrier([], attempts=4)
    counts: list[int] = []
    with pytest.raises(OriginAway, match=r"^the API answers 500 \(tried 4 times\)$"):
        counted(lambda: inner(calls))
    assert calls.calls == 4 and counted.retries == 0 and len(counts) == inner.retries == 3
