"""Aggregates of wide decimals and of the other types of a second pass, against Python's own whole numbers and fractions."""

from collections import Counter
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings

from pipeline import Max, Mean, Min, Precision, Quantile, StdDev, Sum, Variance
from pipeline.aggregates.base import Aggregate
from pipeline.base.errors import DefinitionError
from pipeline.laws import column_types
from pipeline.plain.sketches import bucket, bucket_at, middle
from tests.pipeline.aggregates.test_laws import PRESENTED, name, value_of

MOST = 10**38 - 1
EXACT = Context(prec=200)
NUMBERS = st.one_of(
    st.integers(-MOST, MOST),
    st.sampled_from((MOST, -MOST, 2**64, -(2**64), 2**63, 2**127 // 7, 0, 1, -1)),
    st.integers(-20, 20),
)


def decimals(unscaled: list[int | None], scale: int) -> list[Decimal | None]:
    return [None if u is None else Decimal(u).scaleb(-scale, EXACT) for u in unscaled]


@pytest.mark.parametrize("kind", PRESENTED, ids=name)
@settings(max_examples=60, deadline=None, database=None)
@given(scale=st.sampled_from((7, 18, 38)), unscaled=st.lists(st.none() | NUMBERS, max_size=20))
@example(scale=18, unscaled=[MOST] * 20)
@example(scale=7, unscaled=[MOST, -MOST])
@example(scale=38, unscaled=[-MOST] * 19)
@example(scale=18, unscaled=[0, 1])
def test_wide_decimals_are_presented_as_fractions_give_them(
    kind: type[Aggregate], scale: int, unscaled: list[int | None]
) -> None:
    values = decimals(unscaled, scale)
    got = value_of(kind("x"), Precision(38, scale), values)
    want = PRESENTED[kind]([v for v in values if v is not None], scale)
    assert got == want
    assert got is None or got.as_tuple().exponent == want.as_tuple().exponent  # type: ignore[union-attr]


@settings(max_examples=80, deadline=None, database=None)
@given(st.lists(NUMBERS, min_size=1, max_size=20), st.sampled_from((0, 0.25, 0.5, 0.99, 1)))
def test_a_quantile_of_wide_decimals_is_the_middle_of_its_bucket(unscaled: list[int], q: float) -> None:
    got = value_of(Quantile("x", q), Precision(38, 0), decimals(list(unscaled), 0))
    want = middle(bucket_at(Counter(map(bucket, unscaled)), int(Decimal(str(q)) * (len(unscaled) - 1))))
    assert Fraction(got) == want
    true = sorted(unscaled)[int(Decimal(str(q)) * (len(unscaled) - 1))]
    assert abs(int(got) - true) * 100 <= abs(true) + 100


@pytest.mark.parametrize(("of", "small", "great"), [
    (bytes, b"\x7f\xff", b"\x80"),
    (bytes, b"", b"\x00"),
    (UUID, UUID(int=2**127 - 1).bytes, UUID(int=2**127).bytes),
    (Precision(38, 0), Decimal(-(2**64)), Decimal(2**63)),
], ids=str)  # fmt: skip
def test_order_is_that_of_bytes_without_a_sign_and_of_numbers_with_one(of: Any, small: Any, great: Any) -> None:
    for values in ([small, None, great], [great, small]):
        assert value_of(Min("x"), of, values) == small
        assert value_of(Max("x"), of, values) == great


def test_a_variance_beyond_the_widest_decimal_is_refused_and_says_which_is_allowed() -> None:
    with pytest.raises(
        DefinitionError, match=r"up to 83 digits .* allowed are 76; declare Precision\(34, 0\), or take StdDev"
    ):
        Variance("x").check(column_types(Precision(38, 0)), "a")
    Variance("x").check(column_types(Precision(34, 0)), "a")
    StdDev("x").check(column_types(Precision(38, 0)), "a")
    values: list[Any] = [Decimal(10**34 - 1), Decimal(1 - 10**34)]
    assert value_of(Variance("x"), Precision(34, 0), values) == Decimal(2 * (10**34 - 1) ** 2)
    assert value_of(StdDev("x"), Precision(38, 0), [Decimal(MOST), Decimal(-MOST)]) > MOST


def test_a_sum_of_so_many_of_the_greatest_does_not_overflow() -> None:
    """2^40 values by adding a state to itself: the limbs beyond 128 bits carry."""
    measure = Sum("x").over(*column_types(Precision(38, 0)))
    mean = Mean("x").over(*column_types(Precision(38, 0)))
    state: Any = (pa.array([1]), pa.array([Decimal(MOST)], pa.decimal256(76, 0)))
    for _ in range(40):
        state = measure.merge(tuple(pa.concat_arrays([a, a]) for a in state), np.zeros(2, np.int64), 1)
    assert measure.present(state)[0].as_py() == MOST * 2**40
    assert mean.present(state)[0].as_py() == MOST
