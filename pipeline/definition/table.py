"""Reference data, declared: a Table of rows from an origin, how it is loaded, and a Lookup of one in a view.

    version n of a table = rows(origin at load n), by its load        a version never changes once it is made

Which version counts for an event is no part of this: a function of the event's offset, written down before anybody folds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from pipeline.base.declared import Compared, Declared
from pipeline.base.errors import DefinitionError
from pipeline.base.types import ColumnType
from pipeline.definition.names import check_name, check_table_name
from pipeline.definition.record import Column, column_named, columns


@runtime_checkable
class Described(Protocol):
    """An origin as a definition sees it; `ingestion.origin.Origin` is what reads it."""

    def describe(self) -> Mapping[str, Any]:
        """The declaration as JSON, without a secret."""


class Load(metaclass=Declared):
    """The way from an origin's rows and the version before to the next version."""

    def canonical(self) -> str:
        """The load as text, for fingerprints."""
        return repr(self)


@dataclass(frozen=True)
class Full(Load):
    """Each version is the whole origin. A row of a key that stands there twice with other values is rejected."""


@dataclass(frozen=True)
class Append(Load):
    """Each version is the one before, and every row of the origin whose key it does not have."""


@dataclass(frozen=True)
class Incremental(Load):
    """The version before, and the rows whose `cursor` is at or above the greatest one seen, less `overlap`; the newest row of a key counts.

    `cursor` is a column of the record, a number or a time. The usual mistake: a column that is not set again when a row changes.
    """

    cursor: str
    overlap: timedelta | int = timedelta(0)


@dataclass(frozen=True)
class Merge(Load):
    """The version before, with the origin's rows over it: the greatest `cursor` of a key counts, and a row whose `deleted` is true goes."""

    cursor: str
    deleted: str | None = None


@dataclass(frozen=True)
class Snapshot(Load):
    """Each version keeps what earlier ones were: rows that change or are gone end, new ones begin, at the time of the load.

    It makes the two columns that `history=Validity(...)` names, which the record does not have (slowly changing dimension, type 2).
    """


@dataclass(frozen=True)
class Validity(metaclass=Declared):
    """The columns that say from when and until when a row is valid: half-open, null is open. Rows of one key do not overlap."""

    start: str
    end: str


@dataclass(frozen=True)
class RowCount(metaclass=Declared):
    """A version is refused unless it has so many rows."""

    at_least: int = 0
    at_most: int | None = None

    def __post_init__(self) -> None:
        most = [] if self.at_most is None else [self.at_most]
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in (self.at_least, *most)):
            raise DefinitionError(f"{self!r}: allowed are numbers of rows, as RowCount(at_least=10, at_most=1000)")
        if self.at_most is not None and self.at_most < self.at_least:
            raise DefinitionError(f"{self!r} allows nothing: at_most is below at_least")


@dataclass(frozen=True, eq=False)
class References(Compared):
    """A version is refused unless at least `share` of its rows that have a value in `column` find it as the key of `table`."""

    column: str
    table: "Table"
    share: float = 1.0

    def _same(self) -> tuple[Any, ...]:
        return self.column, self.table, self.share


TIME = ColumnType("datetime")
CURSOR_KINDS = ("int", "datetime", "date", "decimal")


@dataclass(frozen=True, eq=False)
class Table(Compared):
    """Reference data, loaded in versions: the rows of an origin, typed and validated as events are, one row a `key`.

    Key columns are never null; with `history` a key has several rows, valid at different times. A load that fails a check, or that
    breaks off, leaves the last good version. With `every`, a night loads it when its newest version is that old, `after` these others
    where they are due too. The usual mistake: a key that is not one, whose second rows are rejected.
    """

    name: str
    origin: Described
    record: type
    key: tuple[str, ...]
    load: Load = field(default_factory=Full)
    history: Validity | None = None
    checks: tuple[RowCount | References, ...] = ()
    every: timedelta | None = None
    after: tuple["Table", ...] = ()

    def __post_init__(self) -> None:
        check_table_name(self.name)
        what = f"Table({self.name})"
        if not isinstance(self.origin, Described):
            raise DefinitionError(
                f"{what}: origin={self.origin!r} is no origin; allowed is one of ingestion's, as Files('airlines.csv')"
            )
        _check_key(self, what)
        _check_load(self, what)
        _check_history(self, what)
        _check_checks(self, what)
        _check_schedule(self, what)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns of its rows: the record's, then those that a Snapshot makes."""
        own = columns(self.record)
        names = {column.name for column in own}
        made = () if self.history is None else (self.history.start, self.history.end)
        return own + tuple(Column(name, TIME, True) for name in made if name not in names)

    @property
    def makes_history(self) -> bool:
        """True where validity comes from successive versions, not from the rows."""
        return isinstance(self.load, Snapshot)

    @cached_property
    def types(self) -> Mapping[str, ColumnType]:
        """By column."""
        return {column.name: column.type for column in self.columns}

    def _same(self) -> tuple[Any, ...]:
        origin = repr(sorted(self.origin.describe().items()))
        own = self.name, origin, self.columns, self.key, self.load, self.history, self.checks
        return *own, self.every, self.after


def _check_key(table: Table, what: str) -> None:
    if not isinstance(table.key, tuple) or not table.key or len(set(table.key)) < len(table.key):
        raise DefinitionError(f'{what}: key={table.key!r}; allowed is a tuple of different columns, as ("carrier",)')
    for name in table.key:
        column = column_named(table.record, name, f"{what}: key")
        if column.nullable:
            raise DefinitionError(f"{what}: key column {name!r} may be null; declare it without `| None`")
        if column.type.kind == "float":
            raise DefinitionError(f"{what}: key column {name!r} is a float; a key must have exact equality: Scale it")
    for column in columns(table.record):
        if not column.path:
            raise DefinitionError(
                f"{what}: column {column.name!r} is read from a record of Kafka; a row has none around it"
            )
        if column.of_element:
            raise DefinitionError(f"{what}: column {column.name!r} is of an array's elements; a table's row is one row")


def check_cursor(record: type, name: str, what: str) -> Column:
    """The column of that name; DefinitionError unless new rows can be known by it."""
    column = column_named(record, name, f"{what}: cursor")
    if column.nullable or column.type.kind not in CURSOR_KINDS:
        raise DefinitionError(
            f"{what}: cursor {name!r} is {column.type}{' | None' if column.nullable else ''};"
            f" allowed is a number or a time that is never null"
        )
    return column


def _check_load(table: Table, what: str) -> None:
    load = table.load
    if not isinstance(load, Load) or type(load) is Load:
        raise DefinitionError(
            f"{what}: load={load!r}; allowed are Full(), Append(), Incremental(...), Merge(...), Snapshot()"
        )
    if isinstance(load, Incremental | Merge):
        check_cursor(table.record, load.cursor, what)
    if isinstance(load, Incremental):
        of_time = table.types[load.cursor].kind in ("datetime", "date")
        none = load.overlap == timedelta(0)  # the default, for either
        if isinstance(load.overlap, bool) or not (none or isinstance(load.overlap, timedelta if of_time else int)):
            raise DefinitionError(
                f"{what}: overlap={load.overlap!r}; allowed is {'a timedelta' if of_time else 'a number'}"
            )
        if (load.overlap < timedelta(0)) if isinstance(load.overlap, timedelta) else load.overlap < 0:
            raise DefinitionError(f"{what}: overlap={load.overlap!r} is negative")
    flag = load.deleted if isinstance(load, Merge) else None
    if flag is not None and column_named(table.record, flag, f"{what}: deleted").type.kind != "bool":
        raise DefinitionError(f"{what}: deleted names {flag!r}, which is no bool")


def _check_history(table: Table, what: str) -> None:
    history, own = table.history, {column.name: column for column in columns(table.record)}
    if history is None:
        if table.makes_history:
            raise DefinitionError(f'{what}: load=Snapshot() needs history=Validity("valid_from", "valid_to")')
        return
    if not isinstance(history, Validity):
        raise DefinitionError(f'{what}: history={history!r}; allowed is Validity("valid_from", "valid_to")')
    for name in (history.start, history.end):
        if table.makes_history:
            check_name(name, f"{what}: history")
            if name in own:
                raise DefinitionError(f"{what}: Snapshot() makes column {name!r}, which the record has; rename one")
        elif column_named(table.record, name, f"{what}: history").type.kind != "datetime":
            raise DefinitionError(f"{what}: history names column {name!r}, which is no datetime")
    if history.start == history.end or {history.start, history.end} & set(table.key):
        raise DefinitionError(f"{what}: history={history!r}; allowed are two columns that are not in the key")
    if isinstance(table.load, Append | Incremental | Merge):
        raise DefinitionError(
            f"{what}: load={table.load!r} keeps one row a key, and history= several; allowed are Full() and Snapshot()"
        )


def _check_schedule(table: Table, what: str) -> None:
    every = table.every
    if every is not None and (not isinstance(every, timedelta) or every <= timedelta(0)):
        raise DefinitionError(
            f"{what}: every={every!r}; allowed is a timedelta above 0, as timedelta(hours=20), or None"
        )
    if not isinstance(table.after, tuple) or not all(isinstance(one, Table) for one in table.after):
        raise DefinitionError(f"{what}: after={table.after!r}; allowed is a tuple of tables")


def _check_checks(table: Table, what: str) -> None:
    if not isinstance(table.checks, tuple):
        raise DefinitionError(f"{what}: checks={table.checks!r}; allowed is a tuple, as (RowCount(at_least=10),)")
    for check in table.checks:
        match check:
            case RowCount():
                continue
            case References(column, of, share):
                mine = column_named(table.record, column, f"{what}: References")
                if len(of.key) != 1 or of.types[of.key[0]] != mine.type:
                    raise DefinitionError(
                        f"{what}: References({column!r}): table {of.name} has key {of.key!r}; allowed is one column of type {mine.type}"
                    )
                if not 0 <= share <= 1:
                    raise DefinitionError(f"{what}: References({column!r}): share={share!r}; allowed is 0 to 1")
            case _:
                raise DefinitionError(f"{what}: checks has {check!r}; allowed are RowCount(...) and References(...)")
