"""Fingerprints: what a definition computes, as a hash.

    fingerprint(a) == fingerprint(b)  =>  f_a == f_b on every log

So everything that can change a bit of the answer is in it: the definition, the version of our kernels and of pyarrow. Where a
class stands is not: an aggregate goes by its canonical name.
"""

import hashlib
from decimal import Decimal
from functools import lru_cache
from typing import Any

import pyarrow as pa

from pipeline import kernels
from pipeline.base.types import EXACT, ColumnType
from pipeline.columns.arrays import codes
from pipeline.definition.constraints import Between, Constraint, Default, OneOf, Remedy
from pipeline.definition.formats import Json
from pipeline.definition.lookup import Lookup
from pipeline.definition.paths import shown
from pipeline.definition.record import Column
from pipeline.definition.source import Source
from pipeline.definition.table import Table
from pipeline.definition.view import View

FORMAT = 2  # bump when decoding, validation or deduplication changes its meaning


def _hash(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _column(column: Column) -> str:
    marks = [_mark(mark, column.type) for mark in (*column.constraints, column.remedy)]
    read = (f" at {shown(column.at)}" if column.at else "") + "".join(f" {mark.canonical()}" for mark in column.marks)
    return f"{column.name}: {column.type}{' | None' if column.nullable else ''} {'; '.join(marks)}{read}"


def _mark(mark: Constraint | Remedy | None, type: ColumnType) -> str:
    match mark:
        case Between(low, high):
            return f"Between({_exactly(low, type)}, {_exactly(high, type)})"
        case OneOf(options):
            return f"OneOf({', '.join(_exactly(option, type) for option in options)})"
        case Default(value):
            return f"Default({_exactly(value, type)})"
    return repr(mark)


def _exactly(value: Any, type: ColumnType) -> str:
    """The value as the column holds it: 1, 1.0 and Decimal("1.00") are one bound."""
    if value is None or type.kind in ("str", "bytes", "uuid"):
        return repr(value)
    if type.kind == "wide":
        return str(int(Decimal(value).scaleb(type.scale, EXACT)))
    if type.kind == "float":
        return (float(value) + 0.0).hex()
    return str(codes(pa.array([value], type.arrow), type)[0])


def _identity(source: Source) -> str:
    return " + ".join(source.identities) or "None"


def describe_source(source: Source) -> list[str]:
    """The canonical form of a source, line by line."""
    return [
        f"watershed source {FORMAT}, kernels {kernels.VERSION}, pyarrow {pa.__version__}",
        f"topic {source.topic}",
        *(_column(column) for column in source.columns),
        f"key {source.key}; event_time {source.event_time}; identity {_identity(source)}; horizon_ms {source.horizon_ms}",
        *([f"format {source.format.canonical(source.columns)}"] if source.format != Json() else []),
        *([f"explode {shown(source.exploded)}"] if source.exploded else []),
    ]


def describe_view(view: View) -> list[str]:
    """The canonical form of a view, line by line; its source's fingerprint first."""
    return [
        f"watershed view {FORMAT}, source {source_fingerprint(view.source)}",
        f"name {view.name}; key {view.key}; {view.window.canonical()}",
        *(line for name, lookup in view.lookups.items() for line in _lookup(name, lookup)),
        *(f"derive {name} = {d.tree} as {d.column_type}" for name, d in view.derive.items()),
        f"where {view.where_tree}",
        *(f"aggregate {name} = {aggregate.canonical()}" for name, aggregate in view.aggregates.items()),
    ]


def _lookup(name: str, lookup: Lookup) -> list[str]:
    table = lookup.table
    return [f"lookup {name} = {lookup.canonical()}", *(f"  {_column(column)}" for column in table.columns)]


def describe_table(table: Table) -> list[str]:
    """The canonical form of a table's versions, line by line: how rows are typed and found, not where they come from."""
    history = table.history
    return [
        f"watershed table {FORMAT}, kernels {kernels.VERSION}, pyarrow {pa.__version__}",
        f"name {table.name}; key {table.key}",
        *(_column(column) for column in table.columns),
        *([f"valid [{history.start}, {history.end})"] if history else []),
    ]


def table_fingerprint(table: Table) -> str:
    """16 hex digits; equal for tables whose versions read alike."""
    return _hash(describe_table(table))


def source_fingerprint(source: Source) -> str:
    """16 hex digits; equal for sources that accept, reject and deduplicate alike."""
    return _of_source(source, kernels.VERSION, pa.__version__)


def view_fingerprint(view: View) -> str:
    """16 hex digits; equal for views that give the same states and values."""
    return _of_view(view, kernels.VERSION, pa.__version__)


@lru_cache(maxsize=256)  # equal definitions have equal fingerprints; nights, stores and lake paths ask again and again
def _of_source(source: Source, *versions: object) -> str:
    return _hash(describe_source(source))


@lru_cache(maxsize=256)
def _of_view(view: View, *versions: object) -> str:
    return _hash(describe_view(view))
