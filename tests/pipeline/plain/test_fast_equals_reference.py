"""The compiled path and the plain-Python one are the same function.

    fold(ingest(blocks)) = Reference(records)        for every view, every log, every cut into blocks

To the bit: counts, rejected offsets, groups, values, the exponents of Decimals, and the sign of zero.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import product
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.accept.accept import Ingest
from pipeline.aggregates import CountNonNull, First, Last, Max, Mean, Min, StdDev, Sum, Variance
from pipeline.base.types import ColumnType
from pipeline.definition.constraints import Between, Clip, Default, Length, Nullable, OneOf, Pattern, Scale
from pipeline.definition.derived import Derived
from pipeline.definition.expressions import Field, Node, fields, kind_of, parse
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.definition.window import tumbling
from pipeline.fold.evaluate import derive, enter
from pipeline.fold.fold import combine, fold
from pipeline.fold.states import WINDOW_START, present, state_schema
from pipeline.handover import Counts
from pipeline.log.log import Block
from pipeline.plain import Reference
from pipeline.plain.expression import Failed, compile_node, derived
from pipeline.plain.json_text import Invalid
from pipeline.plain.validation import record_of
from pipeline.plain.values import decimal_of
from tests.support.strategies import Log, Record, block, blocks_of, expressions, hints, logs, pool, view_sets
from tests.support.strategies_values import EPOCH, NOON, VALUES, texts
from tests.support.strategies_views import PATTERNS

SLOW_DRAWS = [HealthCheck.too_slow, HealthCheck.data_too_large]
WHOLE = settings(max_examples=200, deadline=None, suppress_health_check=SLOW_DRAWS)
PARTS = settings(max_examples=200, deadline=None, suppress_health_check=SLOW_DRAWS)


def exact(value: Any) -> Any:
    """The value in a form whose equality is identity of bits: 1.0 is not 1.00, 0.0 is not -0.0, 1 is not True."""
    if isinstance(value, Decimal):
        return ("Decimal", value.as_tuple())
    if isinstance(value, float):
        return ("float", struct.pack(">d", value))
    return (type(value).__name__, value)


def fast(views: list[View], blocks: dict[int, list[Block]], restarts: frozenset[int] = frozenset()) -> dict[str, Any]:
    """What the layers' path makes of the log, in the reference's words.

    Before the blocks numbered in `restarts`, everything in memory is lost and the identities come from a snapshot.
    """
    counts: dict[int, tuple[int, ...]] = {}
    rejected: list[tuple[int, int]] = []
    view_counts: dict[tuple[str, int], tuple[int, ...]] = {}
    states: dict[str, list[pa.Table]] = {view.name: [state_schema(view).empty_table()] for view in views}
    for partition, mine in blocks.items():
        ingest = Ingest(views[0].source, partition)
        total = Counts()
        of_view = {view.name: Counter[str]() for view in views}
        for number, piece in enumerate(mine):
            if number in restarts:
                ingest = Ingest(views[0].source, partition, ingest.identities.snapshot(piece.start))
            done = ingest.feed(piece)
            total = total + done.counts
            rejected += [(partition, offset) for offset in done.rejected.column("offset").to_pylist()]
            for view in views:
                folded = fold(view, done.accepted)
                states[view.name].append(folded.states)
                of_view[view.name].update(
                    folded=folded.counts.folded, filtered=folded.counts.filtered, rejected=folded.counts.rejected
                )
        counts[partition] = (total.accepted, total.duplicates, total.rejected, total.tombstones)
        for name, c in of_view.items():
            view_counts[name, partition] = (c["folded"], c["filtered"], c["rejected"])
    rows = {view.name: table_rows(view, present(view, combine(view, states[view.name]))) for view in views}
    return {"counts": counts, "rejected": sorted(rejected), "view_counts": view_counts, "rows": rows}


def table_rows(view: View, table: pa.Table) -> dict[Any, Any]:
    """A table of values as Reference.rows gives them, exactly."""
    names = [*view.key, WINDOW_START]
    found = {}
    for row in table.to_pylist():
        key = tuple(exact(row[name]) for name in names)
        assert key not in found, f"the group {key} came twice"
        found[key] = {name: exact(row[name]) for name in view.aggregates}
    return found


def reference(views: list[View], log: Log) -> dict[str, Any]:
    """The same of the plain-Python f."""
    f = Reference(views)
    for partition, records in log.items():
        f.feed(partition, records)
    rows = {
        view.name: {
            tuple(exact(k) for k in key): {name: exact(value) for name, value in values.items()}
            for key, values in f.rows(view).items()
        }
        for view in views
    }
    rejected = sorted((partition, offset) for partition, offset, _ in f.rejected)
    return {"counts": f.counts, "rejected": rejected, "view_counts": f.view_counts, "rows": rows}


def first_difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """What differs first, in few words; "" when nothing does."""
    for what in ("counts", "rejected", "view_counts"):
        if found[what] != wanted[what]:
            return f"{what}: fast {found[what]}, reference {wanted[what]}"
    for view, rows in wanted["rows"].items():
        for key in sorted({*rows, *found["rows"][view]}, key=repr):
            one, other = found["rows"][view].get(key), rows.get(key)
            if one != other:
                return f"{view}, group {key}: fast {one}, reference {other}"
    return ""


@WHOLE
@given(st.data())
def test_fast_equals_reference_at_every_cut(data: st.DataObject) -> None:
    views = data.draw(view_sets())
    log = data.draw(logs(views[0]))
    blocks = {partition: data.draw(blocks_of(records)) for partition, records in log.items()}
    restarts = data.draw(st.frozensets(st.integers(0, 6), max_size=3))
    found, wanted = fast(views, blocks, restarts), reference(views, log)
    assert first_difference(found, wanted) == ""


def check_column(hint: Any) -> None:
    """One column, every spelling of every boundary value and every broken text, in one block."""
    record = dataclasses.make_dataclass("Event", [("id", int), ("at", datetime), ("x", hint)], frozen=True)
    source = Source("events", record, key="id", event_time="at", identity="id")
    column = source.columns[2]
    records: list[Record] = []
    for offset, text in enumerate(texts(column).every):
        field = f', "x": {text}' if text else ""
        records.append((offset, 0, None, f'{{"id": {offset}, "at": 0{field}}}'.encode()))
    done = Ingest(source, 0).feed(block(records, 0, len(records)))
    found = dict(zip(done.accepted.column("id").to_pylist(), done.accepted.column("x").to_pylist(), strict=True))
    for offset, _, _, value in records:
        assert value is not None
        try:
            wanted = ("kept", exact(record_of(value, source.columns)["x"]))
        except Invalid:
            wanted = ("rejected", None)
        got = ("kept", exact(found[offset])) if offset in found else ("rejected", None)
        assert got == wanted, f"{column}: {value[:200]!r}: fast {got}, reference {wanted}"


@PARTS
@given(hints())
def test_each_column_is_read_and_mended_alike_for_every_text(hint: Any) -> None:
    check_column(hint)


TWO_CENTS = Annotated[Decimal | None, Scale(2), Between(Decimal("-19.99"), Decimal("123.45"))]


@pytest.mark.parametrize(
    "hint",
    [
        *(Annotated[str | None, Pattern(regex)] for regex in PATTERNS),
        *(Annotated[str, Length(low, high)] for low, high in ((0, 1), (1, 2), (2, None), (70, 70))),
        *(Annotated[str, Between("B", "\uffff")], Annotated[str, OneOf("EWR", "é", "")]),
        *(Annotated[TWO_CENTS, remedy] for remedy in (Clip(), Nullable(), Default(0))),
        *(TWO_CENTS, Annotated[TWO_CENTS, OneOf(0, Decimal("-19.99"), Decimal("2.50")), Clip()]),
        *(
            Annotated[int, Between(-1, 7), OneOf(-1, 0, 100), Clip()],
            Annotated[int, Between(0, 7), OneOf(0, 100), Clip()],
        ),
        *(Annotated[float, Between(-1.5, 2), Clip()], Annotated[float, Between(-0.0, 2.5), Clip()]),
        *(Annotated[float | None, Default(-0.0)], Annotated[float, Between(high=2**53)]),
        *(Annotated[datetime, Between(EPOCH, NOON), Clip()], Annotated[date, Between(low=date(1970, 1, 1)), Clip()]),
        *(Annotated[datetime, OneOf(NOON, EPOCH), Default(EPOCH)], Annotated[date | None, OneOf(date.max), Nullable()]),
        *(bool, Annotated[bool | None, Default(True)], int | None, float, str, date, datetime | None),
    ],
    ids=str,
)
def test_each_kind_of_constraint_and_remedy_is_kept_alike(hint: Any) -> None:
    check_column(hint)


KINDS = {"i": "int", "j": "int", "f": "float", "g": "float", "s": "str", "b": "bool", "at": "datetime", "d": "date"}


@WHOLE
@given(st.data())
def test_a_derived_column_of_a_block_is_that_of_each_row(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["int", "float", "int", "float", "bool", "str", "date", "datetime"]))
    tree = parse(data.draw(expressions(kind, KINDS, depth=3)), "test")
    of_number = [ColumnType("int"), ColumnType("float"), *(ColumnType("decimal", s) for s in (0, 2, 12))]
    to = data.draw(st.sampled_from(of_number)) if kind in ("int", "float") else ColumnType(kind)
    row = st.fixed_dictionaries({n: st.none() | st.sampled_from(pool(ColumnType(k))) for n, k in KINDS.items()})
    rows = data.draw(st.lists(row, min_size=1, max_size=12))
    check_rows(tree, to, rows)


X, Y, F, G, S, B, AT, D = (pc.field(name) for name in ("i", "j", "f", "g", "s", "b", "at", "d"))
EACH = [
    *(X + Y, X - Y, X * Y, X / Y, pc.negate_checked(X), pc.abs_checked(X), X.cast(pa.float64()), pc.coalesce(X, Y)),
    *(F + G, F - G, F * G, F / G, pc.negate_checked(F), pc.abs_checked(F), F.cast(pa.int64()), pc.coalesce(F, G)),
    *(
        F + X,
        X * F,
        F / X,
        X - F,
        pc.coalesce(X, F),
        pc.if_else(F > X, F, X),
        F == X,
        X <= F,
        F * 1e300 * G,
        F * 1e300 - G * 1e300,
    ),
    *(
        pc.sqrt(F),
        pc.sqrt_checked(F),
        pc.floor(F * G),
        pc.ceil(F / 3),
        pc.trunc(F * 0.5),
        pc.is_nan(pc.sqrt(F)),
        pc.is_finite(F * G * G),
    ),
    *(X == Y, X != Y, X < Y, X >= Y, F < G, F != G, F * 0 == G, pc.sqrt(F) != pc.sqrt(F), pc.sqrt(F) <= G),
    *(
        B & (F > G),
        B | (X < Y),
        ~B,
        ~(B & (X > 0)),
        B & (X / Y > 0),
        pc.if_else(B, X / Y, X),
        pc.if_else(B, S, "x") == S,
    ),
    *(
        S < "a",
        S.isin(["", "é", "a"]),
        pc.utf8_length(S),
        pc.utf8_length(S) * X,
        pc.starts_with(S, pattern="a"),
        S.is_null(),
    ),
    *(
        pc.ends_with(S, pattern="\n"),
        pc.match_substring(S, pattern=""),
        AT.cast(pa.date32()),
        AT.cast(pa.date32()) == D,
        AT < AT,
    ),
    *(B.cast(pa.int64()), B.cast(pa.float64()), D.isin(VALUES["date"][:2]), pc.coalesce(S, "\uffff"), B.is_valid()),
]


@pytest.mark.parametrize("expression", EACH, ids=str)
def test_each_function_on_a_block_of_boundary_values_is_that_of_each_row(expression: pc.Expression) -> None:
    """Every pair of boundary values, most of which fail somewhere, in one block."""
    tree = parse(expression, "test")
    names = sorted(fields(tree))
    rows = [dict(zip(names, row, strict=True)) for row in product(*([None, *VALUES[KINDS[n]]] for n in names))][:4000]
    kind = kind_of(tree, KINDS, "test")
    numbers = [ColumnType("int"), ColumnType("float"), ColumnType("decimal", 2)]
    for to in numbers if kind in ("int", "float") else [ColumnType(kind)]:
        check_rows(tree, to, rows)


def check_rows(tree: Node, to: ColumnType, rows: list[dict[str, Any]]) -> None:
    columns = {n: pa.array([r[n] for r in rows], ColumnType(KINDS[n]).arrow) for n in rows[0]}
    values, failed = derive(tree, to, columns, len(rows))
    evaluate, kind, found = compile_node(tree, KINDS), kind_of(tree, KINDS, "test"), values.to_pylist()
    for n, row in enumerate(rows):
        try:
            wanted: Any = exact(derived(evaluate(row), kind, to))
        except Failed:
            wanted = "failed"
        got = "failed" if failed[n] else exact(found[n])
        assert got == wanted, f"{tree} as {to} of {row}: fast {got}, reference {wanted}"


SCALES = st.integers(0, 12)
NUMBERS = st.one_of(
    st.floats(),
    st.builds(lambda n, s: n / 10**s, st.integers(-(10**18), 10**18), st.integers(0, 18)),
    st.builds(lambda n, s: (2 * n + 1) / 2 / 10**s, st.integers(-(10**6), 10**6), SCALES),
    st.builds(lambda n, s: (10**18 - n) / 10**s, st.integers(-300, 300), SCALES),
)


@PARTS
@given(SCALES, st.lists(NUMBERS, min_size=1, max_size=200))
def test_floats_are_rounded_to_a_scale_alike(scale: int, numbers: list[float]) -> None:
    type = ColumnType("decimal", scale)
    values, failed = derive(Field("x"), type, {"x": pa.array(numbers, pa.float64())}, len(numbers))
    for n, number in enumerate(numbers):
        try:
            wanted: Any = exact(derived(number, "float", type))
        except Failed:
            wanted = "failed"
        assert ("failed" if failed[n] else exact(values[n].as_py())) == wanted, number.hex()


@PARTS
@given(
    SCALES, st.lists(st.integers(2**53, 10**18 - 1) | st.integers(-(10**18) + 1, 10**18 - 1), min_size=50, max_size=200)
)
def test_decimals_enter_expressions_as_the_nearest_float(scale: int, unscaled: list[int]) -> None:
    type = ColumnType("decimal", scale)
    column = pa.array([decimal_of(u, scale) for u in unscaled], type.arrow)
    assert enter(column, type).to_pylist() == [float(Fraction(u, 10**scale)) for u in unscaled]


@dataclasses.dataclass(frozen=True)
class Reading:
    id: int
    at: datetime
    k: int | None
    n: int | None
    p: Annotated[Decimal | None, Scale(2)]
    x: float | None
    s: str | None
    b: bool | None


READINGS = Source(
    "readings", Reading, key="id", event_time="at", identity="id", identity_horizon=timedelta(milliseconds=10)
)
EVERYTHING = View(
    name="everything",
    source=READINGS,
    key=("k2",),
    window=tumbling(hours=1),
    derive={"k2": Derived(pc.field("k") / 2, int)},
    where=pc.field("b").is_valid() & (pc.field("n").is_null() | (pc.field("n") != -51)),
    aggregates={
        f"{c}_{kind.__name__.lower()}": kind(c)
        for c, kinds in {
            "n": (CountNonNull, Sum, Mean, Variance, StdDev, Min, Max, First, Last),
            "p": (CountNonNull, Sum, Mean, Variance, StdDev, Min, Max, First, Last),
            "x": (Min, Max, First, Last),
            "s": (Min, Max, First, Last),
            "b": (First, Last),
        }.items()
        for kind in kinds
    },
)
SMALL = st.integers(-9, 9) | st.sampled_from([2**63 - 1, -(2**63), -51, 10**6])
READING = st.fixed_dictionaries(
    {
        "id": st.integers(0, 20),
        "at": st.sampled_from([0, 1, 3_599_999, 0, -1, 3_600_000]),
        "k": st.sampled_from([0, 1, -1, 2, 0, 1, None]),
        "n": SMALL | SMALL | st.none(),
        "p": st.none() | st.decimals(-20, 20, places=2).map(str) | st.just("9999999999999999.99"),
        "x": st.none() | st.sampled_from([0, -0.0, 1.5, -1e300]),
        "s": st.none() | st.sampled_from(VALUES["str"]),
        "b": st.sampled_from([True, False, True, False, True, False, None, "broken"]),
    }
)
STEPS = st.sampled_from([5, 0, 1, 4, 2, 10, 11, 20, -30, None, "tombstone"])
READING_LISTS = st.sampled_from([0, 40]).flatmap(lambda n: st.lists(st.tuples(READING, STEPS), min_size=n, max_size=60))


@WHOLE
@given(READING_LISTS, st.data())
def test_crowded_groups_and_crowded_identities_come_out_alike(
    given_readings: list[tuple[dict[str, Any], Any]], data: st.DataObject
) -> None:
    """Few groups, so many values in each; few identities, so duplicates on both sides of the horizon."""
    now, records = 1000, []
    for offset, (reading, step) in enumerate(given_readings):
        now += step if isinstance(step, int) else 0
        value = None if step == "tombstone" else json.dumps(reading).encode()
        records.append((offset, -1 if step is None else now, None, value))
    blocks = {0: data.draw(blocks_of(records))}
    restarts = data.draw(st.frozensets(st.integers(0, 6)))
    assert first_difference(fast([EVERYTHING], blocks, restarts), reference([EVERYTHING], {0: records})) == ""


@pytest.mark.parametrize("one", [1, -1, 3, 2**63 - 1, -(2**63)])
def test_a_mean_that_lies_halfway_comes_out_alike(one: int) -> None:
    """1 / 128 = 0.0078125, at six decimals a tie: away from zero, on both sides of it."""
    numbers = [one, *[0] * 127]
    event = [json.dumps({"id": i, "at": 0, "k": 0, "n": n, "b": True}).encode() for i, n in enumerate(numbers)]
    records: list[Record] = [(offset, 0, None, value) for offset, value in enumerate(event)]
    wanted = reference([EVERYTHING], {0: records})
    assert first_difference(fast([EVERYTHING], {0: [block(records, 0, 128)]}), wanted) == ""
