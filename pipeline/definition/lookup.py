"""A lookup, declared: the row of a table that belongs to an event.

    columns of the row (or nulls)  =  table[version in force at the event's offset][on(event), as_of(event)]

The version is none of the view's: `pipeline.handover.versions` says which is in force where.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pipeline.base.declared import Compared
from pipeline.base.errors import DefinitionError
from pipeline.base.types import ColumnType
from pipeline.definition.record import column_named
from pipeline.definition.table import Table


@dataclass(frozen=True, eq=False)
class Lookup(Compared):
    """One row of `table` for an event, whose columns a view then has as "name.column".

    `on` maps each column of the table's key to a column of the event; a null there finds nothing. `as_of` is a datetime of the event, for a
    table with history: the row valid then counts. What finds nothing has nulls; `required=True` rejects it for the view. The usual
    mistake: `on` the wrong way round; the table's column comes first.
    """

    table: Table
    on: Mapping[str, str]
    as_of: str | None = None
    required: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.table, Table):
            raise DefinitionError(f"Lookup: table={self.table!r} is no Table")
        what = f"Lookup({self.table.name})"
        if not isinstance(self.on, Mapping) or set(self.on) != set(self.table.key):
            keys = ", ".join(f'"{name}": "a column of the event"' for name in self.table.key)
            raise DefinitionError(
                f"{what}: on={self.on!r}; allowed is {{{keys}}}: the key of the table, no more and no less"
            )
        object.__setattr__(self, "on", MappingProxyType({name: self.on[name] for name in self.table.key}))
        if (self.as_of is None) != (self.table.history is None):
            raise DefinitionError(
                f"{what}: as_of={self.as_of!r}, and table {self.table.name} has history={self.table.history!r};"
                f" a table with history is looked up as of a time of the event, and no other is"
            )

    def check(self, record: type, name: str, what: str) -> None:
        """DefinitionError where a record's columns do not fit."""
        where = f"{what}: lookups[{name!r}]"
        for key, own in self.on.items():
            found, wanted = column_named(record, own, f"{where}: on").type, self.table.types[key]
            if found != wanted:
                raise DefinitionError(
                    f"{where}: column {own!r} is {found}, and {self.table.name}.{key} is {wanted}; a key is compared with its like"
                )
        if self.as_of is not None:
            column = column_named(record, self.as_of, f"{where}: as_of")
            if column.type.kind != "datetime":
                raise DefinitionError(
                    f"{where}: as_of names column {self.as_of!r}, which is {column.type}, and no datetime"
                )

    def types(self, name: str) -> dict[str, ColumnType]:
        """The columns that a view has by it, each with its type."""
        return {f"{name}.{column}": type for column, type in self.table.types.items()}

    def solid(self, name: str) -> frozenset[str]:
        """The columns among them that are never null."""
        return frozenset(f"{name}.{c.name}" for c in self.table.columns if self.required and not c.nullable)

    @property
    def reads(self) -> frozenset[str]:
        """The columns of the event that it looks at."""
        return frozenset(self.on.values()) | ({self.as_of} if self.as_of is not None else frozenset())

    def canonical(self) -> str:
        """The lookup as text, for fingerprints: how rows are found. What they hold is the version's."""
        on = ", ".join(f"{key}={own}" for key, own in self.on.items())
        history = self.table.history
        valid = f" valid [{history.start}, {history.end}) as of {self.as_of}" if history else ""
        return f"{self.table.name}[{on}]{valid}{' required' if self.required else ''}"

    def _same(self) -> tuple[Any, ...]:
        return (
            self.table.name,
            self.table.columns,
            self.table.history,
            tuple(self.on.items()),
            self.as_of,
            self.required,
        )

    def __reduce__(self) -> tuple[Any, ...]:  # a mappingproxy does not pickle
        return Lookup, (self.table, dict(self.on), self.as_of, self.required)
