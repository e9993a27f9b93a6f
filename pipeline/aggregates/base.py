"""An aggregate is a commutative monoid with exact equality, between a lift and a presentation.

    value(group) = present( lift(rows) )                     lift(a ++ b) = lift(a) ⊕ lift(b)
    (a ⊕ b) ⊕ c = a ⊕ (b ⊕ c)      a ⊕ b = b ⊕ a      a ⊕ zero = a            all to the bit

pipeline.laws holds any aggregate to these. States are columns, one row per group: whatever merges in Arrow here is merged by the
SQL of the same aggregate in Postgres, and both must present the same bits.
"""

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from pipeline.declared import Declared
from pipeline.errors import DefinitionError
from pipeline.types import ColumnType

State = tuple[pa.Array, ...]  # one array per field, all of the same length: row i is the state of group i
Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class StateField:
    """One column of a state: in views/ and in Postgres it is named `<aggregate>__<name>`."""

    name: str
    arrow: pa.DataType
    postgres: str


@dataclass(frozen=True)
class Rows:
    """What is lifted: the aggregate's column (None for Count) and each row's place in the order (event time, partition, offset).

    All of one length. event_time_us, partition and offset are int64 and never null.
    """

    column: pa.Array | None
    event_time_us: Ints
    partition: Ints
    offset: Ints

    def __len__(self) -> int:
        return len(self.offset)


@dataclass(frozen=True)
class Aggregate(metaclass=Declared):
    """Subclass this for an aggregate of your own; hold it to pipeline.laws before you use it.

    `type` is the type of the aggregate's column throughout (None for one without a column). `group` gives each row's group, in
    [0, groups); a group without rows gets zero. The usual mistake: a state that depends on the order or on the batching of rows
    (a float sum, a mean of means).
    """

    column: str | None = None
    ordered: ClassVar[bool] = True  # whether lift looks at the rows' places; without it they may all be 0, and need not be read
    canonical_name: ClassVar[str]  # stands in every view's fingerprint: never changed, wherever the class moves; not inherited
    version: ClassVar[int] = 1  # raised when the aggregate gives other bits: views that use it are then folded anew

    @abstractmethod
    def check(self, type: ColumnType | None, what: str) -> None:
        """Raise DefinitionError (beginning with `what`) when the column's type does not fit."""

    @abstractmethod
    def fields(self, type: ColumnType | None) -> tuple[StateField, ...]:
        """The columns of the state."""

    @abstractmethod
    def value(self, type: ColumnType | None) -> StateField:
        """Name aside, the type of what a user sees, in Arrow and in Postgres."""

    @abstractmethod
    def lift(self, type: ColumnType | None, rows: Rows, group: Ints, groups: int) -> State:
        """The state of each group of rows; nulls count as SQL counts them."""

    @abstractmethod
    def merge(self, type: ColumnType | None, states: State, group: Ints, groups: int) -> State:
        """The ⊕ of all states of each group; zero for a group without states."""

    @abstractmethod
    def present(self, type: ColumnType | None, state: State) -> pa.Array:
        """What a user sees, one row per group."""

    @abstractmethod
    def sql(self, type: ColumnType | None, fields: Mapping[str, str]) -> str:
        """present(⊕ states) as one SQL aggregate expression; `fields` maps each field to its quoted column.

        May call functions that `sql_support` makes. Only IMMUTABLE functions: the merged view must be one snapshot.
        """

    def sql_support(self) -> tuple[str, ...]:
        """CREATE OR REPLACE statements for schema serving that sql() relies on; safe to run again."""
        return ()

    def zero(self, type: ColumnType | None, groups: int) -> State:
        """The identity of ⊕, once per group."""
        nothing = tuple(pa.array([], f.arrow) for f in self.fields(type))
        return self.merge(type, nothing, np.empty(0, np.int64), groups)

    def canonical(self) -> str:
        """What goes into the fingerprint of a view: name, version and parameters, those that a subclass adds too.

        A class without a `canonical_name` of its own goes by its module and name. The usual mistake: to move or rename such a class,
        which changes the fingerprint, so that workers and nights refuse; first give it the old path as its `canonical_name`.
        """
        kind = type(self)
        name = vars(kind).get("canonical_name", f"{kind.__module__}.{kind.__qualname__}")
        parameters = ", ".join(repr(getattr(self, f.name)) for f in dataclasses.fields(self))
        return f"{name}{'' if self.version == 1 else f'/{self.version}'}({parameters})"

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.column!r})" if self.column else f"{type(self).__name__}()"


def need_column(type: ColumnType | None, what: str, kinds: tuple[str, ...], why: str) -> ColumnType:
    """The column's type if it is of one of `kinds`; DefinitionError otherwise."""
    if type is None:
        raise DefinitionError(f"{what} names no column; give one")
    if type.kind not in kinds:
        raise DefinitionError(f"{what}: the column is of type {type}; allowed are {', '.join(kinds)} ({why})")
    return type
