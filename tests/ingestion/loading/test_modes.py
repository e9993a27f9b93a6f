"""Each way to the next version against the plain one: the same rows and the same counts, however the rows are cut into batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings

from ingestion.loading.buckets import ROOM, Room
from ingestion.loading.counts import LoadCounts, RejectedRow
from ingestion.loading.modes import schema_of
from ingestion.loading.next_version import NextVersion
from pipeline import Append, Full, Incremental, Merge, Scale, Snapshot, Table, Validity
from pipeline.base.errors import OriginError
from pipeline.fold.lookup import Version
from tests.ingestion.loading import plainly
from tests.ingestion.loading.plainly import COUNTED, Row
from tests.support.simulated import MadeUp

AT = datetime(2013, 1, 2, tzinfo=UTC)
quick = settings(max_examples=150, deadline=None, database=None)


@dataclass(frozen=True)
class Price:
    """One row, of the types in which equality is not what it seems."""

    shop: str
    item: int
    at: int
    price: float | None
    note: str | None
    gone: bool | None
    exact: Annotated[Decimal, Scale(2)] | None


KEY = ("shop", "item")
FLOATS = st.sampled_from((None, 0.0, -0.0, 1.5, 5e-324, float("inf")))
ROW = st.fixed_dictionaries(
    {
        "shop": st.sampled_from(("", "a", "ab", "b")),
        "item": st.integers(0, 1) | st.sampled_from((-1, 2**62)),
        "at": st.integers(0, 3),
        "price": FLOATS,
        "note": st.sampled_from((None, "", "x")),
        "gone": st.sampled_from((None, False, True)),
        "exact": st.sampled_from((None, Decimal("0.00"), Decimal("-1.10"))),
    }
)
ROWS = st.lists(ROW, max_size=14)
BEFORE = st.none() | st.lists(ROW, max_size=8, unique_by=lambda row: tuple(row[k] for k in KEY))
CUTS = st.lists(st.integers(0, 14), max_size=4)


def table(load: Any, record: type = Price, history: Validity | None = None, key: tuple[str, ...] = KEY) -> Table:
    return Table("prices", MadeUp("prices"), record, key, load, history)


def batches(of: Table, rows: Sequence[Row], cuts: Sequence[int]) -> list[pa.RecordBatch]:
    """The rows as the decoder gives them: batches that end at the cuts, empty ones among them, each a slice of a larger one."""
    own = pa.schema([field for field in schema_of(of) if field.name in {c for row in rows for c in row}])
    whole = pa.RecordBatch.from_pylist(list(rows), own)
    ends = sorted({min(cut, len(rows)) for cut in cuts} | {len(rows)})
    return [whole.slice(start, end - start) for start, end in zip([0, *ends], ends, strict=False)] if rows else []


@dataclass(frozen=True)
class Held:
    """How rows are held while a version is put together: in memory, or in a file as soon as there are some; one reader, or two."""

    room: Room = ROOM
    readers: int = 1


IN_MEMORY, FILE = Held(), Room(0, buckets=3)
HELD = st.sampled_from((Held(), Held(FILE), Held(FILE, readers=2), Held(readers=2)))


def load(
    of: Table,
    before: Sequence[Row] | None,
    rows: Sequence[Row],
    cuts: Sequence[int] = (),
    at: datetime = AT,
    held: Held = IN_MEMORY,
    deleted: list[pa.Table] | None = None,
) -> tuple[list[Row], LoadCounts, list[RejectedRow]]:
    """The version, the counts, which hold, and the rejected rows, as ingestion.loading.load makes them; `deleted` is brought up to date."""
    counts, old = LoadCounts(), None if before is None else pa.Table.from_pylist(list(before), schema_of(of))
    made = NextVersion(of, None if old is None else [old], at, counts, deleted or (), held.room)
    rejected, number = list[RejectedRow](), 1
    fed = []
    for batch in batches(of, rows, cuts):
        counts.read += batch.num_rows
        fed.append((batch, np.arange(number, number + batch.num_rows), len(fed) * (held.readers - 1)))
        number += batch.num_rows
    for one in reversed(fed) if held.readers > 1 else fed:  # the later part's reader was the faster
        made.feed(*one)
    tables = list(made.tables([f"part {n}" for n in range(len(fed) + 1)], rejected.extend))
    counts.rejected += len(rejected)
    counts.check()
    if deleted is not None:
        deleted[:] = made.deleted()
    made.close()
    return pa.concat_tables(tables).to_pylist() if tables else [], counts, rejected


def agree(found: tuple[list[Row], LoadCounts, list[RejectedRow]], plain: tuple[list[Row], Any]) -> None:
    rows, counts, _ = found
    assert plainly.version(rows) == plainly.version(plain[0])
    assert {name: asdict(counts)[name] for name in COUNTED} == {name: plain[1][name] for name in COUNTED}


@quick
@given(BEFORE, ROWS, CUTS, st.booleans(), HELD)
def test_full_and_append_equal_the_plain_load_however_rows_are_cut_and_held(
    before: list[Row] | None, rows: list[Row], cuts: list[int], appends: bool, held: Held
) -> None:
    of = table(Append() if appends else Full())
    found = load(of, before, rows, cuts, held=held)
    agree(found, plainly.fresh(before or [], rows, KEY, appends))
    first = {tuple(row[k] for k in KEY): n for n, row in reversed(list(enumerate(rows, 1)))}
    for one in found[2]:
        row = rows[one.number - 1]
        assert (
            first[tuple(row[k] for k in KEY)] < one.number and f"shop={row['shop']!r}, item={row['item']}" in one.reason
        )


@quick
@given(BEFORE, ROWS, CUTS, st.sampled_from((Incremental("at"), Merge("at"), Merge("at", deleted="gone"))), HELD)
def test_incremental_and_merge_equal_the_plain_load_however_rows_are_cut_and_held(
    before: list[Row] | None, rows: list[Row], cuts: list[int], by: Incremental | Merge, held: Held
) -> None:
    flag = by.deleted if isinstance(by, Merge) else None
    agree(load(table(by), before, rows, cuts, held=held), plainly.newest(before or [], rows, KEY, "at", flag))


@quick
@given(st.lists(st.tuples(ROWS, HELD), min_size=2, max_size=4), CUTS)
def test_merges_one_after_another_equal_one_of_all_rows_whatever_is_deleted_and_comes_late(
    loads: list[tuple[list[Row], Held]], cuts: list[int]
) -> None:
    of, found, deleted = table(Merge("at", deleted="gone")), None, list[pa.Table]()
    for rows, held in loads:
        found, _, _ = load(of, found, rows, held=held, deleted=deleted)
        assert not any(row["gone"] for row in found)
    at_once, _, _ = load(of, None, [row for rows, _ in loads for row in rows], cuts)
    assert plainly.version(found or []) == plainly.version(at_once)


@pytest.mark.parametrize("by", [Full(), Append(), Merge("at"), Incremental("at")])
@quick
@given(ROWS)
def test_a_load_of_the_same_rows_again_changes_nothing(by: Any, rows: list[Row]) -> None:
    of = table(by)
    once, _, _ = load(of, None, rows)
    again, counts, _ = load(of, once, rows)
    assert plainly.version(again) == plainly.version(once) and not counts.changed and not counts.gone


@dataclass(frozen=True)
class ByTime:
    """A row with a cursor of each type that one may be of."""

    k: int
    at: datetime
    day: date
    version: Annotated[Decimal, Scale(3)]


@pytest.mark.parametrize("cursor", ["at", "day", "version"])
def test_cursors_of_every_type_order_as_their_values_do_and_of_equal_ones_the_later_row_counts(cursor: str) -> None:
    def row(k: int, n: int, other: int) -> Row:
        every: dict[str, Any] = {
            "at": AT + timedelta(microseconds=other), "day": date(2013, 1, 1) + timedelta(days=other), "version": Decimal(other) / 8,
        }  # fmt: skip
        mine = {
            "at": AT + timedelta(microseconds=n),
            "day": date(1960, 1, 1) + timedelta(days=n),
            "version": Decimal(n) / 8,
        }
        return {"k": k, **every, cursor: mine[cursor]}  # type: ignore[literal-required]

    of = table(Merge(cursor), ByTime, key=("k",))
    before = [row(1, 5, 0), row(2, 5, 0), row(3, 5, 0)]
    rows = [row(1, 4, 1), row(2, 5, 1), row(3, 10, 1), row(3, 9, 2), row(4, -7, 1), row(4, -7, 2)]
    for cuts in ([], [1, 2, 3, 4, 5]):
        found, counts, _ = load(of, before, rows, cuts)
        wanted = [row(1, 5, 0), row(2, 5, 1), row(3, 10, 1), row(4, -7, 2)]
        assert plainly.version(found) == plainly.version(wanted)
        assert (counts.added, counts.changed, counts.duplicates) == (1, 2, 3)


# --- history -------------------------------------------------------------------------------------------------------------------

HISTORY = table(Snapshot(), history=Validity("since", "until"))
VERSIONS = st.lists(st.tuples(ROWS, CUTS, st.integers(1, 3), HELD), min_size=1, max_size=6)


def valid_at(rows: Sequence[Row], at: datetime) -> list[tuple[Any, ...]]:
    """The rows that are valid then, without their two columns."""
    return plainly.version(
        {name: value for name, value in row.items() if name not in ("since", "until")}
        for row in rows
        if (row["since"] is None or row["since"] <= at) and (row["until"] is None or at < row["until"])
    )


@quick
@example(
    [
        ([], [], 1, Held()),
        ([dict.fromkeys(Price.__dataclass_fields__) | {"shop": "", "item": 0, "at": 0}], [], 1, Held()),
    ]
)
@given(VERSIONS)
def test_history_equals_the_plain_one_over_several_versions_and_the_past_stays(
    loads: list[tuple[list[Row], list[int], int, Held]],
) -> None:
    found: list[Row] | None = None
    plain: list[Row] | None = None
    at = AT
    for rows, cuts, later_us, held in loads:
        earlier, at = found, at + timedelta(microseconds=later_us)
        found, counts, refused = load(HISTORY, found, rows, cuts, at, held)
        plain, told = plainly.snapshot(plain, rows, KEY, at)
        agree((found, counts, refused), (plain, told))
        Version(
            HISTORY, pa.Table.from_pylist(found, schema_of(HISTORY))
        )  # refuses stretches of a key that overlap, or hold no time
        now, _ = plainly.fresh([], rows, KEY, False)
        assert valid_at(found, at) == plainly.version(now), "the origin's rows are valid from the load on"
        for back_us in range(1, 20) if earlier is not None else ():
            then = at - timedelta(microseconds=back_us)
            assert valid_at(found, then) == valid_at(earlier or [], then), "what was valid at a time stays so"


def one(price: float) -> Row:
    return dict.fromkeys(Price.__dataclass_fields__) | {"shop": "a", "item": 1, "at": 0, "price": price}


@pytest.mark.parametrize("back", [timedelta(0), timedelta(hours=1)])
@pytest.mark.parametrize("rows", [[one(3.0)], []], ids=["changed", "gone"])
def test_a_clock_that_ran_back_is_told_and_makes_no_history(back: timedelta, rows: list[Row]) -> None:
    first, _, _ = load(HISTORY, [], [one(1.0)], at=AT)
    with pytest.raises(OriginError, match=r"the row of shop='a', item=1 began at .*: the clock of Postgres ran back"):
        load(HISTORY, first, rows, at=AT - back)
    same, counts, _ = load(HISTORY, first, [one(1.0)], at=AT - back)
    assert same == first and counts.unchanged == 1, "where nothing changes no time is needed"
