"""The compiled path and the plain-Python one are the same function.

    fold(ingest(blocks)) = Reference(records)        for every view, every log, every cut into blocks

To the bit: counts, rejected offsets, groups, values, the exponents of Decimals, and the sign of zero.
"""

from __future__ import annotations

import dataclasses
import struct
from collections import Counter
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.definition import Source, View
from pipeline.evaluate import derive, enter
from pipeline.expressions import Field, parse
from pipeline.fold import combine, fold
from pipeline.handover import Counts
from pipeline.ingest import Ingest
from pipeline.log import Block
from pipeline.reference import Reference
from pipeline.reference.expression import Failed, compile_node, derived
from pipeline.reference.json_text import Invalid
from pipeline.reference.validation import record_of
from pipeline.reference.values import decimal_of
from pipeline.states import WINDOW_START, present, state_schema
from pipeline.types import ColumnType
from tests.strategies import Log, Record, block, blocks_of, expressions, hints, logs, pool, view_sets
from tests.strategies_values import texts

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


@PARTS
@given(hints())
def test_each_column_is_read_and_mended_alike_for_every_text(hint: Any) -> None:
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
    columns = {n: pa.array([r[n] for r in rows], ColumnType(k).arrow) for n, k in KINDS.items()}
    values, failed = derive(tree, to, columns, len(rows))
    evaluate = compile_node(tree, KINDS)
    for n, given_row in enumerate(rows):
        try:
            wanted: Any = exact(derived(evaluate(given_row), kind, to))
        except Failed:
            wanted = "failed"
        got = "failed" if failed[n] else exact(values[n].as_py())
        assert got == wanted, f"{tree} as {to} of {given_row}: fast {got}, reference {wanted}"


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
@given(SCALES, st.lists(st.integers(-(10**18) + 1, 10**18 - 1), min_size=1, max_size=200))
def test_decimals_enter_expressions_as_the_nearest_float(scale: int, unscaled: list[int]) -> None:
    type = ColumnType("decimal", scale)
    column = pa.array([decimal_of(u, scale) for u in unscaled], type.arrow)
    assert enter(column, type).to_pylist() == [float(Fraction(u, 10**scale)) for u in unscaled]
