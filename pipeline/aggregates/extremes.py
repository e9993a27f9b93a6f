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

from pipeline.aggregates.base import Aggregate, Ints, Rows, State, StateField, need_column
from pipeline.arrays import codes, valid
from pipeline.kernels.reduce import best_by_group
from pipeline.types import ColumnType

TIME = ColumnType("datetime")
INT = ColumnType("int")


def _rank(array: pa.Array, type: ColumnType) -> Ints:
    """int64 that order as the values do."""
    if type.kind not in ("float", "str"):
        return codes(array, type)
    return np.asarray(pc.rank(array, "ascending", tiebreaker="dense").to_numpy(), np.int64)


def _take(array: pa.Array, best: Ints) -> pa.Array:
    """The chosen rows; null where best is -1."""
    return array.take(pa.array(best, pa.int64(), mask=best < 0))


@dataclass(frozen=True)
class Min(Aggregate):
    """The least value; null when the group has none."""

    canonical_name: ClassVar[str] = "pipeline.aggregates.extremes.Min"
    ordered: ClassVar[bool] = False

    def check(self, type: ColumnType | None, what: str) -> None:
        need_column(type, what, ("int", "decimal", "float", "str", "datetime", "date"), "SQL has no min(boolean)")

    def fields(self, type: ColumnType | None) -> tuple[StateField, ...]:
        return (self.value(type),)

    def value(self, type: ColumnType | None) -> StateField:
        assert type is not None
        return StateField("value", type.arrow, type.postgres)

    def lift(self, type: ColumnType | None, rows: Rows, group: Ints, groups: int) -> State:
        assert type is not None and rows.column is not None
        return (self._best(type, rows.column, group, groups),)

    def merge(self, type: ColumnType | None, states: State, group: Ints, groups: int) -> State:
        assert type is not None
        return (self._best(type, states[0], group, groups),)

    def _best(self, type: ColumnType, values: pa.Array, group: Ints, groups: int) -> pa.Array:
        same = np.zeros(len(values), np.int64)
        best = best_by_group(_rank(values, type), same, same, same, valid(values), group, groups)
        return _take(values, best)

    def present(self, type: ColumnType | None, state: State) -> pa.Array:
        return state[0]

    def sql(self, type: ColumnType | None, fields: Mapping[str, str]) -> str:
        return f"min({fields['value']})"


@dataclass(frozen=True)
class Max(Min):
    """The greatest value; null when the group has none."""

    canonical_name: ClassVar[str] = "pipeline.aggregates.extremes.Max"

    def _best(self, type: ColumnType, values: pa.Array, group: Ints, groups: int) -> pa.Array:
        same = np.zeros(len(values), np.int64)
        best = best_by_group(~_rank(values, type), same, same, same, valid(values), group, groups)  # ~x = -x - 1 cannot overflow
        return _take(values, best)

    def sql(self, type: ColumnType | None, fields: Mapping[str, str]) -> str:
        return f"max({fields['value']})"


@dataclass(frozen=True)
class First(Aggregate):
    """The value of the earliest record that has one, by (event time, partition, offset); null when none has."""

    canonical_name: ClassVar[str] = "pipeline.aggregates.extremes.First"

    def check(self, type: ColumnType | None, what: str) -> None:
        need_column(type, what, ("int", "decimal", "float", "str", "bool", "datetime", "date"), "any column")

    def fields(self, type: ColumnType | None) -> tuple[StateField, ...]:
        return (
            StateField("at", pa.timestamp("us", "UTC"), "timestamptz"),
            StateField("partition", pa.int64(), "bigint"),
            StateField("offset", pa.int64(), "bigint"),
            self.value(type),
        )

    def value(self, type: ColumnType | None) -> StateField:
        assert type is not None
        return StateField("value", type.arrow, type.postgres)

    def lift(self, type: ColumnType | None, rows: Rows, group: Ints, groups: int) -> State:
        assert rows.column is not None
        at = pa.array(rows.event_time_us).cast(pa.timestamp("us", "UTC"))
        return self._choose((at, pa.array(rows.partition), pa.array(rows.offset), rows.column), group, groups)

    def merge(self, type: ColumnType | None, states: State, group: Ints, groups: int) -> State:
        return self._choose(states, group, groups)

    def _choose(self, states: State, group: Ints, groups: int) -> State:
        at, partition, offset = codes(states[0], TIME), codes(states[1], INT), codes(states[2], INT)
        best = best_by_group(np.zeros(len(at), np.int64), at, partition, offset, valid(states[3]), group, groups)
        return tuple(_take(column, best) for column in states)

    def present(self, type: ColumnType | None, state: State) -> pa.Array:
        return state[3]

    def _order(self) -> str:
        return "ASC"

    def sql(self, type: ColumnType | None, fields: Mapping[str, str]) -> str:
        order = ", ".join(f"{fields[f]} {self._order()}" for f in ("at", "partition", "offset"))
        return f"(array_agg({fields['value']} ORDER BY {order}) FILTER (WHERE {fields['at']} IS NOT NULL))[1]"


@dataclass(frozen=True)
class Last(First):
    """The value of the latest record that has one, by (event time, partition, offset); null when none has."""

    canonical_name: ClassVar[str] = "pipeline.aggregates.extremes.Last"

    def _choose(self, states: State, group: Ints, groups: int) -> State:
        at, partition, offset = ~codes(states[0], TIME), ~codes(states[1], INT), ~codes(states[2], INT)
        best = best_by_group(np.zeros(len(at), np.int64), at, partition, offset, valid(states[3]), group, groups)
        return tuple(_take(column, best) for column in states)

    def _order(self) -> str:
        return "DESC"
