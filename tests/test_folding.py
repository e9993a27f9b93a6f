"""Folding in rounds: a window's date is written when nothing that follows can reach it, and memory holds a round."""

from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
from hypothesis import given, settings

from pipeline import Count, View, tumbling
from pipeline.lake import File
from tasks import folding
from tasks.cleaning import DATE
from tasks.folding import _chunks, last_date
from tests.simulated import sales

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_S = 86_400
SECONDS = st.sampled_from((1, 60, 3600, 7 * 3600, DAY_S - 1, DAY_S, DAY_S + 1, 36 * 3600, 7 * DAY_S)) | st.integers(1, 366 * DAY_S)


@settings(max_examples=1000, deadline=None, database=None)
@given(size_s=SECONDS, second=st.integers(0, 4_000_000_000))
def test_no_event_of_a_window_is_behind_the_last_date_of_the_windows_date(size_s: int, second: int) -> None:
    view = View(name="v", source=sales, key=("shop",), window=tumbling(seconds=size_s), aggregates={"n": Count()})
    starts = (EPOCH + timedelta(seconds=second - second % size_s)).date()
    assert str((EPOCH + timedelta(seconds=second)).date()) <= last_date(view, str(starts))


def test_the_last_date_there_is_has_none_behind_it() -> None:
    view = View(name="v", source=sales, key=("shop",), window=tumbling(days=7), aggregates={"n": Count()})
    assert last_date(view, "9999-12-30") == "9999-12-31"


def test_windows_that_fit_a_day_are_written_with_their_day() -> None:
    for hours in (1, 2, 6, 24):
        view = View(name="v", source=sales, key=("shop",), window=tumbling(hours=hours), aggregates={"n": Count()})
        assert last_date(view, "2013-01-01") == "2013-01-01"


@settings(max_examples=300, deadline=None, database=None)
@given(
    files=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 400_000)), max_size=30),
    most=st.sampled_from((1, 100_000, 250_000)),
)
def test_every_file_is_in_one_chunk_and_no_later_chunk_begins_earlier(files: list[tuple[int, int, int]], most: int) -> None:
    named = sorted(
        ((p, File(f"{n}", rows, {DATE: f"2013-01-0{day}"})) for n, (p, day, rows) in enumerate(files)), key=lambda of: of[1].partition[DATE]
    )
    before, folding.CHUNK_ROWS = folding.CHUNK_ROWS, most
    try:
        chunks = _chunks(named)
    finally:
        folding.CHUNK_ROWS = before
    assert sorted((p, f.path) for p, of in chunks for f in of) == sorted((p, f.path) for p, f in named)
    for n, (_, of) in enumerate(chunks):
        dates = [f.partition[DATE] for _, later in chunks[n:] for f in later]
        assert of[0].partition[DATE] == min(dates)
        assert sum(f.rows for f in of[:-1]) < most
