"""Deduplication equals its rule by brute force, over any log, any cut into blocks and any snapshot.

duplicate(o)  <=>  some valid o' < o has the same identity and T(o) - T(o') <= horizon
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings

from pipeline import Count, Source, View, tumbling
from pipeline.accept.accept import Ingest
from pipeline.accept.dedupe import Identities, IdentitySnapshot
from pipeline.base.types import ColumnType
from pipeline.columns.hashing import hash_rows
from pipeline.log.log import RAW_SCHEMA, Block

HOUR_MS = 3_600_000
INT = ColumnType("int")


@dataclass(frozen=True)
class Record:
    """One record of a made-up log: its timestamp, its identity, and whether it is valid (only valid records register)."""

    timestamp_ms: int
    identity: int
    valid: bool = True


def log_times(log: list[Record]) -> list[int]:
    """T of each record, 0 while none had a timestamp."""
    running, now = [], None
    for record in log:
        if record.timestamp_ms != -1:
            at = record.timestamp_ms
            now = at if now is None else max(now, min(at, now + HOUR_MS))
        running.append(now or 0)
    return running


def by_the_rule(log: list[Record], horizon_ms: int) -> list[bool]:
    """The definition, word for word: every pair of records is looked at."""
    running = log_times(log)
    return [
        any(
            earlier.valid and earlier.identity == later.identity and running[j] - running[i] <= horizon_ms
            for i, earlier in enumerate(log[:j])
        )
        for j, later in enumerate(log)
        if later.valid
    ]


def feed(memory: Identities, block: list[Record]) -> list[bool]:
    """One block as Ingest feeds it: all records move T, the valid ones are marked."""
    times = memory.advance(np.array([r.timestamp_ms for r in block], np.int64))
    valid = np.array([r.valid for r in block], np.bool_)
    ids = np.array([r.identity for r in block if r.valid], np.int64)
    return memory.mark(hash_rows([(pa.array(ids), INT)]), times[valid]).tolist()


def restored(memory: Identities, position: int) -> Identities:
    return Identities(memory.horizon_ms, memory.snapshot(position))


FUTURE = (HOUR_MS + 10, HOUR_MS + 11, 3 * HOUR_MS, 2**62)  # a clock that is wrong, and what comes after a pause
TIMES = st.sampled_from((-1, 0, 1, 5, 9, 10, 11, 20, 21, 100, *FUTURE)) | st.integers(-1, 40)
RECORDS = st.builds(Record, TIMES, st.integers(0, 5), st.sampled_from((True, True, True, False)))
LOGS = st.lists(RECORDS, max_size=40)
HORIZONS = st.sampled_from((0, 1, 10, 11, 1000))
quick = settings(max_examples=200, deadline=None, database=None)


@quick
@given(log=LOGS, horizon=HORIZONS, cuts=st.lists(st.integers(0, 40), max_size=6), restores=st.sets(st.integers(0, 6)))
# T does not fall with the 50
@example(log=[Record(0, 1), Record(100, 2), Record(50, 1)], horizon=10, cuts=[], restores=set())
@example(log=[Record(-1, 1), Record(-1, 1)], horizon=0, cuts=[1], restores={0})
# A chain
@example(log=[Record(0, 1), Record(10, 1), Record(20, 1), Record(31, 1)], horizon=10, cuts=[], restores=set())
# An invalid one moves T
@example(log=[Record(0, 1), Record(500, 9, False), Record(5, 1)], horizon=10, cuts=[2], restores={0})
def test_any_cut_into_blocks_and_any_restore_gives_the_rule(
    log: list[Record], horizon: int, cuts: list[int], restores: set[int]
) -> None:
    memory, found = Identities(horizon), []
    ends = sorted({0, len(log), *(c for c in cuts if c < len(log))})
    for number, (start, end) in enumerate(pairwise(ends)):
        found += feed(memory, log[start:end])
        if number in restores:
            memory = restored(memory, end)
    assert found == by_the_rule(log, horizon)


@quick
@given(log=LOGS, horizon=HORIZONS, cut=st.integers(0, 40))
def test_equal_memories_give_equal_snapshots_however_they_came_about(log: list[Record], horizon: int, cut: int) -> None:
    at_once, one_by_one, resumed = Identities(horizon), Identities(horizon), Identities(horizon)
    feed(at_once, log)
    for record in log:
        feed(one_by_one, [record])
    feed(resumed, log[:cut])
    resumed = restored(resumed, cut)
    feed(resumed, log[cut:])
    want = at_once.snapshot(len(log))
    for memory in (one_by_one, resumed, restored(at_once, len(log))):
        same_snapshot(memory.snapshot(len(log)), want)


# The table grows, and drops what is old
SPREAD = st.lists(st.builds(Record, TIMES, st.integers(0, 60), st.just(True)), max_size=80)


@quick
@given(log=st.one_of(LOGS, SPREAD), horizon=HORIZONS, ends=st.tuples(*[st.integers(0, 80)] * 3), again=st.booleans())
@example(
    log=[Record(0, 0), *(Record(11, i) for i in range(1, 20)), Record(5, 0)], horizon=10, ends=(1, 10, 20), again=True
)
def test_what_is_undone_leaves_the_memory_as_it_was(
    log: list[Record], horizon: int, ends: tuple[int, ...], again: bool
) -> None:
    kept, first, second = sorted(ends)
    memory, plain = Identities(horizon), Identities(horizon)
    feed(memory, log[:kept])
    feed(plain, log[:kept])
    memory.keep()
    for _ in range(2 if again else 1):
        feed(memory, log[kept:first])
        feed(memory, log[first:second])
        memory.undo()
        same_snapshot(memory.snapshot(kept), plain.snapshot(kept))
    assert feed(memory, log[kept:]) == feed(plain, log[kept:])
    same_snapshot(memory.snapshot(len(log)), plain.snapshot(len(log)))


def same_snapshot(got: IdentitySnapshot, want: IdentitySnapshot) -> None:
    assert (got.position, got.watermark_ms) == (want.position, want.watermark_ms)
    assert np.array_equal(got.hashes, want.hashes)
    assert np.array_equal(got.seen_ms, want.seen_ms)


@quick
@given(log=LOGS, horizon=HORIZONS)
def test_a_snapshot_holds_exactly_what_can_still_match(log: list[Record], horizon: int) -> None:
    memory = Identities(horizon)
    feed(memory, log)
    watermark = max([-1, *log_times(log)]) if any(r.timestamp_ms >= 0 for r in log) else -1
    latest = {record.identity: at for record, at in zip(log, log_times(log), strict=True) if record.valid}
    want = {identity: at for identity, at in latest.items() if watermark - at <= horizon}
    hashes = hash_rows([(pa.array(list(want), pa.int64()), INT)])
    got = memory.snapshot(len(log))
    assert got.watermark_ms == watermark
    assert {h.tobytes(): int(t) for h, t in zip(got.hashes, got.seen_ms, strict=True)} == {
        h.tobytes(): t for h, t in zip(hashes, want.values(), strict=True)
    }


def long_log(records: int, seed: int) -> tuple[list[Record], int]:
    """A log that is longer than its horizon many times over, with late, missing and repeated timestamps."""
    random = np.random.default_rng(seed)
    horizon = 400
    clock = np.cumsum(random.integers(0, 4, records))
    late = np.where(random.random(records) < 0.1, random.integers(0, 900, records), 0)
    stamps = np.where(random.random(records) < 0.05, -1, np.maximum(clock - late, 0))
    reused = np.where(random.random(records) < 0.3, random.integers(1, 600, records), 0)
    ids = np.arange(records) - np.minimum(reused, np.arange(records))
    return [
        Record(int(t), int(i), bool(v)) for t, i, v in zip(stamps, ids, random.random(records) > 0.05, strict=True)
    ], horizon


@pytest.mark.parametrize("size", [1, 7, 64, 5000])
def test_eviction_never_changes_an_answer_and_keeps_memory_bounded(size: int) -> None:
    log, horizon = long_log(5000, seed=size)
    memory, found, largest = Identities(horizon), [], 0
    for start in range(0, len(log), size):
        found += feed(memory, log[start : start + size])
        largest = max(largest, len(memory))
    assert found == by_a_dict(log, horizon)
    assert sum(found) > 100
    if size < 5000:
        assert largest < 1500, "entries beyond the horizon were never dropped"


def by_a_dict(log: list[Record], horizon: int) -> list[bool]:
    """The rule in one pass: as T never falls, the latest valid record of an identity decides."""
    latest, found = dict[int, int](), []
    for record, watermark in zip(log, log_times(log), strict=True):
        if record.valid:
            found.append(record.identity in latest and watermark - latest[record.identity] <= horizon)
            latest[record.identity] = watermark
    return found


def test_one_record_from_the_future_makes_nothing_forgotten_and_lets_what_is_old_expire() -> None:
    week = 7 * 24 * HOUR_MS
    now = 1_700_000_000_000
    log = [
        Record(now, 1),
        Record(now + 100 * 365 * 24 * HOUR_MS, 2, False),
        Record(now + 1, 1),
        Record(now + HOUR_MS, 2),
    ]
    # Hours later it has caught up with the clock again, and a week after that the first one is no duplicate any more
    log += [Record(now + hour * HOUR_MS, 3) for hour in range(2, 24 * 8 + 2)] + [Record(now + week + 24 * HOUR_MS, 1)]
    memory = Identities(week)
    found = feed(memory, log)
    assert found == by_the_rule(log, week)
    assert found[1] and not found[2] and not found[-1]
    assert memory.watermark_ms <= now + week + 25 * HOUR_MS + 1


def test_one_pass_over_a_dict_is_the_rule() -> None:
    log, horizon = long_log(600, seed=3)
    assert by_a_dict(log, horizon) == by_the_rule(log, horizon)


def test_a_snapshot_is_sorted_and_restores_at_any_size() -> None:
    log, horizon = long_log(3000, seed=9)
    memory = Identities(horizon)
    feed(memory, log)
    snapshot = memory.snapshot(3000)
    pairs = [tuple(h) for h in snapshot.hashes.tolist()]
    assert pairs == sorted(pairs)
    assert len(set(pairs)) == len(pairs) > 100
    assert len(Identities(horizon, snapshot)) == len(pairs)


@pytest.mark.parametrize(("later", "duplicate"), [(10, True), (11, False)])
def test_what_lies_exactly_at_the_horizon_outlives_the_growth_of_the_table(later: int, duplicate: bool) -> None:
    memory = Identities(10)
    assert feed(memory, [Record(0, -1)]) == [False]
    block = [Record(later, i) for i in range(1000)] + [Record(later, -1)]
    assert feed(memory, block) == [False] * 1000 + [duplicate]


def test_the_horizon_is_closed() -> None:
    memory = Identities(10)
    assert feed(memory, [Record(0, 1), Record(10, 1), Record(21, 1), Record(31, 2)]) == [False, True, False, False]


def test_a_duplicate_of_a_duplicate_is_one_even_when_the_first_is_long_gone() -> None:
    chain = [Record(at, 1) for at in range(0, 1000, 10)]
    assert feed(Identities(10), chain) == [False] + [True] * 99


# --- through Ingest: only valid records register, and rejected ones may be sent again ------------------------------------


@dataclass(frozen=True)
class Event:
    id: str
    station: str
    at: datetime


SOURCE = Source(
    topic="t", record=Event, key="station", event_time="at", identity="id", identity_horizon=timedelta(milliseconds=100)
)


def raw(rows: list[tuple[int, bytes | None]], start: int = 0) -> Block:
    """A block of (timestamp, value), at offsets from `start` with a gap behind each (as transactions leave them)."""
    offsets = [start + 2 * i for i in range(len(rows))]
    columns = [offsets, [t for t, _ in rows], [None] * len(rows), [v for _, v in rows], [[]] * len(rows)]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, RAW_SCHEMA, strict=True)]
    return Block(pa.RecordBatch.from_arrays(arrays, schema=RAW_SCHEMA), start, start + 2 * len(rows))


def event(identity: str, at: str = "2013-01-01T00:00:00Z") -> bytes:
    return f'{{"id": "{identity}", "station": "EWR", "at": "{at}"}}'.encode()


def test_a_rejected_record_registers_no_identity_and_a_tombstone_moves_t() -> None:
    rows = [
        (1000, event("a", "yesterday")),  # rejected
        (1000, event("a")),  # its mended form is accepted
        (1001, event("a")),  # a duplicate
        (1102, None),  # a tombstone moves T beyond the horizon
        (-1, event("a")),  # accepted: T - T(o') = 101
        (900, event("a")),  # a late timestamp does not turn T back: a duplicate
        (9000, b"{broken"),  # a rejected record moves T too
        (1102, event("a")),  # accepted
    ]
    got = Ingest(SOURCE, 3).feed(raw(rows))
    assert got.accepted.column("_offset").to_pylist() == [2, 8, 14]
    assert got.accepted.column("_partition").to_pylist() == [3, 3, 3]
    assert got.rejected.column("offset").to_pylist() == [0, 12]
    assert (got.counts.accepted, got.counts.duplicates, got.counts.rejected, got.counts.tombstones) == (3, 2, 2, 1)


VALUES = st.one_of(
    st.sampled_from([event(i) for i in "abcd"]),
    st.sampled_from([None, b"", b"{}", b"[1]", event("e", "2013-01-01"), event("a").replace(b"EWR", b"\\u0000")]),
)


@settings(max_examples=150, deadline=None, database=None)
@given(
    rows=st.lists(st.tuples(st.integers(-1, 400), VALUES), max_size=25),
    cuts=st.sets(st.integers(1, 24)),
    resume=st.booleans(),
)
def test_what_is_accepted_depends_on_the_log_alone_and_not_on_its_blocks(
    rows: list[tuple[int, bytes | None]], cuts: set[int], resume: bool
) -> None:
    whole = Ingest(SOURCE, 0).feed(raw(rows))
    ends = sorted({0, len(rows), *(c for c in cuts if c < len(rows))})
    ingest, parts = Ingest(SOURCE, 0), []
    for start, end in pairwise(ends):
        parts.append(ingest.feed(raw(rows[start:end], 2 * start)))
        if resume:
            ingest = Ingest(SOURCE, 0, ingest.identities.snapshot(2 * end))
    parts.append(ingest.feed(raw([], 2 * len(rows))))  # a range without records is normal
    for name in ("accepted", "rejected"):
        pieces = [getattr(p, name) for p in parts]
        assert pa.Table.from_batches(pieces).equals(pa.Table.from_batches([getattr(whole, name)]))
    total: Any = sum((p.counts for p in parts[1:]), parts[0].counts)
    assert total == whole.counts
    assert total.records == len(rows)
    assert total.duplicates == sum(by_the_rule([as_record(*row) for row in rows], 100))


def as_record(timestamp_ms: int, value: bytes | None) -> Record:
    """The record as the rule sees it; of the values above, events of one-letter identities with a time are valid."""
    valid = value in [event(i) for i in "abcd"]
    return Record(timestamp_ms, value[8] if valid and value else 0, valid)


@quick
@given(rows=st.lists(st.tuples(st.integers(-1, 400), VALUES), max_size=25))
def test_without_an_identity_nothing_is_a_duplicate_and_nothing_is_remembered(
    rows: list[tuple[int, bytes | None]],
) -> None:
    ingest = Ingest(replace(SOURCE, identity=None), 0)
    got, plain = ingest.feed(raw(rows)), Ingest(SOURCE, 0).feed(raw(rows))
    assert got.counts.duplicates == 0 and got.counts.accepted == plain.counts.accepted + plain.counts.duplicates
    assert (got.counts.rejected, got.counts.tombstones) == (plain.counts.rejected, plain.counts.tombstones)
    found = ingest.identities.snapshot(2 * len(rows))
    assert len(found.hashes) == 0 and found.watermark_ms == max([-1, *(at for at, _ in rows)])


def test_another_horizon_is_another_source_and_its_views_are_other_views() -> None:
    view = View(name="v", source=SOURCE, key=("station",), window=tumbling(hours=1), aggregates={"n": Count()})
    assert replace(view, source=replace(SOURCE, identity_horizon=timedelta(days=1))) != view


def test_a_snapshot_is_sorted_by_both_halves_of_its_hashes() -> None:
    hashes = np.array([[5, 2], [1, 9], [5, 1], [0, 3]], np.uint64)
    found = IdentitySnapshot(7, 8, hashes, np.arange(4)).in_order()
    assert (found.hashes.tolist(), found.seen_ms.tolist()) == ([[0, 3], [1, 9], [5, 1], [5, 2]], [3, 1, 2, 0])
