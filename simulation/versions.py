"""Versions of the tables that views look up, made up: some rows of few keys, so that events find one, none, and later another.

versions(views, seed) is a function of its arguments; every version keeps what a load keeps: one row a key, or rows that do not overlap
"""

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from pipeline.definition.record import Column
from pipeline.definition.table import Table
from pipeline.definition.view import View
from pipeline.fold.in_force import tables_of
from pipeline.lake.lake import Lake
from pipeline.lake.manifest import File
from pipeline.lake.targets import TableVersion
from simulation.events import NOON, values_of

MADE = 6  # versions of each table
MOST_KEYS = 8
BOUNDS = [None, *(NOON + timedelta(hours=h) for h in (-40, -1, 0, 1, 30)), None]  # of stretches in which a row is valid

Rows = list[dict[str, Any]]


def made_up(views: Sequence[View], seed: object) -> dict[tuple[str, int], pa.Table]:
    """(table, version from 1) -> its rows."""
    rng = random.Random(f"{seed} tables")
    found = {}
    for name, table in sorted(tables_of(views).items()):
        keys, schema = _keys(table, views), pa.schema([pa.field(c.name, c.type.arrow) for c in table.columns])
        for number in range(1, MADE + 1):
            chosen = [key for key in rng.sample(keys, min(MOST_KEYS, len(keys))) if rng.random() < 0.7]
            rows = [row for key in chosen for row in _rows(table, key, rng)]
            found[name, number] = pa.Table.from_pylist(rows, schema)
    return found


def _keys(table: Table, views: Sequence[View]) -> list[tuple[Any, ...]]:
    """Keys that events may have, and so few of them that several do."""
    lookups = [(v, one) for v in views for one in v.lookups.values() if one.table.name == table.name]
    found: dict[tuple[Any, ...], None] = {}
    for view, lookup in lookups:
        own = {column.name: values_of(column) for column in view.source.columns}
        values = [own[lookup.on[name]] for name in table.key]
        for n in range(4 * max(map(len, values))):
            found[tuple(of[(n * (place + 1)) % len(of)] for place, of in enumerate(values))] = None
    return list(found)


def _rows(table: Table, key: tuple[Any, ...], rng: random.Random) -> Rows:
    fixed = dict(zip(table.key, key, strict=True))
    if table.history is None:
        return [fixed | {c.name: _value(c, rng) for c in table.columns if c.name not in fixed}]
    bounds: list[datetime | None] = [BOUNDS[n] for n in sorted(rng.sample(range(len(BOUNDS)), 4))]
    rows = []
    for start, end in ((bounds[0], bounds[1]), (bounds[2], bounds[3])):
        if (start, end) != (None, None):
            row = fixed | {c.name: _value(c, rng) for c in table.columns if c.name not in fixed}
            rows.append(row | {table.history.start: start, table.history.end: end})
    return rows


def _value(column: Column, rng: random.Random) -> Any:
    return None if column.nullable and rng.random() < 0.25 else rng.choice(values_of(column))


def write(lake: Lake, made: Mapping[tuple[str, int], pa.Table]) -> None:
    """Put them into a lake, as loads do."""
    for (name, number), rows in made.items():
        target = TableVersion(name, number)
        path = f"{target.folder}/rows.parquet"
        target.commit(lake, [File(path, lake.write_table(path, rows.schema, [rows]))])
