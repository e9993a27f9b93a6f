"""Min, Max, First, Last: the best row of a total order, so ⊕ is "the better of the two".

Min, Max     by value (text by code point), nulls left out; null when there is none
First, Last  by (event time, partition, offset), among the rows whose value is not null
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.aggregates.base import Aggregate, Measure, Rows, State, StateField
from pipeline.base.types import INT, KINDS, TIME, ColumnType
from pipeline.columns.arrays import Ints, codes, valid
from pipeline.kernels import reduce


def _rank(array: pa.Array, type: ColumnType) -> Ints:
    """int64 that order as the values do."""
    if type.coded:
        return codes(array, type)
    return np.asarray(pc.rank(array, "ascending", tiebreaker="dense").to_numpy(), np.int64)


def _take(array: pa.Array, best: Ints) -> pa.Array:
    """The chosen rows; null where best is -1."""
    return array.take(pa.array(best, pa.int64(), mask=best < 0))


class MinMeasure(Measure):
    """The least of the values that are not null."""

    @property
    def fields(self) -> tuple[StateField, ...]:
        return (StateField("value", self.type.arrow, self.type.postgres),)

    def lift(self, rows: Rows, group: Ints, groups: int) -> State:
        return self.merge((rows.column,), group, groups)

    def merge(self, states: State, group: Ints, groups: int) -> State:
        (values,) = states
        same = np.zeros(len(values), np.int64)
        best = reduce.best_by_group(
            self._order(_rank(values, self.type)), same, same, same, valid(values), group, groups, False
        )
        return (_take(values, best),)

    def _order(self, rank: Ints) -> Ints:
        """int64 of which the least is the best."""
        return rank

    def sql(self, fields: Mapping[str, str]) -> str:
        return _best(fields["value"], self.type, "ASC") or f"min({fields['value']})"


class MaxMeasure(MinMeasure):
    """The greatest of the values that are not null."""

    def _order(self, rank: Ints) -> Ints:
        return ~rank  # -rank - 1, which cannot overflow

    def sql(self, fields: Mapping[str, str]) -> str:
        return _best(fields["value"], self.type, "DESC") or f"max({fields['value']})"


def _best(value: str, type: ColumnType, direction: str) -> str | None:
    """min or max of the types for which Postgres 15 has none; None for the others."""
    if type.kind not in ("bytes", "uuid"):
        return None
    return f"(array_agg({value} ORDER BY {value} {direction}) FILTER (WHERE {value} IS NOT NULL))[1]"


@dataclass(frozen=True)
class Min(Aggregate):
    """The least value; null when the group has none."""

    measure = MinMeasure
    kinds = tuple(kind for kind in KINDS if kind != "bool")
    why = "SQL has no min(boolean)"
    canonical_name: ClassVar[str] = "pipeline.aggregates.extremes.Min"
    ordered: ClassVar[bool] = False


@dataclass(frozen=True)
class Max(Min):
    """The greatest value; null when the group has none."""

    measure = MaxMeasure
    canonical_name: ClassVar[str] = "pipeline.aggregates.extremes.Max"


class FirstMeasure(Measure):
    """The place and the value of the best row that has one."""

    direction: ClassVar[str] = "ASC"

    @property
    def fields(self) -> tuple[StateField, ...]:
        return (
            StateField("at", pa.timestamp("us", "UTC"), "timestamptz"),
            StateField("partition", pa.int64(), "bigint"),
            StateField("offset", pa.int64(), "bigint"),
            StateField("value", self.type.arrow, self.type.postgres),
        )

    def lift(self, rows: Rows, group: Ints, groups: int) -> State:
        at = pa.array(rows.event_time_us).cast(pa.timestamp("us", "UTC"))
        return self.merge((at, pa.array(rows.partition), pa.array(rows.offset), rows.column), group, groups)

    def merge(self, states: State, group: Ints, groups: int) -> State:
        at, partition, offset = self._order(codes(states[0], TIME), codes(states[1], INT), codes(states[2], INT))
        none = np.zeros(len(at), np.int64)
        last = self.direction == "DESC"  # of the rows of one record
        best = reduce.best_by_group(none, at, partition, offset, valid(states[3]), group, groups, last)
        return tuple(_take(column, best) for column in states)

    def _order(self, at: Ints, partition: Ints, offset: Ints) -> tuple[Ints, Ints, Ints]:
        """Places of which the least is the best."""
        return at, partition, offset

    def sql(self, fields: Mapping[str, str]) -> str:
        order = ", ".join(f"{fields[f]} {self.direction}" for f in ("at", "partition", "offset"))
        return f"(array_agg({fields['value']} ORDER BY {order}) FILTER (WHERE {fields['at']} IS NOT NULL))[1]"


class LastMeasure(FirstMeasure):
    """FirstMeasure with the order turned."""

    direction: ClassVar[str] = "DESC"

    def _order(self, at: Ints, partition: Ints, offset: Ints) -> tuple[Ints, Ints, Ints]:
        return ~at, ~partition, ~offset


@dataclass(frozen=True)
class First(Aggregate):
    """The value of the earliest row that has one, by (event time, partition, offset, element); null when none has."""

    measure = FirstMeasure
    kinds = KINDS
    canonical_name: ClassVar[str] = "pipeline.aggregates.extremes.First"


@dataclass(frozen=True)
class Last(First):
    """The value of the latest row that has one, by (event time, partition, offset, element); null when none has."""

    measure = LastMeasure
    canonical_name: ClassVar[str] = "pipeline.aggregates.extremes.Last"
