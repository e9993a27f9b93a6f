"""Parts of the list of rejections and of the replay that need no server: the filter, and the record that is sent."""

from __future__ import annotations

from dataclasses import make_dataclass
from datetime import datetime
from typing import Annotated, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import RecordTime, Source
from pipeline.accept.accept import REJECTED_SCHEMA
from serving.rejected.listing import Wanted
from serving.rejected.originals import Original
from serving.rejected.replay import BATCH_RECORDS, Resend, _batches, _outgoing

ROWS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 5),
        st.integers(-1, 9),
        st.sampled_from([None, "v", "w"]),
        st.sampled_from(["One", "two"]),
    )
)
WANTED = st.builds(
    Wanted,
    reason=st.sampled_from(["", "ONE", "tw", "three", ".*"]),
    since_ms=st.none() | st.integers(0, 9),
    view=st.none() | st.just("v"),
    places=st.frozensets(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=3),
)


@given(ROWS, WANTED)
def test_the_filter_is_that_of_a_slow_look(rows: list[tuple[int, int, int, str | None, str]], wanted: Wanted) -> None:
    table = pa.Table.from_pylist(
        [{"partition": p, "offset": o, "timestamp_ms": t, "view": v, "reason": r} for p, o, t, v, r in rows],
        schema=REJECTED_SCHEMA,
    )
    expected = [
        (p, o, t, v, r)
        for p, o, t, v, r in rows
        if wanted.reason.lower() in r.lower()
        and (wanted.since_ms is None or t >= wanted.since_ms or t < 0)
        and (wanted.view is None or v == wanted.view)
        and (not wanted.places or (p, o) in wanted.places)
    ]
    found = wanted.mask(table).select(["partition", "offset", "timestamp_ms", "view", "reason"]).to_pylist()
    assert [tuple(row.values()) for row in found] == expected


@pytest.mark.parametrize(("hint", "stamp"), [(datetime, None), (Annotated[datetime, RecordTime()], 7)])
def test_a_copy_is_stamped_anew_unless_its_time_is_the_records(hint: Any, stamp: int | None) -> None:
    record = make_dataclass("Event", [("id", str), ("at", hint)], frozen=True)
    source = Source(topic="t", record=record, key="id", event_time="at", identity="id")
    sent = _outgoing(source, Original(3, 17, 7, b"k", b"v", (("trace", b"1"), ("watershed-replay-of", b"t/3/2"))))
    assert (sent.partition, sent.key, sent.value, sent.timestamp_ms) == (3, b"k", b"v", stamp)
    assert sent.headers == (("trace", b"1"), ("watershed-replay-of", b"t/3/2"), ("watershed-replay-of", b"t/3/17"))
    assert Original(3, 18, 7, b"k", b"v", sent.headers).origin == "t/3/17", "the last one is its own"


def test_batches_are_bounded_in_records_and_bytes() -> None:
    small = [Resend(Original(0, n, 0, None, b"x", ()), "why", False) for n in range(2 * BATCH_RECORDS + 1)]
    assert [len(batch) for batch in _batches(small)] == [BATCH_RECORDS, BATCH_RECORDS, 1]
    big = [Resend(Original(0, n, 0, None, b"x" * 9_000_000, ()), "why", False) for n in range(3)]
    assert [len(batch) for batch in _batches(big)] == [1, 1, 1]
    assert [r for batch in _batches(small) for r in batch] == small
