"""An aggregate is a commutative monoid with exact equality, between a lift and a presentation.

    value(group) = present( lift(rows) )                     lift(a ++ b) = lift(a) ⊕ lift(b)
    (a ⊕ b) ⊕ c = a ⊕ (b ⊕ c)      a ⊕ b = b ⊕ a      a ⊕ zero = a            all to the bit

An Aggregate is what a view declares; bound to the types of its columns it is a Measure, which computes. pipeline.laws
holds any aggregate to these equations. States are columns, one row per group: whatever merges in Arrow here is merged
by the SQL of the same measure in Postgres, and both must present the same bits.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from pipeline.base.declared import Declared
from pipeline.base.errors import DefinitionError
from pipeline.base.types import ColumnType
from pipeline.columns.arrays import Ints

State = tuple[pa.Array, ...]  # one array per field, all of the same length: row i is the state of group i


@dataclass(frozen=True)
class StateField:
    """One column of a state: in views/ and in Postgres it is named `<aggregate>__<name>`."""

    name: str
    arrow: pa.DataType
    postgres: str


@dataclass(frozen=True)
class Rows:
    """The rows to lift: the aggregate's columns (none for Count), and their places in (event time, partition, offset).

    All arrays are of one length. event_time_us, partition and offset are int64 and never null.
    """

    columns: tuple[pa.Array, ...]
    event_time_us: Ints
    partition: Ints
    offset: Ints

    def __post_init__(self) -> None:
        given: Any = self.columns
        if not isinstance(given, tuple):
            raise TypeError(f"Rows: columns is a {type(given).__name__}; needed is a tuple of arrays, () for Count")

    @property
    def column(self) -> pa.Array:
        """The aggregate's only column, or its first."""
        return self.columns[0]

    def __len__(self) -> int:
        return len(self.offset)


@dataclass(frozen=True)
class Measure(ABC):
    """An aggregate bound to its columns' types: a subclass gives `fields`, `lift`, `merge` and `sql`, all else follows.

    `group` gives each row's group, in [0, groups); a group without rows gets zero. `self.aggregate` has the parameters.
    The usual mistake: a state that depends on the order or on the batching of rows (a float sum, a mean of means).
    """

    aggregate: "Aggregate"
    types: tuple[ColumnType, ...]

    @property
    def type(self) -> ColumnType:
        """The type of the aggregate's only column, or of its first."""
        return self.types[0]

    @property
    @abstractmethod
    def fields(self) -> tuple[StateField, ...]:
        """The columns of the state. Read wherever a table of states is made or taken apart; a matter of types alone."""

    @abstractmethod
    def lift(self, rows: Rows, group: Ints, groups: int) -> State:
        """The state of each group of rows; nulls count as SQL counts them.

        Called by both layers, for each block of accepted records that has any for the view.
        """

    @abstractmethod
    def merge(self, states: State, group: Ints, groups: int) -> State:
        """The ⊕ of all states of each group; zero for a group without states.

        Called wherever states meet: blocks of one commit, files of one date, a night's base and what came since.
        """

    @abstractmethod
    def sql(self, fields: Mapping[str, str]) -> str:
        """present(⊕ states) as one SQL aggregate expression; `fields` maps each field's name to its quoted column.

        Called when `init` makes the merged view. May call functions that `sql_support` makes. Only IMMUTABLE functions:
        the merged view must be one snapshot.
        """

    @property
    def value(self) -> StateField:
        """Name aside, the type of what a user sees, in Arrow and in Postgres; the last field unless you say."""
        return self.fields[-1]

    def present(self, state: State) -> pa.Array:
        """The values that a user sees, one row per group; the last field unless you say.

        Called when a night writes a date of the view, and by audits. The usual mistake: `value` given without it.
        """
        return state[-1]

    def sql_support(self) -> tuple[str, ...]:
        """CREATE OR REPLACE statements for schema serving that sql() relies on; safe to run again.

        Called before the merged view is made.
        """
        return ()

    def zero(self, groups: int) -> State:
        """The identity of ⊕, once per group."""
        nothing = tuple(pa.array([], f.arrow) for f in self.fields)
        return self.merge(nothing, np.empty(0, np.int64), groups)

    def __str__(self) -> str:
        return " over ".join([str(self.aggregate), *([", ".join(map(str, self.types))] if self.types else [])])


@dataclass(frozen=True)
class Aggregate(metaclass=Declared):
    """Declaration in a view: a frozen value that names its column and parameters, and its Measure, which computes.

    Subclass this, as a frozen dataclass, for an aggregate of your own, with `measure` and mostly `kinds`; hold it to
    pipeline.laws before you use it (docs/AGGREGATES.md). The usual mistake: lift or sql here, not in the Measure.
    """

    column: str | None = None
    measure: ClassVar[type[Measure]]
    kinds: ClassVar[tuple[str, ...]] = ("int", "decimal", "float", "str", "bool", "datetime", "date")  # of its columns
    why: ClassVar[str] = "no other is computed"  # the reason for `kinds`, told to whoever gives it another column
    ordered: ClassVar[bool] = True  # whether lift looks at the rows' places; else they may all be 0, and are not read
    canonical_name: ClassVar[str]  # in every view's fingerprint: never changed, wherever the class moves; not inherited
    version: ClassVar[int] = 1  # raised when the aggregate gives other bits: its views are then folded anew

    def __init_subclass__(cls) -> None:
        """Refuse members that would never be called: until 0.1.0 an aggregate computed by itself."""
        computing = getattr(cls, "measure", Measure)
        for name, member in vars(cls).items():
            computes = callable(member) or isinstance(member, property)
            if computes and hasattr(computing, name) and not hasattr(Aggregate, name):
                own = f"{cls.__name__}Measure"
                raise DefinitionError(
                    f"aggregate {cls.__name__} defines {name}, which is a member of its Measure and would not be called"
                    f" here: move it to a `class {own}({computing.__name__})`, without the parameter `type` (there it is"
                    f" self.type), and say `measure = {own}` in {cls.__name__}; docs/AGGREGATES.md shows one"
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that it reads, for each block; to be given by an aggregate of more than one."""
        return () if self.column is None else (self.column,)

    def check(self, types: tuple[ColumnType, ...], what: str) -> None:
        """Raise DefinitionError (beginning with `what`) when the columns' types do not fit; else nothing.

        Called when a view is constructed, before `over`.
        """
        if not types:
            raise DefinitionError(f"{what} names no column; give one")
        for type in types:
            if type.kind not in self.kinds:
                allowed = ", ".join(self.kinds)
                raise DefinitionError(f"{what}: the column is of type {type}; allowed are {allowed} ({self.why})")

    def over(self, *types: ColumnType) -> Measure:
        """The aggregate bound to the types of its `columns`, in their order, which `check` has passed.

        Called when a view is constructed and when its measures are first used. DefinitionError without a whole Measure.
        """
        kind: type[Measure] | None = getattr(self, "measure", None)
        if kind is None or kind.__abstractmethods__:
            missing = ", ".join(sorted(kind.__abstractmethods__)) if kind else ""
            lacks = f"its Measure lacks {missing}" if kind else "it names no Measure"
            raise DefinitionError(f"{self}: {lacks}; docs/AGGREGATES.md shows a whole one")
        return kind(self, types)

    def canonical(self) -> str:
        """Part of a view's fingerprint: name, version and parameters, those that a subclass adds too.

        A class without a `canonical_name` of its own goes by its module and name. The usual mistake: to move or rename such a class,
        which changes the fingerprint, so that workers and nights refuse; first give it the old path as its `canonical_name`.
        """
        kind = type(self)
        name = vars(kind).get("canonical_name", f"{kind.__module__}.{kind.__qualname__}")
        parameters = ", ".join(repr(getattr(self, f.name)) for f in dataclasses.fields(self))
        return f"{name}{'' if self.version == 1 else f'/{self.version}'}({parameters})"

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.column!r})" if self.column else f"{type(self).__name__}()"
