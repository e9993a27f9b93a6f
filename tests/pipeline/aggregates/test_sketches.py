"""DistinctCount and Quantile: within their error bounds, and the same bits from the kernels as from plain Python.

present(⊕ states) = reference(values)        |quantile - exact| <= 1 %        |distinct - exact| <= 5 sigma
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from fractions import Fraction
from math import floor, sqrt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline import DistinctCount, Quantile, Scale
from pipeline.aggregates.base import Aggregate, Rows
from pipeline.aggregates.sketches import ALPHA, _estimate
from pipeline.base.errors import DefinitionError
from pipeline.base.types import INT_MAX, INT_MIN
from pipeline.kernels.sketches import MAX_RANK, REGISTERS, SPARSE, buckets_of
from pipeline.laws import boundaries, check, column_type, column_types, hold
from pipeline.plain.groups import group_class, new_group
from pipeline.plain.sketches import bucket, middle, sip_hash
from tests.support.sketches import QS, SIGMA, VALUES, lifted, registers_of, unscaled, whole

COUNTED = (int, Scale(2), str, bool, datetime, date)


def value_of(aggregate: Aggregate, of: Any, given_values: Any) -> Any:
    return aggregate.over(*column_types(of)).present(lifted(aggregate, of, given_values))[0].as_py()


def by_reference(aggregate: Aggregate, of: Any, given_values: Sequence[Any]) -> Any:
    group = new_group(group_class(aggregate, "test"), aggregate, column_type(of))
    for value in given_values:
        group.add((datetime(2013, 1, 1, tzinfo=UTC), 0, 0), value)
    return group.value()


# ---------------------------------------------------------------- against the plain-Python reference


@pytest.mark.parametrize("of", COUNTED, ids=str)
def test_a_distinct_count_is_the_references(of: Any) -> None:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.none() | VALUES[of] | st.sampled_from(boundaries(of)), max_size=30))
    @example(boundaries(of))
    def same(drawn: list[Any]) -> None:
        assert value_of(DistinctCount("x"), of, drawn) == by_reference(DistinctCount("x"), of, drawn)

    same()


@pytest.mark.parametrize("size", [1000, 1700, 1800, 4096, 30_000])
def test_a_distinct_count_of_many_values_is_the_references(size: int) -> None:
    """1700 to 1800 values set about 1365 registers: on both sides of the step from the short form to the long one."""
    numbers = np.random.default_rng(size).integers(INT_MIN, INT_MAX, size).tolist()
    assert value_of(DistinctCount("x"), int, numbers) == by_reference(DistinctCount("x"), int, numbers)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | whole, max_size=40), st.sampled_from(QS))
@example([INT_MIN, INT_MAX], 0)
@example([INT_MIN, INT_MAX], 1)
def test_a_quantile_of_whole_numbers_is_the_references(drawn: list[int | None], q: float) -> None:
    found, wanted = value_of(Quantile("x", q), int, drawn), by_reference(Quantile("x", q), int, drawn)
    assert (found, found and found.as_tuple()) == (wanted, wanted and wanted.as_tuple())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | unscaled, max_size=40), st.sampled_from(QS), st.integers(0, 12))
def test_a_quantile_of_decimals_is_the_references(drawn: list[int | None], q: float, scale: int) -> None:
    numbers = [None if n is None else Decimal(n).scaleb(-scale, Context(prec=30)) for n in drawn]
    found, wanted = (how(Quantile("x", q), Scale(scale), numbers) for how in (value_of, by_reference))
    assert (found, found and found.as_tuple()) == (wanted, wanted and wanted.as_tuple())


def test_the_references_hash_gives_the_published_vectors() -> None:
    # The first 8 bytes, for messages of 0, 1, 2 bytes
    published = ["a3817f04ba25a8e6", "da87c1d86b99af44", "8177228da4a45dc7"]
    assert [sip_hash(bytes(range(n))).to_bytes(8, "little").hex() for n in range(3)] == published


# ---------------------------------------------------------------- how far from the truth


@settings(max_examples=1000, deadline=None)
@given(whole)
@example(INT_MIN)
@example(128)
def test_every_number_lies_within_one_128th_of_its_buckets_middle(number: int) -> None:
    found = middle(bucket(number))
    assert abs(found - number) * 128 < abs(number) or found == number
    assert found == number or abs(number) >= 128
    assert int(buckets_of(np.array([number]))[0]) == bucket(number)


def test_buckets_are_in_the_order_of_their_numbers() -> None:
    edges = np.unique(
        [sign * ((s << k) + d) for k in range(57) for s in (64, 65, 100, 127) for d in (-1, 0, 1) for sign in (-1, 1)]
    )
    found = buckets_of(edges)
    assert (np.diff(found) >= 0).all()
    assert found.tolist() == [bucket(int(n)) for n in edges]
    assert buckets_of(np.array([0, INT_MIN, INT_MAX])).tolist() == [0, -3712, 3711]


def drawn_numbers(shape: str, random: np.random.Generator) -> Any:
    match shape:
        case "latency":
            return np.exp(random.normal(12, 2, 50_001)).astype(np.int64)
        case "around zero":
            return random.normal(0, 10**6, 50_000).astype(np.int64)
        case "whole range":
            return random.integers(INT_MIN, INT_MAX, 30_000)
        case "two far apart":
            return np.where(random.random(9_999) < 0.9, 1000, -(10**15)) + random.integers(0, 9, 9_999)
    return np.full(77, -123_456_789)


@pytest.mark.parametrize("shape", ["latency", "around zero", "whole range", "two far apart", "all the same"])
@pytest.mark.parametrize("q", QS)
def test_a_quantile_is_within_one_percent_of_the_exact_one(shape: str, q: float) -> None:
    numbers = drawn_numbers(shape, np.random.default_rng(7))
    exact = int(np.sort(numbers)[floor(Fraction(str(q)) * (len(numbers) - 1))])
    found = value_of(Quantile("x", q), int, pa.array(numbers))
    assert abs(Fraction(found) - exact) <= abs(Fraction(exact)) / 100


def test_the_rank_of_a_quantile_is_that_of_the_decimal_as_written() -> None:
    """0.29 as a float is below 29/100: 0.29 * 100 is 28.999999999999996, and its floor one rank too low."""
    assert floor(0.29 * 100) == 28
    assert value_of(Quantile("x", 0.29), int, list(range(101))) == 29


def test_quantiles_of_small_numbers_are_exact_and_of_none_null() -> None:
    assert [
        str(value_of(Quantile("x", q), Scale(2), [Decimal("-1.27"), None, Decimal("1.27")])) for q in (0, 0.9, 1)
    ] == [
        "-1.27000000",
        "-1.27000000",
        "1.27000000",
    ]
    assert value_of(Quantile("x", 0.5), int, [None]) is None


SEEDS = 20


@pytest.mark.parametrize("size", [1, 2, 10, 100, 1000, 4096, 10_240, 20_480, 100_000])
def test_distinct_counts_are_within_five_sigma_and_without_bias(size: int) -> None:
    """10,240 and 20,480 are 2.5 and 5 values a register: where the first HyperLogLog was biased."""
    errors = []
    for seed in range(SEEDS):
        numbers = np.random.default_rng([seed, size]).integers(INT_MIN, INT_MAX, size)
        errors.append(
            value_of(DistinctCount("x"), int, pa.array(np.concatenate([numbers, numbers]))) / len(np.unique(numbers))
            - 1
        )
    assert max(map(abs, errors)) < 5 * SIGMA
    assert abs(sum(errors) / SEEDS) < 5 * SIGMA / sqrt(SEEDS)


@pytest.mark.parametrize("of", [int, str], ids=str)
def test_a_million_distinct_values_are_counted_within_five_sigma(of: Any) -> None:
    """1, 2, 3, ...: values that differ in few bits."""
    numbers = pa.array(np.arange(1_000_000))
    found = value_of(DistinctCount("x"), of, numbers if of is int else numbers.cast(pa.string()))
    assert abs(found / 1_000_000 - 1) < 5 * SIGMA


def test_the_constants_of_the_estimate_are_those_of_mathematics() -> None:
    wide = Context(prec=60)
    assert round(wide.divide(Decimal(2**64), 2 * wide.ln(Decimal(2)))) == ALPHA
    for unset in (4095, 4000, 2048, 100, 1, 0):
        x, sigma = wide.divide(Decimal(unset), Decimal(REGISTERS)), wide.divide(Decimal(unset), Decimal(REGISTERS))
        for k in range(1, 40):
            x = wide.multiply(x, x)
            sigma = wide.add(sigma, wide.multiply(x, Decimal(2 ** (k - 1))))
        ranks = [unset, REGISTERS - unset] + [0] * (MAX_RANK - 1)
        exact = Decimal(REGISTERS**2) / (2 * wide.ln(Decimal(2))) / (REGISTERS * sigma + Decimal(REGISTERS - unset) / 2)
        assert abs(_estimate(ranks) - exact) < Decimal("0.5000001")


# ---------------------------------------------------------------- definition and form


@pytest.mark.parametrize(
    "q", [-0.1, 1.1, float("nan"), float("inf"), "0.5", None, True, Decimal("0.1234567890123456789"), 1e-300]
)
def test_a_quantile_outside_of_zero_to_one_is_refused(q: Any) -> None:
    with pytest.raises(DefinitionError, match="allowed is a number from 0 to 1 with at most 18 decimals"):
        Quantile("x", q)


def test_what_decides_the_value_is_in_the_canonical_form() -> None:
    assert Quantile("x", 0.5) == Quantile("x", Decimal("0.50")) == Quantile("x")
    assert len({Quantile("x", q).canonical() for q in (0.5, Decimal("0.50"))}) == 1
    assert len({Quantile("x", q).canonical() for q in (1, 1.0, Decimal("1.000"))}) == 1
    assert len({Quantile("x", q).canonical() for q in (*QS, -0.0)}) == len(QS)
    assert "Decimal('0.99')" in Quantile("x", 0.99).canonical() and "buckets=64" in Quantile("x", 0.99).canonical()
    assert "precision=12" in DistinctCount("x").canonical()
    assert str(Quantile("x", 0.99)) == "Quantile('x', 0.99)"


def test_the_laws_hold_for_every_q() -> None:
    for q in (0, 0.99, 1):
        hold(Quantile("x", q), int, examples=10)


@pytest.mark.parametrize("size", [1600, 1700, 1800, 5000])
def test_the_laws_hold_on_both_sides_of_the_step_to_the_long_form(size: int) -> None:
    column = pa.array(np.random.default_rng(size).integers(INT_MIN, INT_MAX, size))
    place = np.arange(size, dtype=np.int64)
    for aggregate in (DistinctCount("x"), Quantile("x")):
        check(aggregate, int, Rows((column,), place, place, place), splits=(size // 3, size // 2), groups=2)


def test_the_shorter_form_of_the_registers_is_taken() -> None:
    def packed(registers: int) -> bytes:
        return registers_of(np.arange(registers), np.ones(registers, np.int64))

    assert [len(packed(n)) for n in (0, 1, SPARSE, SPARSE + 1, REGISTERS)] == [0, 3, 4095, 4096, 4096]
    assert packed(2) == bytes([0, 0, 1, 0, 1, 1])
