"""Declarations of a user: Source, View, Derived. Frozen values, checked when they are constructed.

    equal definitions  <=>  equal canonical forms  <=>  equal fingerprints (of one version of the kernels)

A View says f once; both layers compile it from this value and from nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import pyarrow.compute as pc

from pipeline.aggregates.base import Aggregate, Measure
from pipeline.base.declared import Compared
from pipeline.base.errors import DefinitionError, did_you_mean
from pipeline.base.types import ColumnType
from pipeline.definition.derived import Derived
from pipeline.definition.expressions import Node, fields, kind_of, parse
from pipeline.definition.lookup import Lookup
from pipeline.definition.names import NAME_LIMIT, check_name, check_table_column, check_view_name
from pipeline.definition.source import Source
from pipeline.definition.table import Table
from pipeline.definition.window import WINDOWS, Window

EXAMPLES = {
    "lookups": '{"carrier": Lookup(carriers, on={"carrier": "carrier"})}',
    "derive": '{"total": Derived(expression, Scale(2))}',
    "aggregates": '{"events": Count()}',
}


@dataclass(frozen=True, eq=False)
class View(Compared):
    """An aggregated view: SELECT key, window_start, aggregates FROM source [LEFT JOIN lookups] [derive] [WHERE] GROUP BY key, window.

    A null `where` drops the record, and a null key is a group of its own, as SQL has it. The values of a group are exact for every
    event of any age. A lookup's columns are named "name.column": pc.field("name", "column") in expressions.
    """

    name: str
    source: Source
    key: tuple[str, ...]
    window: Window
    aggregates: Mapping[str, Aggregate]
    derive: Mapping[str, Derived] = field(default_factory=dict)
    where: pc.Expression | None = None
    lookups: Mapping[str, Lookup] = field(default_factory=dict)
    where_tree: Node | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        check_view_name(self.name)
        what = f"View({self.name})"
        if not isinstance(self.source, Source):
            raise DefinitionError(f"{what}: source={self.source!r} is no Source")
        if not isinstance(self.window, WINDOWS):
            raise DefinitionError(f"{what}: window={self.window!r}; allowed is tumbling(hours=1) and the like")
        for name, example in EXAMPLES.items():
            given = getattr(self, name)
            if not isinstance(given, Mapping):
                raise DefinitionError(f"{what}: {name}={given!r}; allowed is a mapping of names, as {example}")
            object.__setattr__(self, name, MappingProxyType(dict(given)))
        _check_lookups(self, what)
        _check_derived(self, what)
        _check_where(self, what)
        _check_key(self, what)
        _check_aggregates(self, what)

    @cached_property
    def types(self) -> Mapping[str, ColumnType]:
        """Every column that keys and aggregates may read: the record's, those of lookups, derived ones."""
        own = {c.name: c.type for c in self.source.columns}
        return MappingProxyType(own | dict(self.looked_up) | {name: d.column_type for name, d in self.derive.items()})

    @cached_property
    def looked_up(self) -> Mapping[str, ColumnType]:
        """The columns that lookups give, as "name.column"."""
        return MappingProxyType({c: t for name, one in self.lookups.items() for c, t in one.types(name).items()})

    @cached_property
    def tables(self) -> frozenset[str]:
        """The names of the tables that it looks up."""
        return frozenset(one.table.name for one in self.lookups.values())

    @cached_property
    def nullable_keys(self) -> frozenset[str]:
        """The key columns that may be null: the record's that are declared so, those of lookups that may find nothing, derived ones."""
        solid = {c.name for c in self.source.columns if not c.nullable}
        solid |= {column for name, one in self.lookups.items() for column in one.solid(name)}
        return frozenset(self.key) - solid

    @cached_property
    def measures(self) -> Mapping[str, Measure]:
        """Each aggregate bound to its columns' types, in the order of declaration; no part of equality, fingerprint or pickle."""
        return MappingProxyType({name: a.over(*_types(self, a)) for name, a in self.aggregates.items()})

    def _same(self) -> tuple[Any, ...]:
        return (
            self.name,
            self.source,
            self.key,
            self.window,
            tuple(self.aggregates.items()),
            tuple(self.derive.items()),
            self.where_tree,
            tuple(self.lookups.items()),
        )

    def __reduce__(self) -> tuple[Any, ...]:  # a mappingproxy does not pickle; Dask needs views to
        given = (self.name, self.source, self.key, self.window, dict(self.aggregates), dict(self.derive), self.where)
        return View, (*given, dict(self.lookups))


def _entering(type: ColumnType) -> str:
    """The kind as which a column enters expressions."""
    return "float" if type.is_decimal else type.kind


def _readable(view: View) -> dict[str, str]:
    return {c.name: _entering(c.type) for c in view.source.columns} | {
        name: _entering(type) for name, type in view.looked_up.items()
    }


def _check_lookups(view: View, what: str) -> None:
    tables: dict[str, Table] = {}
    for name, lookup in view.lookups.items():
        check_name(name, f"{what}: lookup")
        if not isinstance(lookup, Lookup):
            raise DefinitionError(f"{what}: lookups[{name!r}] is {lookup!r}; allowed is Lookup(table, on={{...}})")
        lookup.check(view.source.record, name, what)
        if tables.setdefault(lookup.table.name, lookup.table) != lookup.table:
            raise DefinitionError(f"{what}: two different tables are named {lookup.table.name!r}; rename one")


def _check_derived(view: View, what: str) -> None:
    own = [c.name for c in view.source.columns]
    for name, derived in view.derive.items():
        check_name(name, f"{what}: derived column")
        if name in own:
            raise DefinitionError(
                f"{what}: derived column {name!r} hides a column of {view.source.record.__name__}; rename it"
            )
        if not isinstance(derived, Derived):
            raise DefinitionError(f"{what}: derive[{name!r}] is {derived!r}; allowed is Derived(expression, type)")
        kind = kind_of(derived.tree, _readable(view), f"{what}: derive[{name!r}]")
        to = derived.column_type.kind
        if (kind, to) not in {
            ("int", "decimal"),
            ("float", "decimal"),
            ("int", "float"),
            ("float", "int"),
        } and kind != to:
            raise DefinitionError(
                f"{what}: derive[{name!r}] gives {kind}, which cannot become {derived.column_type}; cast it"
            )


def _check_where(view: View, what: str) -> None:
    if view.where is None:
        return
    object.__setattr__(view, "where_tree", parse(view.where, f"{what}: where"))
    readable = _readable(view) | {name: _entering(d.column_type) for name, d in view.derive.items()}
    assert view.where_tree is not None
    kind = kind_of(view.where_tree, readable, f"{what}: where")
    if kind != "bool":
        raise DefinitionError(f"{what}: where={view.where} is of type {kind}; allowed is a condition (bool)")


def _check_key(view: View, what: str) -> None:
    if not isinstance(view.key, tuple) or not view.key:
        raise DefinitionError(f'{what}: key={view.key!r}; allowed is a tuple of column names, as ("station",)')
    for name in view.key:
        if not isinstance(name, str) or name not in view.types:
            _unknown_column(view, name, f"{what}: key")
        check_table_column(name, f"{what}: key column {name!r}")
        if len(name) > NAME_LIMIT:
            raise DefinitionError(
                f"{what}: key column {name!r} is longer than {NAME_LIMIT} characters; derive a shorter one"
            )
        if view.types[name].kind == "float":
            raise DefinitionError(f"{what}: key column {name!r} is a float; a key must have exact equality: Scale it")
        if view.key.count(name) > 1:
            raise DefinitionError(f"{what}: key={view.key!r} names a column twice")


def _check_aggregates(view: View, what: str) -> None:
    if not view.aggregates:
        raise DefinitionError(f'{what} has no aggregates; give at least one, as {{"events": Count()}}')
    for name, aggregate in view.aggregates.items():
        check_name(name, f"{what}: aggregate")
        check_table_column(name, f"{what}: aggregate {name!r}")
        if name in view.key:
            raise DefinitionError(f"{what}: aggregate {name!r} has the name of a key column; give it another")
        if not isinstance(aggregate, Aggregate):
            raise DefinitionError(
                f'{what}: aggregates[{name!r}] is {aggregate!r}; allowed is Count(), Sum("column") and the like'
            )
        for column in aggregate.columns:
            if not (isinstance(column, str) and column in view.types):
                _unknown_column(view, column, f"{what}: {name}={aggregate}")
        aggregate.check(_types(view, aggregate), f"{what}: {name}={aggregate}")
        aggregate.over(*_types(view, aggregate))  # one that lacks something is refused here, not at the first fold


def _types(view: View, aggregate: Aggregate) -> tuple[ColumnType, ...]:
    return tuple(view.types[column] for column in aggregate.columns)


def _unknown_column(view: View, name: object, where: str) -> None:
    have = list(view.types)
    raise DefinitionError(
        f"{where} names column {name!r}, which {view.source.record.__name__} does not have; it has {', '.join(have)}."
        f"{did_you_mean(str(name), have)}"
    )


def reads(view: View) -> frozenset[str]:
    """The record's columns that the view needs: for projecting, never for meaning."""
    used = set(view.key) | {column for a in view.aggregates.values() for column in a.columns} | {view.source.event_time}
    trees = [d.tree for d in view.derive.values()] + ([view.where_tree] if view.where_tree else [])
    used |= {name for tree in trees for name in fields(tree)}
    used |= {name for lookup in view.lookups.values() for name in lookup.reads}
    return frozenset(used) & {c.name for c in view.source.columns}
