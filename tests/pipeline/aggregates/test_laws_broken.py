"""The laws catch aggregates that break them, say which law, and show the states on both sides."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline import Count, CountNonNull, First, Max, Sum
from pipeline.aggregates import Aggregate, Measure, Rows, State, StateField
from pipeline.aggregates.counts import CountMeasure
from pipeline.aggregates.extremes import FirstMeasure
from pipeline.aggregates.sums import SumMeasure
from pipeline.base.errors import DefinitionError
from pipeline.columns.arrays import Ints
from pipeline.laws import LawBroken, check, column_types, hold, same_bits


def name(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


def rows_of(of: Any, values: list[Any], times: list[int] | None = None) -> Rows:
    """One row per value, at offsets 0, 1, 2 ... of partition 0, all at one time unless told."""
    columns = tuple(pa.array(values, type.arrow) for type in column_types(of))
    count = len(values)
    at = np.zeros(count, np.int64) if times is None else np.array(times, np.int64)
    return Rows(columns, at, np.zeros(count, np.int64), np.arange(count, dtype=np.int64))


class FloatSumMeasure(Measure):
    fields = (StateField("sum", pa.float64(), "double precision"),)

    def lift(self, rows: Rows, group: Ints, groups: int) -> State:
        return self._add(pc.fill_null(rows.column, 0.0), group, groups)

    def merge(self, states: State, group: Ints, groups: int) -> State:
        return self._add(states[0], group, groups)

    def _add(self, values: pa.Array, group: Ints, groups: int) -> State:
        out = np.zeros(groups)
        with np.errstate(over="ignore", invalid="ignore"):
            np.add.at(out, group, values.to_numpy(zero_copy_only=False))
        return (pa.array(out),)

    def sql(self, fields: Mapping[str, str]) -> str:
        return f"sum({fields['sum']})"


@dataclass(frozen=True)
class FloatSum(Aggregate):
    """The usual one: adds doubles."""

    measure = FloatSumMeasure


class FirstByArrivalMeasure(FirstMeasure):
    def merge(self, states: State, group: Ints, groups: int) -> State:
        rows = len(group)
        arrival = pa.array(np.arange(rows, dtype=np.int64))
        best = super().merge((states[0], pa.array(np.zeros(rows, np.int64)), arrival, states[3]), group, groups)
        return tuple(column.take(best[2]) for column in states)


@dataclass(frozen=True)
class FirstByArrival(First):
    """Breaks ties by the order in which rows stand in the batch."""

    measure = FirstByArrivalMeasure


class MeanOfMeansMeasure(FloatSumMeasure):
    def _add(self, values: pa.Array, group: Ints, groups: int) -> State:
        total, count = np.zeros(groups), np.zeros(groups)
        with np.errstate(over="ignore", invalid="ignore"):
            np.add.at(total, group, np.nan_to_num(values.to_numpy(zero_copy_only=False), posinf=0, neginf=0))
            np.add.at(count, group, 1)
            return (pa.array(total / np.maximum(count, 1)),)


@dataclass(frozen=True)
class MeanOfMeans(FloatSum):
    """The mean of a batch as its state."""

    measure = MeanOfMeansMeasure


class CountFromOneMeasure(CountMeasure):
    def merge(self, states: State, group: Ints, groups: int) -> State:
        return (pc.add(super().merge(states, group, groups)[0], 1),)


@dataclass(frozen=True)
class CountFromOne(CountNonNull):
    """Its zero is not the identity."""

    measure = CountFromOneMeasure


class LeftMostMeasure(CountMeasure):
    def merge(self, states: State, group: Ints, groups: int) -> State:
        out = np.zeros(groups, np.int64)
        for g, n in zip(group.tolist(), states[0].to_pylist(), strict=True):
            out[g] = out[g] or n
        return (pa.array(out),)


@dataclass(frozen=True)
class LeftMost(CountNonNull):
    """⊕ keeps its left side: associative, but not commutative."""

    measure = LeftMostMeasure


class CountOfAllMeasure(CountMeasure):
    def lift(self, rows: Rows, group: Ints, groups: int) -> State:
        return (
            pa.array(np.bincount(group, minlength=groups) * 0 + len(rows) * (np.bincount(group, minlength=groups) > 0)),
        )


@dataclass(frozen=True)
class CountOfAll(CountNonNull):
    """Forgets the groups."""

    measure = CountOfAllMeasure


class SliceBlindMeasure(SumMeasure):
    def lift(self, rows: Rows, group: Ints, groups: int) -> State:
        buffer = rows.column.buffers()[1]
        whole = np.frombuffer(buffer, np.int64) if buffer is not None else np.empty(0, np.int64)
        column = pa.array(whole[: len(rows)], mask=~np.asarray(rows.column.is_valid().to_numpy(zero_copy_only=False)))
        return super().lift(Rows((column,), rows.event_time_us, rows.partition, rows.offset), group, groups)


@dataclass(frozen=True)
class SliceBlind(Sum):
    """Reads a buffer from its start, whatever the array's offset."""

    measure = SliceBlindMeasure


class OtherTypeMeasure(CountMeasure):
    def present(self, state: State) -> pa.Array:
        return state[0].cast(pa.int32())


@dataclass(frozen=True)
class OtherType(CountNonNull):
    """Declares bigint and gives another type."""

    measure = OtherTypeMeasure


class CountsItsCallsMeasure(CountMeasure):
    calls = [0]  # noqa: RUF012  (the fault planted here)

    def present(self, state: State) -> pa.Array:
        self.calls[0] += 1
        return pa.array(np.full(len(state[0]), self.calls[0]))


@dataclass(frozen=True)
class CountsItsCalls(CountNonNull):
    """Presents something that is not in the state."""

    measure = CountsItsCallsMeasure


@dataclass(frozen=True)
class Hidden(CountNonNull):
    """Has a parameter that its canonical form leaves out, so that the fingerprint of a view would not show a change."""

    least: int = 17

    def canonical(self) -> str:
        return f"Hidden({self.column!r})"


@pytest.mark.parametrize(
    ("aggregate", "of", "law"),
    [
        (FloatSum("x"), float, "commutativity|associativity|concatenation"),
        (FirstByArrival("x"), int, "commutativity"),
        (MeanOfMeans("x"), float, "identity"),
        (CountFromOne("x"), int, "identity|zero|declared"),
        (LeftMost("x"), int, "commutativity|concatenation"),
        (CountOfAll("x"), int, "separation|concatenation|zero"),
        (SliceBlind("x"), int, "concatenation"),
        (OtherType("x"), int, "declared"),
        (CountsItsCalls("x"), int, "presentation"),
        (Hidden("x"), int, "definition"),
    ],
    ids=name,
)
def test_an_aggregate_that_breaks_a_law_is_caught(aggregate: Aggregate, of: Any, law: str) -> None:
    with pytest.raises(LawBroken, match=f"breaks ({law})") as caught:
        hold(aggregate, of, examples=1000)  # it ends at the first that breaks
    assert caught.value.law in law.split("|")
    assert str(aggregate) in str(caught.value)


def test_a_broken_law_shows_the_states_on_both_sides() -> None:
    rows = rows_of(float, [0.1, 0.2, 0.3])
    with pytest.raises(LawBroken) as caught:
        check(FloatSum("x"), float, rows, groups=1, splits=(1, 2))
    text = str(caught.value)
    assert "FloatSum('x') over float breaks" in text
    assert "left side = (sum=[0.6])" in text or "right side = (sum=[0.6])" in text
    assert "0.6000000000000001" in text


def test_hold_runs_without_complaint_over_a_lawful_aggregate_of_ones_own() -> None:
    @dataclass(frozen=True)
    class Own(Max):
        pass

    Own.__qualname__ = "Own"
    globals()["Own"] = Own
    hold(Own("x"), str, examples=20)


@pytest.mark.parametrize(
    ("problem", "changes"),
    [
        ("needs int64", {"rows": rows_of(str, ["a"])}),
        ("are not in", {"group": [3], "groups": 2}),
        ("lengths", {"group": [0, 0]}),
        ("splits", {"splits": (2,)}),
    ],
)
def test_check_says_what_is_wrong_with_its_own_input(problem: str, changes: dict[str, Any]) -> None:
    given_rows = changes.pop("rows", rows_of(int, [1]))
    with pytest.raises(ValueError, match=problem):
        check(Sum("x"), int, given_rows, **changes)


def test_check_refuses_two_rows_at_one_offset() -> None:
    rows = rows_of(int, [1, 2])
    twice = Rows(rows.columns, rows.event_time_us, rows.partition, np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="same partition and offset"):
        check(Sum("x"), int, twice)


def test_same_bits_sees_what_arrows_equality_does_not() -> None:
    zero, minus = pa.array([0.0]), pa.array([-0.0])
    nan = pa.array([float("nan")])
    assert zero.equals(minus)
    assert not same_bits(zero, minus)
    assert not nan.equals(nan)
    assert same_bits(nan, nan)
    assert not same_bits(pa.array([1, None]), pa.array([1, 0]))
    assert not same_bits(pa.array([1]), pa.array([1], pa.int32()))
    assert same_bits(pa.array([9, None, 1]).slice(1), pa.array([None, 1]))


def test_same_bits_looks_into_lists_and_structs() -> None:
    assert same_bits(pa.array([[0.0], None, []]), pa.array([[0.0], None, []]))
    assert not same_bits(pa.array([[0.0]]), pa.array([[-0.0]]))
    assert not same_bits(pa.array([[1], [2]]), pa.array([[1, 2], []]))
    assert not same_bits(pa.array([{"a": 0.0}]), pa.array([{"a": -0.0}]))


def test_without_hypothesis_hold_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(DefinitionError, match="pip install hypothesis"):
        hold(Count())
    check(Count(), None, rows_of(None, [None] * 3))  # needs none
