"""Tables of states: one row per (key, window), the columns that Parquet, Postgres and memory share.

state_schema(view) = key columns, window_start, <aggregate>__<field> ...
value_schema(view) = key columns, window_start, <aggregate> ...
"""

import pyarrow as pa

from pipeline.aggregates.base import Measure, State, StateField
from pipeline.columns.arrays import chunk
from pipeline.definition.view import View

WINDOW_START = "window_start"
WINDOW_TYPE = pa.timestamp("us", "UTC")


def group_columns(view: View) -> list[str]:
    """Columns that identify a group: the key columns and window_start."""
    return [*view.key, WINDOW_START]


def state_fields(view: View) -> dict[str, StateField]:
    """Column name in a state table -> the field."""
    return {f"{name}__{f.name}": f for name, measure in view.measures.items() for f in measure.fields}


def _group_fields(view: View) -> list[pa.Field]:
    keys = [pa.field(name, view.types[name].arrow, nullable=name in view.nullable_keys) for name in view.key]
    return [*keys, pa.field(WINDOW_START, WINDOW_TYPE, nullable=False)]


def state_schema(view: View) -> pa.Schema:
    """The schema of a table of states."""
    return pa.schema(_group_fields(view) + [pa.field(name, f.arrow) for name, f in state_fields(view).items()])


def value_schema(view: View) -> pa.Schema:
    """The schema of what a user sees."""
    return pa.schema(_group_fields(view) + [pa.field(n, m.value.arrow) for n, m in view.measures.items()])


def state_of(table: pa.Table | pa.RecordBatch, name: str, measure: Measure) -> State:
    """One aggregate's state columns, contiguous."""
    return tuple(chunk(table.column(f"{name}__{f.name}")) for f in measure.fields)


def present(view: View, states: pa.Table) -> pa.Table:
    """The values of a table of states, row by row."""
    columns = [chunk(states.column(c)) for c in group_columns(view)]
    columns += [measure.present(state_of(states, name, measure)) for name, measure in view.measures.items()]
    return pa.Table.from_arrays(columns, schema=value_schema(view))
