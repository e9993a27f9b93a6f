"""Every aggregate is an exact commutative monoid, over every column type it takes; and the laws catch those that are not.

present(lift(rows)) = the value that Python's whole numbers and fractions give, to the last digit
"""

from datetime import date, datetime, time
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from itertools import product
from math import isqrt
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings

from pipeline import (
    Count,
    CountNonNull,
    DistinctCount,
    First,
    Last,
    Max,
    Mean,
    Min,
    Precision,
    Quantile,
    Scale,
    StdDev,
    Sum,
    Variance,
)
from pipeline.aggregates.base import Aggregate, Rows
from pipeline.base.errors import DefinitionError
from pipeline.laws import boundaries, check, column_types, hold

SCALES = (0, 2, 6, 7, 12)
DECIMALS = tuple(Scale(s) for s in SCALES)
WIDE = (Precision(38, 18), Precision(5, 5))
ALL = (int, Scale(2), WIDE[0], float, str, bytes, UUID, bool, datetime, date, time)
ORDERED = tuple(t for t in ALL if t is not bool)
EXACT = (int, *DECIMALS, *WIDE)
ACCEPTED: dict[type[Aggregate], tuple[Any, ...]] = {
    CountNonNull: ALL,
    Sum: EXACT,
    Mean: EXACT,
    Variance: EXACT,
    StdDev: EXACT,
    Min: ORDERED,
    Max: ORDERED,
    First: ALL,
    Last: ALL,
    DistinctCount: tuple(t for t in ALL if t is not float),
    Quantile: EXACT,
}
PAIRS = [(Count(), None)] + [(kind("x"), of) for kind, types in ACCEPTED.items() for of in types]
REFUSED = [(kind("x"), of) for kind, types in ACCEPTED.items() for of in ALL if of not in types]
GREATEST = 10**18 - 1


def name(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


def rows_of(of: Any, values: list[Any], times: list[int] | None = None) -> Rows:
    """One row per value, at offsets 0, 1, 2 ... of partition 0, all at one time unless told."""
    columns = tuple(pa.array(values, type.arrow) for type in column_types(of))
    count = len(values)
    at = np.zeros(count, np.int64) if times is None else np.array(times, np.int64)
    return Rows(columns, at, np.zeros(count, np.int64), np.arange(count, dtype=np.int64))


def value_of(aggregate: Aggregate, of: Any, values: list[Any]) -> Any:
    """What the aggregate presents for one group of values."""
    measure = aggregate.over(*column_types(of))
    state = measure.lift(rows_of(of, values), np.zeros(len(values), np.int64), 1)
    return measure.present(state)[0].as_py()


@pytest.mark.parametrize(("aggregate", "of"), PAIRS, ids=name)
def test_every_aggregate_keeps_the_laws_on_drawn_rows(aggregate: Aggregate, of: Any) -> None:
    hold(aggregate, of, examples=20)


@pytest.mark.parametrize(("aggregate", "of"), PAIRS, ids=name)
def test_every_aggregate_keeps_the_laws_on_all_boundary_values_at_once(aggregate: Aggregate, of: Any) -> None:
    values = [None, *boundaries(of), None, *reversed(boundaries(of))]
    count = len(values)
    for groups, splits in product((1, 3, 40), ((), (1,), (count // 2,), tuple(range(0, count, 3)))):
        group = np.arange(count, dtype=np.int64) * 7 % groups
        check(aggregate, of, rows_of(of, values), group=group, groups=groups + 1, splits=splits)


@pytest.mark.parametrize(("aggregate", "of"), PAIRS, ids=name)
def test_every_aggregate_keeps_the_laws_without_rows_and_without_values(aggregate: Aggregate, of: Any) -> None:
    check(aggregate, of, rows_of(of, []), groups=3)
    check(aggregate, of, rows_of(of, [None] * 9), group=[0, 0, 0, 2, 2, 2, 2, 2, 2], groups=4)


@pytest.mark.parametrize(("aggregate", "of"), REFUSED, ids=name)
def test_an_aggregate_refuses_the_types_it_has_no_exact_meaning_for(aggregate: Aggregate, of: Any) -> None:
    with pytest.raises(DefinitionError, match="allowed are"):
        check(aggregate, of, rows_of(of, []))


# --- what is presented, against Python's own whole numbers and fractions ---------------------------------------------


def fraction_sum(values: list[Decimal], scale: int) -> Decimal | None:
    return _decimal(sum(map(Fraction, values)), scale) if values else None


def fraction_mean(values: list[Decimal], scale: int) -> Decimal | None:
    return _decimal(sum(map(Fraction, values)) / len(values), scale + 6) if values else None


def fraction_variance(values: list[Decimal], scale: int) -> Decimal | None:
    return _decimal(_variance(values), scale + 6) if len(values) > 1 else None


def fraction_stddev(values: list[Decimal], scale: int) -> Decimal | None:
    """The root to 200 digits, rounded once; a root that ends in a half there would be rational, and then it is exact."""
    if len(values) < 2:
        return None
    variance, places = _variance(values), scale + 6
    exact = Fraction(isqrt(variance.numerator * variance.denominator), variance.denominator)
    if exact * exact == variance:
        return _decimal(exact, places)
    wide = Context(prec=200)
    root = wide.sqrt(wide.divide(Decimal(variance.numerator), Decimal(variance.denominator)))
    return root.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, wide)


def _variance(values: list[Decimal]) -> Fraction:
    """The textbook's: the mean of squared distances from the mean (not the power sums that the kernels use)."""
    exact = [Fraction(v) for v in values]
    mean = sum(exact) / len(exact)
    return sum(((v - mean) ** 2 for v in exact), Fraction(0)) / (len(exact) - 1)


def _decimal(value: Fraction, places: int) -> Decimal:
    """Rounded half away from zero."""
    scaled = abs(value) * 10**places
    whole = scaled.numerator // scaled.denominator
    whole += scaled - whole >= Fraction(1, 2)
    digits = tuple(map(int, str(whole)))
    return Decimal((int(value < 0 and whole > 0), digits, -places))


NUMBERS = st.one_of(
    st.integers(-GREATEST, GREATEST),
    st.sampled_from((GREATEST, -GREATEST, 2**53 + 1, 0, 1, -1)),
    st.integers(-20, 20),
)
PRESENTED = {Sum: fraction_sum, Mean: fraction_mean, Variance: fraction_variance, StdDev: fraction_stddev}


@pytest.mark.parametrize("kind", PRESENTED, ids=name)
@settings(max_examples=80, deadline=None, database=None)
@given(scale=st.sampled_from(SCALES), unscaled=st.lists(st.none() | NUMBERS, max_size=20))
@example(scale=2, unscaled=[GREATEST] * 20)
@example(scale=12, unscaled=[GREATEST, -GREATEST])
@example(scale=0, unscaled=[0, 1])  # variance 0.5, its root irrational
@example(scale=7, unscaled=[1, 2])  # the square of the unit is finer than scale + 6
@example(scale=12, unscaled=[0, 1])
@example(scale=6, unscaled=[0, 2])
@example(scale=0, unscaled=[1] * 64 + [0] * 64 + [None])
def test_exact_numbers_are_presented_as_fractions_give_them(
    kind: type[Aggregate], scale: int, unscaled: list[int | None]
) -> None:
    values = [None if u is None else Decimal(u).scaleb(-scale, Context(prec=40)) for u in unscaled]
    got = value_of(kind("x"), Scale(scale), values)
    want = PRESENTED[kind]([v for v in values if v is not None], scale)
    assert got == want
    assert got is None or got.as_tuple().exponent == want.as_tuple().exponent  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", PRESENTED, ids=name)
@settings(max_examples=60, deadline=None, database=None)
@given(values=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9), max_size=20))
@example(values=[-(2**63)] * 19)
@example(values=[2**63 - 1] * 19)
@example(values=[-(2**63), 2**63 - 1])
def test_whole_numbers_are_presented_as_fractions_give_them(kind: type[Aggregate], values: list[int | None]) -> None:
    assert value_of(kind("x"), int, values) == PRESENTED[kind]([Decimal(v) for v in values if v is not None], 0)


@pytest.mark.parametrize(
    ("kind", "of", "values", "want"),
    [
        (Mean, Scale(0), ["1", "2"], "1.500000"),
        (Mean, Scale(0), ["-1", "-1", "0"], "-0.666667"),
        (Mean, Scale(2), ["0.01", None, "0.02"], "0.01500000"),
        (Sum, Scale(2), ["0.10", "0.20"], "0.30"),
        (Sum, Scale(2), [], None),
        (Sum, Scale(2), [None], None),
        (Variance, Scale(0), ["1"], None),
        (Variance, Scale(0), ["1", "2"], "0.500000"),
        (Variance, Scale(0), ["1", "2", "4"], "2.333333"),
        (StdDev, Scale(0), ["1", "3"], "1.414214"),
        (StdDev, Scale(0), ["5", "5"], "0.000000"),
        (StdDev, Scale(1), ["0.0", "0.6", "1.2"], "0.6000000"),
    ],
)
def test_known_values(kind: type[Aggregate], of: Any, values: list[str | None], want: str | None) -> None:
    got = value_of(kind("x"), of, [None if v is None else Decimal(v) for v in values])
    assert (None if got is None else str(got)) == want


@pytest.mark.parametrize(
    ("total", "count", "want"),
    [
        (1, 2_000_000, "0.000001"),
        (-1, 2_000_000, "-0.000001"),
        (1, 2_000_001, "0.000000"),
        (-1, 2_000_001, "0.000000"),
        (3, 2_000_000, "0.000002"),
    ],
)
def test_a_mean_is_rounded_half_away_from_zero_and_not_half_even(total: int, count: int, want: str) -> None:
    state = (pa.array([count]), pa.array([Decimal(total)], pa.decimal128(38, 0)))
    assert str(Mean("x").over(*column_types(int)).present(state)[0].as_py()) == want
    if count == 2_000_000 and abs(total) == 1:
        assert Decimal("5E-7").quantize(Decimal("0.000001"), ROUND_HALF_EVEN) == 0


def test_counts_are_never_null_and_count_nulls_as_sql_does() -> None:
    assert value_of(CountNonNull("x"), str, []) == 0
    assert value_of(CountNonNull("x"), str, [None, "", None, "a"]) == 2
    assert value_of(Count(), None, [None] * 3) == 3


@pytest.mark.parametrize("of", ORDERED, ids=name)
def test_min_and_max_are_pythons_min_and_max(of: Any) -> None:
    values = boundaries(of)
    for shuffled in (values, values[::-1], [None, *values[1:], values[0], None]):
        assert value_of(Min("x"), of, shuffled) == min(values)
        assert value_of(Max("x"), of, shuffled) == max(values)
    assert value_of(Min("x"), of, [None]) is None


def test_text_is_ordered_by_code_point() -> None:
    words = ["z", "Z", "ä", "\uffff", "\U0001f327", "", "zz"]
    assert value_of(Max("x"), str, words) == "\U0001f327"  # UTF-16 would put U+FFFF above it
    assert value_of(Min("x"), str, words[:5]) == "Z"


def test_first_and_last_break_ties_by_time_then_partition_then_offset_and_skip_nulls() -> None:
    column = pa.array(["a", "b", None, "d", "e"])
    order = [(5, 0, 9), (5, 1, 3), (1, 0, 0), (5, 0, 8), (5, 1, 4)]
    at, partition, offset = (np.array(c, np.int64) for c in zip(*order, strict=True))
    rows, group = Rows((column,), at, partition, offset), np.zeros(5, np.int64)
    first, last = First("x").over(*column_types(str)), Last("x").over(*column_types(str))
    assert first.present(first.lift(rows, group, 1))[0].as_py() == "d"
    assert last.present(last.lift(rows, group, 1))[0].as_py() == "e"
    assert [a[0].as_py() for a in last.lift(rows, group, 1)][1:] == [1, 4, "e"]
