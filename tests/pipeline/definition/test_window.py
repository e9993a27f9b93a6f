"""Windows: every kind that a view may have keeps the laws of panes, a night's dates follow from it, and it is a value.

start(pane(t)) <= t < start(pane(t) + 1)      s <= t  =>  pane(s) <= pane(t)      date(t) <= last_date(date(start(pane(t))))
"""

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings

from pipeline import Count, View, tumbling
from pipeline.base.errors import DefinitionError
from pipeline.base.types import TIME_MAX, TIME_MIN
from pipeline.definition.window import WINDOWS, Tumbling, Window
from tests.support.simulated import sales

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
US = timedelta(microseconds=1)
FIRST, LAST = (TIME_MIN - EPOCH) // US, (TIME_MAX - EPOCH) // US
DAY_S = 86_400
NEAR_A_DAY = (DAY_S - 1, DAY_S, DAY_S + 1, 36 * 3600, 7 * DAY_S)
SECONDS = st.sampled_from((1, 60, 3600, 7 * 3600, *NEAR_A_DAY)) | st.integers(1, 366 * DAY_S)
TIMES = st.lists(st.integers(FIRST, LAST) | st.sampled_from((FIRST, -1, 0, 1, LAST)), min_size=1, max_size=20)
KINDS: dict[type, st.SearchStrategy[Window]] = {Tumbling: SECONDS.map(lambda s: tumbling(seconds=s))}
EVERY_KIND = pytest.mark.parametrize("kind", WINDOWS, ids=lambda kind: kind.__name__)


def test_every_kind_of_window_is_held_to_the_laws() -> None:
    assert set(KINDS) == set(WINDOWS)


@EVERY_KIND
def test_a_pane_begins_at_or_before_its_events_and_ends_behind_them(kind: type) -> None:
    @settings(max_examples=1000, deadline=None, database=None)
    @given(KINDS[kind], TIMES)
    def holds(window: Window, drawn: list[int]) -> None:
        times = np.sort(np.array(drawn, np.int64))
        panes = window.pane(times)
        assert panes.dtype == window.start(panes).dtype == np.int64
        assert (window.start(panes) <= times).all() and (times < window.start(panes + 1)).all()
        assert (np.diff(panes) >= 0).all()
        assert window.pane(window.start(panes)).tolist() == panes.tolist()

    holds()


@EVERY_KIND
def test_no_event_of_a_pane_is_behind_the_last_date_of_the_panes_date(kind: type) -> None:
    @settings(max_examples=1000, deadline=None, database=None)
    @given(KINDS[kind], st.integers(FIRST, LAST))
    @example(tumbling(days=7), LAST)
    def holds(window: Window, time: int) -> None:
        start = int(window.start(window.pane(np.array([time], np.int64)))[0])
        day = str((EPOCH + start * US).date())
        assert str((EPOCH + time * US).date()) <= window.last_date(day) <= "9999-12-31"

    holds()


@EVERY_KIND
def test_a_window_is_a_value_that_a_pickle_keeps_and_its_canonical_form_tells_apart(kind: type) -> None:
    @settings(max_examples=100, deadline=None, database=None)
    @given(KINDS[kind], KINDS[kind])
    def holds(one: Any, other: Any) -> None:
        copy = pickle.loads(pickle.dumps(one))
        assert (copy, hash(copy), copy.canonical()) == (one, hash(one), one.canonical())
        assert (one == other) is (one.canonical() == other.canonical())

    holds()


def test_the_canonical_form_of_a_tumbling_window_is_what_it_has_always_been() -> None:
    assert tumbling(hours=1).canonical() == "window_us 3600000000"


def test_the_last_date_there_is_has_none_behind_it() -> None:
    assert tumbling(days=7).last_date("9999-12-30") == "9999-12-31"


def test_windows_that_fit_a_day_are_written_with_their_day() -> None:
    for hours in (1, 2, 6, 24):
        assert tumbling(hours=hours).last_date("2013-01-01") == "2013-01-01"


def test_a_window_of_ones_own_is_refused_for_the_reference_does_not_know_it() -> None:
    class Own:
        pane = start = last_date = canonical = Tumbling.canonical

    window: Any = Own()
    with pytest.raises(DefinitionError, match=r"window=.*; allowed is tumbling\(hours=1\)"):
        View(name="v", source=sales, key=("shop",), window=window, aggregates={"n": Count()})
