"""One topic of events, and what makes a record of it valid and unique.

equal(a, b)  <=>  both accept, reject and deduplicate every log alike
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from pipeline.base.declared import Compared
from pipeline.base.errors import DefinitionError
from pipeline.definition.formats import Format, Json
from pipeline.definition.paths import ELEMENT, Path, parse, shown, tree
from pipeline.definition.record import Column, column_named, columns

JSON = Json()


@dataclass(frozen=True, eq=False)
class Source(Compared):
    """One topic of events and what makes a record of it valid; one Source per topic.

    `key`, `event_time` (datetime) and `identity` (a column, or a tuple of them, of str, int, UUID or bytes) are columns, never null. Two
    valid records of one partition with the same identity, at most `identity_horizon` of log time apart, are one event: the later is a
    duplicate. The usual mistake: an identity that is sent under two keys, and so lands in two partitions, is never seen as a duplicate.

    `identity=None` says that nothing is a duplicate: every valid record is accepted, and what a producer sends twice counts twice.

    `explode="order.items"` makes a row of each element of that array: columns of an element are at paths that begin with
    "order.items[]", the others are the record's and stand in each of its rows. A record without elements is accepted, and has no row;
    one with a broken element is rejected whole. Key and identity are the record's.
    """

    topic: str
    record: type
    key: str
    event_time: str
    identity: str | tuple[str, ...] | None
    identity_horizon: timedelta = timedelta(days=7)
    format: Format = JSON
    explode: str | None = None

    def __post_init__(self) -> None:
        if (
            not isinstance(self.topic, str)
            or not re.fullmatch(r"[a-zA-Z0-9._-]{1,200}", self.topic)
            or set(self.topic) == {"."}
        ):
            raise DefinitionError(
                f"Source: topic {self.topic!r} is no topic name; allowed are letters, digits, '.', '_' and '-'"
            )
        if not isinstance(self.format, Format):
            raise DefinitionError(f"Source({self.topic}): format={self.format!r}; allowed is Json() and the like")
        _check_explode(self, f"Source({self.topic})")
        _check_roles(self, f"Source({self.topic})")
        self.format.check(self.columns, self.explode, f"Source({self.topic})")
        horizon = self.identity_horizon
        if not isinstance(horizon, timedelta) or not timedelta(0) <= horizon <= timedelta(days=36500):
            raise DefinitionError(
                f"Source({self.topic}): identity_horizon={horizon!r}; allowed is a timedelta from 0 to 36500 days"
            )

    @property
    def columns(self) -> tuple[Column, ...]:
        return columns(self.record)

    @property
    def identities(self) -> tuple[str, ...]:
        """The columns that are the identity together; none where nothing is a duplicate."""
        return (self.identity,) if isinstance(self.identity, str) else self.identity or ()

    @cached_property
    def exploded(self) -> Path:
        """The path of the array whose elements are rows; () when a record is one row."""
        return parse(self.explode) if self.explode is not None else ()

    @property
    def horizon_ms(self) -> int:
        """The horizon in whole milliseconds, the unit of Kafka's record timestamps."""
        return self.identity_horizon // timedelta(milliseconds=1)

    def _same(self) -> tuple[Any, ...]:  # the record's columns, not its class: cloudpickle may make that anew
        identity = self.identities if self.identity is not None else None
        return (
            self.topic,
            self.columns,
            self.key,
            self.event_time,
            identity,
            self.horizon_ms,
            self.format.canonical(self.columns),
            self.exploded,
        )


def _check_roles(source: Source, what: str) -> None:
    identity = source.identity
    if isinstance(identity, tuple) and (not identity or len(set(identity)) < len(identity)):
        raise DefinitionError(
            f"{what}: identity={identity!r}; allowed are a column, a tuple of different columns, and None"
        )
    names = identity if isinstance(identity, tuple) else () if identity is None else (identity,)
    given: list[tuple[str, str, tuple[str, ...]]] = [("key", source.key, ())]
    given += [
        ("event_time", source.event_time, ("datetime",)),
        *(("identity", n, ("str", "int", "uuid", "bytes")) for n in names),
    ]
    for role, name, kinds in given:
        column = column_named(source.record, name, f"{what}: {role}")
        if column.nullable:
            raise DefinitionError(
                f"{what}: {role} names column {column.name!r}, which may be null; declare it without `| None`"
            )
        if kinds and column.type.kind not in kinds:
            raise DefinitionError(
                f"{what}: {role} names column {column.name!r} of type {column.type}; allowed: {', '.join(kinds)}"
            )
        if role != "event_time" and column.of_element:
            raise DefinitionError(
                f"{what}: {role} names column {column.name!r}, which an element has, and not the record; allowed is one of the record's"
            )


def _check_explode(source: Source, what: str) -> None:
    of_elements = [column for column in columns(source.record) if column.of_element]
    if source.explode is None:
        if of_elements:
            raise DefinitionError(
                f"{what}: column {of_elements[0].name!r} is at {shown(of_elements[0].path)!r}, in each element of an array; say explode="
            )
        return
    path = parse(source.explode, "explode=")
    if ELEMENT in path:
        raise DefinitionError(f"{what}: explode={source.explode!r}; allowed is the path of one array, as 'order.items'")
    for column in of_elements:
        if column.path[: len(path) + 1] != (*path, ELEMENT):
            raise DefinitionError(
                f"{what}: column {column.name!r} is at {shown(column.path)!r}, but explode={source.explode!r}; only one array is exploded"
            )
    own = {column.name: column.path for column in columns(source.record) if column.path and not column.of_element}
    tree(own | {f"explode={source.explode}": path})  # refuses a column at, above or below the array
