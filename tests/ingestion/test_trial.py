"""A trial counts as the layers do, and says of times, rates and partitions what a slow look at the same records says."""

from __future__ import annotations

import json
from dataclasses import dataclass, make_dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import groupby
from typing import Annotated, Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.commands.shortened import shorten
from ingestion.sample import PartitionSample, Sample
from ingestion.trial import Trial, trial
from pipeline import At, Between, Count, Derived, Epoch, Precision, Scale, Source, Sum, View, tumbling
from pipeline.log.log import RAW_SCHEMA, Block

NOW = datetime(2024, 3, 2, tzinfo=UTC)
START_MS = 1_709_287_200_000  # 2024-03-01T10:00:00Z


@dataclass(frozen=True)
class Click:
    """A click."""

    id: str
    page: str
    at: datetime
    size: Annotated[int | None, Between(0, 100)]


clicks = Source(topic="clicks", record=Click, key="page", event_time="at", identity="id")
by_page = View(
    name="by_page",
    source=clicks,
    key=("page",),
    window=tumbling(hours=1),
    derive={"share": Derived(pc.scalar(1.0) / pc.field("size"), Scale(2))},
    aggregates={"clicks": Count(), "share": Sum("share")},
)
Row = tuple[int, int, Any]  # (partition, timestamp_ms, event or bytes)


def sample_of(rows: list[Row], cuts: int = 1) -> Sample:
    """The rows in their order, each partition in blocks of `cuts` records."""
    parts = []
    for p in range(max((p for p, _, _ in rows), default=0) + 1):
        mine = [
            (t, e if isinstance(e, bytes) else None if e is None else json.dumps(e).encode())
            for q, t, e in rows
            if q == p
        ]
        blocks = []
        for first in range(0, len(mine), cuts):
            part = mine[first : first + cuts]
            arrays = [
                pa.array(range(first, first + len(part)), pa.int64()),
                pa.array([t for t, _ in part], pa.int64()),
                pa.nulls(len(part), pa.binary()),
                pa.array([e for _, e in part], pa.binary()),
                pa.array([[]] * len(part), RAW_SCHEMA.field("headers").type),
            ]
            blocks.append(Block(pa.RecordBatch.from_arrays(arrays, schema=RAW_SCHEMA), first, first + len(part)))
        parts.append(PartitionSample(p, tuple(blocks), 0, len(mine)))
    return Sample("clicks", False, tuple(parts))


def click(id: str, page: str = "home", at_ms: int = START_MS, size: Any = 1) -> dict[str, Any]:
    return {"id": id, "page": page, "at": at_ms, "size": size}


def tried(rows: list[Row], cuts: int = 3) -> Trial:
    return trial(clicks, (by_page,), sample_of(rows, cuts), NOW)


def test_every_record_is_counted_once_and_each_reason_has_its_first_record() -> None:
    found = tried(
        [
            (0, START_MS, click("a")),
            (0, START_MS, click("a")),
            (0, START_MS, b"{"),
            (1, START_MS, None),
            (1, START_MS, click("b", size=1000)),
            (1, START_MS, click("c", size="x")),
            (1, START_MS, click("d", size="y")),
            (1, START_MS, click("e", size=0)),
        ]
    )
    c = found.counts
    assert (c.accepted, c.duplicates, c.rejected, c.tombstones) == (2, 1, 4, 1)
    told = {(r.count, r.reason, r.partition, r.offset) for r in found.rejected}
    assert (2, "size: text where an int is declared", 1, 2) in told and (
        1,
        "size: breaks Between(low=0, high=100)",
        1,
        1,
    ) in told
    assert sum(r.count for r in found.rejected) == 4
    (view,) = found.views
    assert (view.counts.folded, view.counts.rejected, view.groups) == (1, 1, 1)
    assert (view.rejected[0].partition, view.rejected[0].offset) == (1, 4) and b'"e"' in (view.rejected[0].value or b"")


def test_columns_have_their_nulls_and_their_edges() -> None:
    found = tried([(0, START_MS, click(f"i{n}", page=f"p{n % 2}", size=None if n == 3 else n + 1)) for n in range(5)])
    assert [(c.name, c.nulls, c.distinct, c.least, c.greatest) for c in found.columns[:2]] == [
        ("id", 0, 5, "i0", "i4"),
        ("page", 0, 2, "p0", "p1"),
    ]
    size = found.columns[3]
    assert (size.nulls, size.distinct, size.least, size.greatest) == (1, 4, 1, 5)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(-1, 10**6), st.integers(-(10**6), 10**6), st.integers(0, 5)),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 5),
)
def test_lateness_rates_and_partitions_are_those_of_a_slow_look(
    rows: list[tuple[int, int, int, int]], cuts: int
) -> None:
    given_rows: list[Row] = [
        (p, -1 if t < 0 else START_MS + t, click(f"i{n}", page=f"p{page}", at_ms=START_MS + at))
        for n, (p, t, at, page) in enumerate(rows)
    ]
    found = tried(given_rows, cuts)
    assert found.times is not None
    lateness = []
    for _, of in groupby(sorted(rows, key=lambda row: row[0]), key=lambda row: row[0]):
        greatest = -(10**9)
        for _, _, at, _ in of:
            greatest = max(greatest, at)
            lateness.append(greatest - at)
    late = [ms for ms in lateness if ms]
    assert (found.times.late, found.times.latest_s) == (len(late), max(lateness) / 1000)
    behind = [(t - at) / 1000 for _, t, at, _ in rows if t >= 0]
    if behind:
        assert found.times.behind_record_s is not None
        assert found.times.behind_record_s[::2] == pytest.approx((min(behind), max(behind)))
    else:
        assert found.times.behind_record_s is None
    pages: dict[int, set[int]] = {}
    for p, _, _, page in rows:
        pages.setdefault(page, set()).add(p)
    several = {page: sorted(of) for page, of in pages.items() if len(of) > 1}
    across = [a for a in found.across if not a.is_identity]
    assert [(a.values, a.of) for a in across] == ([(len(several), len(pages))] if several else [])
    for a in across:
        assert list(a.partitions) == several[int(a.example.removeprefix("p"))]
    assert not [a for a in found.across if a.is_identity]


def test_an_identity_in_two_partitions_is_named() -> None:
    found = tried([(0, START_MS, click("a")), (1, START_MS, click("a", page="other")), (1, START_MS, click("b"))])
    identity = found.across[0]
    assert (identity.column, identity.is_identity, identity.values, identity.of) == ("id", True, 1, 2)
    assert (identity.example, identity.partitions) == ("a", (0, 1))


def test_the_rate_is_that_of_the_newest_block() -> None:
    found = tried([(0, START_MS + 100 * n, click(f"i{n}")) for n in range(30)], cuts=11)
    assert found.rates == {0: pytest.approx(10.0)}
    assert tried([(0, -1, click("a")), (0, -1, click("b"))]).rates == {}


@pytest.mark.parametrize(
    ("unit", "sent", "hint"),
    [
        ("", START_MS // 1000, 'are these seconds? Epoch("s")'),
        ("us", START_MS, 'are these milliseconds? Epoch("ms")'),
        ("us", START_MS // 1000, 'are these seconds? Epoch("s")'),
        ("ns", START_MS * 1000, 'are these microseconds? Epoch("us")'),
        ("", START_MS, ""),
        ("", 1, ""),
    ],
)
def test_times_that_cannot_be_are_asked_for_their_unit(unit: str, sent: int, hint: str) -> None:
    at: Any = Annotated[datetime, Epoch(unit)] if unit else datetime
    record = dataclass(frozen=True)(
        type("Click", (), {"__annotations__": {"id": str, "at": at}, "__module__": __name__})
    )
    source = Source(topic="clicks", record=record, key="id", event_time="at", identity="id")
    view = View(name="all_clicks", source=source, key=("id",), window=tumbling(days=1), aggregates={"n": Count()})
    found = trial(source, (view,), sample_of([(0, START_MS, {"id": "a", "at": sent})]), NOW)
    assert found.times is not None and found.times.hint == hint
    assert found.times.implausible == (0 if sent == START_MS and not unit else 1)


def test_a_sample_that_is_rejected_whole_has_no_times() -> None:
    found = tried([(0, START_MS, b"{}")])
    assert found.times is None and found.across == [] and found.columns[0].distinct == 0


def test_of_an_exploded_record_the_record_is_counted_and_views_count_its_rows() -> None:
    record = make_dataclass(
        "Line", [("id", str), ("at", datetime), ("n", Annotated[int, At("items[].n")])], frozen=True
    )
    source = Source(topic="clicks", record=record, key="id", event_time="at", identity="id", explode="items")
    view = View(
        name="lines",
        source=source,
        key=("id",),
        window=tumbling(days=1),
        derive={"share": Derived(pc.scalar(1.0) / pc.field("n"), Scale(2))},
        aggregates={"share": Sum("share")},
    )
    event = {"id": "a", "at": START_MS, "items": [{"n": 0}, {"n": 1}, {"n": 0}]}
    found = trial(
        source,
        (view,),
        sample_of([(0, START_MS, event), (0, START_MS, {**event, "id": "b", "items": [{"n": "x"}]})]),
        NOW,
    )
    assert (found.counts.accepted, found.counts.rejected) == (1, 1)
    (lines,) = found.views
    assert (lines.counts.folded, lines.counts.rejected, lines.rejected[0].count, lines.rejected[0].offset) == (
        1,
        2,
        2,
        0,
    )


def test_every_type_that_a_column_may_have_is_summed_up_and_written_as_a_document() -> None:
    fields: list[tuple[str, Any]] = [
        ("id", UUID),
        ("at", datetime),
        ("wide", Annotated[Decimal, Precision(38, 18)]),
        ("data", bytes),
        ("clock", time),
        ("flag", bool),
        ("day", date),
    ]
    record = make_dataclass("All", fields, frozen=True)
    source = Source(topic="clicks", record=record, key="id", event_time="at", identity="id")
    view = View(name="all_types", source=source, key=("id",), window=tumbling(days=1), aggregates={"n": Count()})
    event = {"wide": "1.5", "data": "/wA=", "clock": "10:00:00", "flag": True, "day": "2024-03-01", "at": START_MS}
    rows: list[Row] = [(p, START_MS, {**event, "id": str(UUID(int=p))}) for p in range(2)]
    found = trial(source, (view,), sample_of(rows), NOW)
    assert (found.counts.accepted, found.rejected) == (2, [])
    assert [(c.nulls, c.distinct) for c in found.columns] == [(0, 2)] + [(0, 1)] * 6
    assert all(shorten(c.least, 19) for c in found.columns)
