"""Tables of states: one row per (key, window), the columns that Parquet, Postgres and memory share.

    state_schema(view) = key columns, window_start, <aggregate>__<field> ...
    value_schema(view) = key columns, window_start, <aggregate> ...
"""

from collections.abc import Iterator

import pyarrow as pa

from pipeline.aggregates.base import Aggregate, State, StateField
from pipeline.definition import View
from pipeline.types import ColumnType

WINDOW_START = "window_start"
WINDOW_TYPE = pa.timestamp("us", "UTC")


def members(view: View) -> Iterator[tuple[str, Aggregate, ColumnType | None]]:
    """(name, aggregate, type of its column) of each aggregate, in the order of declaration."""
    for name, aggregate in view.aggregates.items():
        yield name, aggregate, view.types[aggregate.column] if aggregate.column else None


def group_columns(view: View) -> list[str]:
    """What identifies a group: the key columns and window_start."""
    return [*view.key, WINDOW_START]


def state_fields(view: View) -> dict[str, StateField]:
    """Column name in a state table -> the field."""
    return {f"{name}__{f.name}": f for name, aggregate, type in members(view) for f in aggregate.fields(type)}


def _group_fields(view: View) -> list[pa.Field]:
    keys = [pa.field(name, view.types[name].arrow, nullable=False) for name in view.key]
    return [*keys, pa.field(WINDOW_START, WINDOW_TYPE, nullable=False)]


def state_schema(view: View) -> pa.Schema:
    """The schema of a table of states."""
    return pa.schema(_group_fields(view) + [pa.field(name, f.arrow) for name, f in state_fields(view).items()])


def value_schema(view: View) -> pa.Schema:
    """The schema of what a user sees."""
    return pa.schema(_group_fields(view) + [pa.field(n, a.value(t).arrow) for n, a, t in members(view)])


def state_of(table: pa.Table | pa.RecordBatch, name: str, aggregate: Aggregate, type: ColumnType | None) -> State:
    """One aggregate's state columns, contiguous."""
    from pipeline.arrays import chunk

    return tuple(chunk(table.column(f"{name}__{f.name}")) for f in aggregate.fields(type))


def present(view: View, states: pa.Table) -> pa.Table:
    """The values of a table of states, row by row."""
    from pipeline.arrays import chunk

    columns = [chunk(states.column(c)) for c in group_columns(view)]
    columns += [aggregate.present(type, state_of(states, name, aggregate, type)) for name, aggregate, type in members(view)]
    return pa.Table.from_arrays(columns, schema=value_schema(view))
