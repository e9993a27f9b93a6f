"""An expression over a block means what it means on each row; what cannot be computed rejects its own record.

evaluate(tree, rows)[i] = evaluate(tree, rows[i])        a float becomes the decimal nearest to its exact value, half even
"""

from datetime import date
from decimal import Decimal
from fractions import Fraction
from math import isnan
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings

from pipeline import (
    Count,
    CountNonNull,
    Derived,
    First,
    Scale,
    Sum,
)
from pipeline.base.types import ColumnType
from pipeline.definition.expressions import parse
from pipeline.fold.evaluate import derive, enter
from pipeline.fold.fold import fold
from tests.support.readings import EPOCH, ROW, SOURCE, US, batch, rows_of, view

# --- row-wise means row-wise ----------------------------------------------------------------------------------------------

RATIO = {"ratio": Derived(pc.field("a") / pc.field("b"), Scale(2))}


def test_a_division_by_zero_rejects_its_own_record_and_no_other() -> None:
    one = view(derive=RATIO, aggregates={"rows": Count(), "sum": Sum("ratio")})
    rows = [{"a": Decimal(1), "b": Decimal(2)}, {"a": Decimal(1), "b": Decimal(0)}, {"a": Decimal(3), "b": Decimal(4)}]
    got = fold(one, batch(rows))
    assert got.rejected.tolist() == [1]
    assert got.reasons == ["ratio: divide_checked(a, b) cannot be computed as decimal(18, 2)"]
    assert (got.counts.folded, got.counts.filtered, got.counts.rejected) == (2, 0, 1)
    assert [(r["rows"], r["sum"]) for r in rows_of(one, got)] == [(2, Decimal("1.25"))]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 100])
@pytest.mark.parametrize("every", [1, 2, 3, 50])
def test_a_block_with_many_failing_rows_rejects_exactly_those(count: int, every: int) -> None:
    one = view(derive=RATIO, aggregates={"rows": Count()})
    rows = [{"a": Decimal(i), "b": Decimal(0 if i % every == 0 else 1)} for i in range(count)]
    got = fold(one, batch(rows))
    assert got.rejected.tolist() == [i for i in range(count) if i % every == 0]
    assert got.counts.folded == count - len(got.rejected)


def test_a_null_operand_gives_null_and_fails_nothing() -> None:
    one = view(derive=RATIO, aggregates={"rows": Count(), "ratios": CountNonNull("ratio"), "sum": Sum("ratio")})
    got = fold(one, batch([{"a": None, "b": Decimal(0)}, {"a": Decimal(1), "b": None}, {}]))
    assert got.counts.rejected == 0
    assert [(r["rows"], r["ratios"], r["sum"]) for r in rows_of(one, got)] == [(3, 0, None)]


N, F, A = pc.field("n"), pc.field("f"), pc.field("a")
FAILURES: list[tuple[str, Any, Any, list[dict[str, Any]], list[Any]]] = [
    # (what, expression, type, rows, the value of each row, "fails" or None)
    ("int overflow", N + 1, int, [{"n": 2**63 - 1}, {"n": 2**63 - 2}, {}], ["fails", 2**63 - 1, None]),
    ("int underflow", N - 1, int, [{"n": -(2**63)}, {"n": 0}], ["fails", -1]),
    ("int product", N * N, int, [{"n": 2**32}, {"n": -(2**31)}], ["fails", 2**62]),
    ("int quotient", N / N, int, [{"n": 0}, {"n": 7}], ["fails", 1]),
    ("int division cuts towards zero", N / 2, int, [{"n": -3}, {"n": 3}], [-1, 1]),
    ("least by minus one", N / -1, int, [{"n": -(2**63)}, {"n": 5}], ["fails", -5]),
    ("negation", pc.negate_checked(N), int, [{"n": -(2**63)}, {"n": 5}], ["fails", -5]),
    ("absolute", pc.abs_checked(N), int, [{"n": -(2**63)}, {"n": -5}], ["fails", 5]),
    ("root", pc.sqrt(F), float, [{"f": -1.0}, {"f": 4.0}, {}], ["fails", 2.0, None]),
    ("checked root", pc.sqrt_checked(F), float, [{"f": -1.0}, {"f": 4.0}], ["fails", 2.0]),
    ("float overflow", F * F, float, [{"f": 1e200}, {"f": 3.0}], ["fails", 9.0]),
    ("float to decimal", F * 1, Scale(2), [{"f": 1e16}, {"f": 9999999999999998.0}, {"f": -1e16}],
     ["fails", Decimal(9999999999999998), "fails"]),
    ("rounded up to the limit", F * 1, Scale(0), [{"f": 999999999999999999.0}], ["fails"]),
    ("NaN", pc.sqrt(F), Scale(2), [{"f": -1.0}, {"f": 2.0}], ["fails", Decimal("1.41")]),
    ("float to int", F * 1, int, [{"f": 1.5}, {"f": 2.0}, {"f": 9.3e18}, {"f": -9223372036854775808.0}], ["fails", 2, "fails", -(2**63)]),
    ("cast to int", F.cast(pa.int64()), int, [{"f": 1.5}, {"f": -2.0}, {"f": 1e300}], ["fails", -2, "fails"]),
    ("int to float", N * 1, float, [{"n": 2**53 + 1}, {"n": 2**53}, {"n": -(2**53)}], ["fails", 2.0**53, -(2.0**53)]),
    ("int beside float", N + F, float, [{"n": 2**53 + 1, "f": 1.0}, {"n": 1, "f": 0.5}], ["fails", 1.5]),
    ("int to decimal", N * 1, Scale(2), [{"n": 10**16}, {"n": 10**16 - 1}, {"n": -(2**63)}], ["fails", Decimal(10**16 - 1), "fails"]),
    ("decimal as float", A * 3, Scale(2), [{"a": Decimal("0.10")}, {"a": Decimal("9999999999999999.99")}], [Decimal("0.30"), "fails"]),
    ("half even", F * 1, Scale(2), [{"f": 2.675}, {"f": 0.125}, {"f": 0.375}, {"f": -0.125}],
     [Decimal("2.67"), Decimal("0.12"), Decimal("0.38"), Decimal("-0.12")]),
    ("celsius", (A - 32) * 5 / 9, Scale(2), [{"a": Decimal("50.00")}, {"a": Decimal("-40.00")}], [Decimal("10.00"), Decimal("-40.00")]),
    ("day of a time before 1970", pc.field("at").cast(pa.date32()), date, [{"at": EPOCH - US}, {"at": EPOCH}],
     [date(1969, 12, 31), date(1970, 1, 1)]),
    ("length in code points", pc.utf8_length(pc.field("note")), int, [{"note": "\u00e9\U0001f327"}, {}], [2, None]),
    ("chosen", pc.if_else(pc.field("good"), N, F), float, [{"good": True, "n": 1, "f": 0.5}, {"good": False, "n": 1, "f": 0.5}, {"n": 1}],
     [1.0, 0.5, None]),
    ("minus zero", F * -1, float, [{"f": 0.0}], [0.0]),
    ("bool", ~pc.field("good"), bool, [{"good": True}, {}], [False, None]),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "to", "rows", "want"), [f[1:] for f in FAILURES], ids=[f[0] for f in FAILURES])
def test_a_value_that_cannot_be_computed_rejects_that_record_alone(
    expression: Any, to: Any, rows: list[dict[str, Any]], want: list[Any]
) -> None:
    one = view(derive={"x": Derived(expression, to)}, key=("id",), aggregates={"x_first": First("x")})
    # Padded with rows that are fine on both sides, and each row alone: the same outcome.
    for padding in (0, 3):
        pad = [{"n": 1, "f": 1.0, "a": Decimal(1), "good": True, "note": "p"}] * padding
        got = fold(one, batch([*pad, *rows, *pad]))
        values = {r["id"]: r["x_first"] for r in rows_of(one, got)}
        failed = {str(i) for i in got.rejected.tolist()}
        assert [("fails" if str(i + padding) in failed else values[str(i + padding)]) for i in range(len(rows))] == want
        assert len(values) + len(failed) == len(rows) + 2 * padding
        assert not any(isinstance(v, float) and (isnan(v) or (np.signbit(v) and v == 0)) for v in values.values())


EXPRESSIONS: list[tuple[Any, ColumnType]] = [
    (A / pc.field("b"), ColumnType("decimal", 3)),
    (A * 3 - pc.field("b") / 7, ColumnType("float")),
    (N * N, ColumnType("int")),
    (N + F, ColumnType("float")),
    (N / (N - 1), ColumnType("int")),
    (pc.sqrt(F), ColumnType("float")),
    (F, ColumnType("int")),
    (N, ColumnType("decimal", 12)),
    (pc.if_else(pc.field("good"), A, F), ColumnType("decimal", 2)),
    (pc.coalesce(A, pc.field("b"), F), ColumnType("decimal", 0)),
    ((pc.field("b") < A) & ~pc.field("good") | pc.field("note").isin(["a", ""]), ColumnType("bool")),
    (pc.floor(F * 10), ColumnType("int")),
]


@settings(max_examples=200, deadline=None, database=None)
@given(rows=st.lists(ROW, min_size=1, max_size=12), number=st.sampled_from(range(len(EXPRESSIONS))))
def test_an_expression_over_a_block_is_the_expression_over_each_row(rows: list[dict[str, Any]], number: int) -> None:
    expression, to = EXPRESSIONS[number]
    tree, whole = parse(expression, "test"), batch(rows)
    columns = {c.name: enter(whole.column(c.name), c.type) for c in SOURCE.columns}
    values, failed = derive(tree, to, columns, len(rows))
    values.validate(full=True)
    for i in range(len(rows)):
        alone, lost = derive(tree, to, {name: c.slice(i, 1) for name, c in columns.items()}, 1)
        assert bool(lost[0]) == bool(failed[i])
        assert lost[0] or alone.to_pylist() == values.slice(i, 1).to_pylist()


@settings(max_examples=400, deadline=None, database=None)
@given(
    value=st.floats(-1e18, 1e18)
    | st.integers(-(10**9), 10**9).map(lambda i: i / 2**10)
    | st.integers(-999, 999).map(lambda i: i / 200),
    scale=st.integers(0, 12),
)
@example(value=2.675, scale=2)
@example(value=0.5, scale=0)
@example(value=1.5, scale=0)
@example(value=-2.5, scale=0)
@example(value=999999999999999999.0, scale=0)
@example(value=5e-324, scale=12)
def test_a_float_becomes_the_decimal_nearest_to_its_exact_value_half_even(value: float, scale: int) -> None:
    exact = Fraction(value) * 10**scale
    below = exact.numerator // exact.denominator
    rest = exact - below
    want = below + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1))
    got, lost = derive(parse(pc.field("x"), "test"), ColumnType("decimal", scale), {"x": pa.array([value])}, 1)
    if abs(want) >= 10**18:
        assert lost.tolist() == [True]
    else:
        assert lost.tolist() == [False]
        assert Fraction(got[0].as_py()) * 10**scale == want


@settings(max_examples=300, deadline=None, database=None)
@given(
    unscaled=st.integers(2**53, 10**18 - 1) | st.integers(1 - 10**18, -(2**53)) | st.integers(-(2**53), 2**53),
    scale=st.integers(0, 12),
)
@example(unscaled=-92577410246059121, scale=6)  # dividing the nearest double by 10**6 would round twice
@example(unscaled=983587849413808602, scale=12)
@example(unscaled=2**53 + 1, scale=3)
@example(unscaled=10**18 - 1, scale=1)
def test_a_decimal_enters_expressions_as_the_nearest_float(unscaled: int, scale: int) -> None:
    type = ColumnType("decimal", scale)
    array = pa.array([Decimal(unscaled).scaleb(-scale), None], type.arrow)
    got = enter(array, type)
    assert got.to_pylist() == [float(Fraction(unscaled, 10**scale)), None]
