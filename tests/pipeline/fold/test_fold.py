"""Folding is a homomorphism from logs to states, and means row by row what it says.

fold(a ++ b) = fold(a) ⊕ fold(b)        accepted = folded + filtered + rejected        window(t) = [k size, (k + 1) size) ∋ t
"""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings

from pipeline import (
    Count,
    Derived,
    First,
    Last,
    Max,
    Scale,
    Sum,
    tumbling,
)
from pipeline.base.types import TIME_MAX, TIME_MIN
from pipeline.fold.fold import combine, fold, sort_states
from pipeline.fold.states import present, state_schema
from tests.support.readings import AGGREGATES, AT, EPOCH, ROWS, US, batch, rows_of, view

# --- the homomorphism ------------------------------------------------------------------------------------------------

VIEWS = [
    view(aggregates=AGGREGATES),
    view(aggregates=AGGREGATES, window=tumbling(days=7), key=("good_or_not", "station"),
         derive={"good_or_not": Derived(pc.coalesce(pc.field("good"), pc.field("a").is_null()), bool)}),
    view(where=pc.field("good")),
    view(where=pc.field("a") / pc.field("b") > 1),
    view(derive={"ratio": Derived(pc.field("a") / pc.field("b"), Scale(3)), "whole": Derived(pc.field("n") + 1, int)},
         where=pc.field("ratio") > 0.5, key=("day",), aggregates={"m": Max("ratio"), "s": Sum("whole"), "d": First("day")}),
    view(derive={"same": Derived(pc.field("good"), bool)}, key=("same", "station")),
]  # fmt: skip


@settings(max_examples=250, deadline=None, database=None)
@given(
    rows=ROWS,
    number=st.sampled_from(range(len(VIEWS))),
    cuts=st.lists(st.integers(0, 30), max_size=4),
    turned=st.booleans(),
)
@example(rows=[], number=0, cuts=[], turned=False)
def test_fold_of_a_concatenation_is_the_merge_of_folds_at_any_cut(
    rows: list[dict[str, Any]], number: int, cuts: list[int], turned: bool
) -> None:
    one, whole = VIEWS[number], batch(rows)
    at_once = fold(one, whole)
    ends = sorted({0, len(rows), *(c for c in cuts if c < len(rows))})
    parts = [fold(one, whole.slice(start, end - start)) for start, end in pairwise(ends)]
    states = [p.states for p in (parts[::-1] if turned else parts)]
    merged = sort_states(one, combine(one, states))
    assert merged.equals(sort_states(one, at_once.states))
    assert merged.schema.equals(state_schema(one))
    counts = sum((p.counts for p in parts[1:]), parts[0].counts) if parts else at_once.counts
    assert counts == at_once.counts
    assert counts.folded + counts.filtered + counts.rejected == len(rows)
    assert [
        r + start for start, p in zip(ends, parts, strict=False) for r in p.rejected.tolist()
    ] == at_once.rejected.tolist()
    assert [reason for p in parts for reason in p.reasons] == at_once.reasons


@settings(max_examples=60, deadline=None, database=None)
@given(rows=ROWS, number=st.sampled_from(range(len(VIEWS))), data=st.data())
def test_states_merge_in_any_grouping_and_any_order(
    rows: list[dict[str, Any]], number: int, data: st.DataObject
) -> None:
    one, whole = VIEWS[number], batch(rows)
    tables = [fold(one, whole.slice(i, 1)).states for i in range(len(rows))]
    want = sort_states(one, fold(one, whole).states)
    tables = data.draw(st.permutations(tables))
    while len(tables) > 1:
        take = data.draw(st.integers(2, len(tables)))
        tables = [*tables[take:], combine(one, tables[:take])]
    assert sort_states(one, combine(one, tables)).equals(want)


@settings(max_examples=100, deadline=None, database=None)
@given(rows=ROWS)
def test_groups_are_those_of_a_plain_dict(rows: list[dict[str, Any]]) -> None:
    hour = 3_600_000_000
    want: dict[tuple[str, datetime], list[Decimal | None]] = {}
    for row in rows:
        start = EPOCH + ((row["at"] - EPOCH) // US // hour * hour) * US
        want.setdefault((row["station"], start), []).append(row["a"])
    got = {(r["station"], r["window_start"]): (r["rows"], r["sum"]) for r in rows_of(view(), fold(view(), batch(rows)))}
    sums = {k: sum(map(Fraction, (v for v in vs if v is not None))) for k, vs in want.items()}
    present_ = {k: any(v is not None for v in vs) for k, vs in want.items()}
    assert set(got) == set(want)
    for group, (count, total) in got.items():
        assert count == len(want[group])
        assert (total is None) == (not present_[group])
        assert total is None or Fraction(total) == sums[group]


def test_combine_of_nothing_is_empty() -> None:
    for one in VIEWS:
        assert combine(one, []).equals(state_schema(one).empty_table())
        empty = fold(one, batch([]))
        assert (empty.states.num_rows, empty.rejected.tolist(), empty.reasons) == (0, [], [])
        assert combine(one, [empty.states, empty.states]).num_rows == 0


# --- windows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "at", "start"),
    [
        (tumbling(hours=1), "2013-01-31T13:00:00", "2013-01-31T13:00:00"),
        (tumbling(hours=1), "2013-01-31T13:59:59.999999", "2013-01-31T13:00:00"),
        (tumbling(hours=1), "2013-01-31T14:00:00", "2013-01-31T14:00:00"),
        (tumbling(hours=1), "1970-01-01T00:00:00", "1970-01-01T00:00:00"),
        (tumbling(hours=1), "1969-12-31T23:59:59.999999", "1969-12-31T23:00:00"),
        (tumbling(hours=1), "1969-12-31T23:00:00", "1969-12-31T23:00:00"),
        (tumbling(hours=1), "1969-12-31T22:59:59.999999", "1969-12-31T22:00:00"),
        (tumbling(days=1), "1900-02-28T12:00:00", "1900-02-28T00:00:00"),
        (tumbling(days=7), "1970-01-07T23:59:59.999999", "1970-01-01T00:00:00"),  # weeks begin on a Thursday
        (tumbling(days=7), "1970-01-08T00:00:00", "1970-01-08T00:00:00"),
        (tumbling(days=7), "1969-12-31T00:00:00", "1969-12-25T00:00:00"),
        (tumbling(seconds=7), "1969-12-31T23:59:59.999999", "1969-12-31T23:59:53"),
        (tumbling(days=366), "0002-01-01T00:00:00", "0001-12-05T00:00:00"),
        (tumbling(days=366), "9999-12-31T23:59:59.999999", "9999-08-15T00:00:00"),
        (tumbling(minutes=15), "2013-01-31T13:14:59.999999", "2013-01-31T13:00:00"),
    ],
)
def test_an_event_is_in_the_window_that_begins_at_or_before_it(window: Any, at: str, start: str) -> None:
    one = view(window=window)
    when = datetime.fromisoformat(at).replace(tzinfo=UTC)
    got = rows_of(one, fold(one, batch([{"at": when}])))
    assert [r["window_start"] for r in got] == [datetime.fromisoformat(start).replace(tzinfo=UTC)]
    assert timedelta(0) <= when - got[0]["window_start"] < window.size_us * US


@settings(max_examples=200, deadline=None, database=None)
@given(
    at=st.datetimes(TIME_MIN.replace(tzinfo=None), TIME_MAX.replace(tzinfo=None)), seconds=st.integers(1, 366 * 86400)
)
def test_every_time_is_in_exactly_one_window(at: datetime, seconds: int) -> None:
    one, when = view(window=tumbling(seconds=seconds)), at.replace(tzinfo=UTC)
    (row,) = rows_of(one, fold(one, batch([{"at": when}])))
    since = (row["window_start"] - EPOCH) // US
    assert since % (seconds * 1_000_000) == 0
    assert timedelta(0) <= when - row["window_start"] < timedelta(seconds=seconds)


# --- where and keys --------------------------------------------------------------------------------------------------------


def test_a_null_where_drops_the_record_and_is_no_failure() -> None:
    one = view(where=pc.field("good"), aggregates={"rows": Count()})
    got = fold(one, batch([{"good": True}, {"good": None}, {"good": False}, {"good": True}]))
    assert (got.counts.folded, got.counts.filtered, got.counts.rejected) == (2, 2, 0)
    assert [r["rows"] for r in rows_of(one, got)] == [2]


def test_null_logic_is_that_of_sql() -> None:
    one = view(where=(pc.field("good") | (pc.field("n") > 0)) & ~(pc.field("f") < 0), aggregates={"rows": Count()})
    rows: list[dict[str, Any]] = [
        {"good": True, "n": None, "f": 1.0},  # true or null = true
        {"good": None, "n": 1, "f": 1.0},  # null or true = true
        {"good": None, "n": 0, "f": 1.0},  # null or false = null
        {"good": False, "n": None, "f": 1.0},
        {"good": True, "n": 1, "f": None},  # not null = null
        {"good": False, "n": 0, "f": None},  # false and null = false
    ]
    assert fold(one, batch(rows)).counts.folded == 2


def test_a_where_that_everyone_fails_or_nobody_passes_leaves_no_states() -> None:
    nobody = view(where=pc.field("n") > 5)
    got = fold(nobody, batch([{"n": 1}, {"n": None}]))
    assert (got.states.num_rows, got.counts.filtered) == (0, 2)
    everyone = view(where=pc.field("n") / (pc.field("n") - pc.field("n")) > 0)
    got = fold(everyone, batch([{"n": 1}, {"n": 2}]))
    assert (got.states.num_rows, got.counts.rejected) == (0, 2)
    assert got.reasons == ["where: greater(divide_checked(n, subtract_checked(n, n)), 0) cannot be computed"] * 2


def test_a_where_that_cannot_be_computed_rejects_its_own_record() -> None:
    one = view(where=pc.field("a") / pc.field("b") > 1)
    got = fold(
        one,
        batch([{"a": Decimal(4), "b": Decimal(2)}, {"a": Decimal(4), "b": Decimal(0)}, {"a": None, "b": Decimal(0)}]),
    )
    assert (got.counts.folded, got.counts.filtered, got.counts.rejected) == (1, 1, 1)
    assert got.rejected.tolist() == [1]


def test_a_null_key_is_a_group_of_its_own_unless_where_drops_it() -> None:
    derived = {"lower": Derived(pc.field("note"), str)}
    rows = [
        {"note": "a", "good": True},
        {"note": None, "good": True},
        {"note": None, "good": False},
        {"note": "a", "good": False},
    ]
    one = view(derive=derived, key=("lower",), where=pc.field("good"))
    got = fold(one, batch(rows))
    assert got.states.column("lower").to_pylist() == ["a", None]
    assert (got.counts.folded, got.counts.filtered, got.counts.rejected) == (2, 2, 0)


@pytest.mark.parametrize("kind", ["str", "int", "bool", "date"])
def test_a_null_is_a_group_beside_every_value_and_in_every_batch(kind: str) -> None:
    values: dict[str, list[Any]] = {
        "str": ["", "a", None], "int": [0, 1, 0x6E756C6C, None, -1], "bool": [False, True, None], "date": [date(1970, 1, 1), None]
    }  # fmt: skip
    named = {"str": "note", "int": "n", "bool": "good", "date": "day"}[kind]
    one = view(key=(named, "station"), aggregates={"rows": Count()})
    some = [{named: value, "station": station} for value in values[kind] for station in ("EWR", "JFK")]
    at_once = fold(one, batch(some * 3)).states
    singly = combine(one, [fold(one, batch([row])).states for row in some * 3])
    wanted = {(row[named], row["station"]) for row in some}
    for states in (at_once, singly):
        assert {(r[named], r["station"]) for r in states.to_pylist()} == wanted
        assert [r["rows__n"] for r in states.to_pylist()] == [3] * len(wanted)
    assert sort_states(one, at_once).equals(sort_states(one, singly))


def test_the_first_failure_of_a_record_is_its_reason() -> None:
    n = pc.field("n")
    one = view(
        derive={"x": Derived(n / (n - 1), int), "y": Derived(n / (n - 2), int), "k": Derived(pc.field("note"), str)},
        where=n / (n - 3) > 0,
        key=("k",),
    )
    rows = [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}, {"n": 4, "note": "a"}]
    reasons = [r.split(":")[0] for r in fold(one, batch(rows)).reasons]
    assert reasons == ["x", "y", "where"]


def test_keys_of_every_type_group_by_equality() -> None:
    derived = {
        "dec": Derived(pc.field("f"), Scale(1)),
        "is_good": Derived(pc.coalesce(pc.field("good"), pc.field("n").is_null()), bool),
        "at_hour": Derived(pc.field("at"), datetime),
        "num": Derived(pc.coalesce(pc.field("n"), pc.utf8_length(pc.field("station"))), int),
    }
    one = view(derive=derived, key=("dec", "is_good", "at_hour", "num", "day", "station"), aggregates={"rows": Count()})
    rows = [
        {"f": 0.12},
        {"f": 0.1},
        {"f": 0.2},
        {"f": 0.1, "good": False},
        {"f": 0.1, "n": 3},
        {"f": 0.1, "at": AT + US},
    ]
    rows += [{"f": 0.1, "day": date(1, 1, 1)}, {"f": 0.1, "station": "EW"}, {"f": -0.01}, {"f": 0.0}]
    got = rows_of(one, fold(one, batch(rows)))
    assert sorted(r["rows"] for r in got) == [1, 1, 1, 1, 2, 2, 2]
    by = {tuple(r[k] for k in one.key): r["rows"] for r in got}
    base = (Decimal("0.1"), True, AT, 3, date(2013, 1, 31), "EWR")
    assert by[base] == 2
    assert by[(Decimal("0.0"), *base[1:])] == 2, "-0.01 and 0.0 are both 0.0"
    assert by[(base[0], False, *base[2:])] == 2, "is_null of 3 is false"


def test_texts_that_look_alike_do_not_share_a_group() -> None:
    one = view(key=("station", "id"), aggregates={"rows": Count()})
    rows = [
        {"station": "a", "id": "bc"},
        {"station": "ab", "id": "c"},
        {"station": "", "id": "abc"},
        {"station": "abc", "id": ""},
    ]
    rows += [{"station": "\u00e9", "id": "x"}, {"station": "e\u0301", "id": "x"}]
    assert [r["rows"] for r in rows_of(one, fold(one, batch(rows)))] == [1] * 6


def test_first_and_last_look_at_partition_and_offset_across_batches() -> None:
    one = view(aggregates={"first": First("note"), "last": Last("note")})
    zero = batch([{"note": None}, {"note": "p0 o1"}, {"note": "p0 o2"}], partition=0)
    two = batch([{"note": "p1 o0"}, {"note": "p1 o1"}, {"note": None, "at": AT + US}], partition=1)
    for tables in ((zero, two), (two, zero)):
        merged = combine(one, [fold(one, t).states for t in tables])
        assert [(r["first"], r["last"]) for r in present(one, merged).to_pylist()] == [("p0 o1", "p1 o1")]


def test_a_dictionary_of_nulls_alone_is_one_group() -> None:
    one = view(key=("note", "station"), aggregates={"rows": Count()})
    some = batch([{"station": "EWR"}, {"station": "EWR"}])
    encoded = some.set_column(some.schema.get_field_index("note"), "note", some.column("note").dictionary_encode())
    assert fold(one, encoded).states.equals(fold(one, some).states)
