"""Versions of tables out of the lake, and which of them count for which records of a log.

the pieces of a batch tile it, in order; all records of a piece are folded with the versions in force at each of them
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import pyarrow as pa

from pipeline.accept.accept import OFFSET
from pipeline.base.errors import LakeError, Refused
from pipeline.definition.table import Table
from pipeline.definition.view import View
from pipeline.fold.lookup import NO_TABLES, Tables, Version
from pipeline.handover import Cut
from pipeline.handover.versions import Versions, stretches, wanted
from pipeline.lake import layout
from pipeline.lake.lake import Lake
from pipeline.lake.targets import TableVersion

STRETCH_ROWS = 100_000
KEPT = 2  # versions of each table that stay in memory: the one in force, and the one before


def tables_of(views: Sequence[View]) -> dict[str, Table]:
    """The tables that the views look up, by name."""
    return {lookup.table.name: lookup.table for view in views for lookup in view.lookups.values()}


def read_version(lake: Lake, table: Table, number: int) -> pa.Table:
    """The rows of a version as the table declares them; a column that it was made without is null. LakeError where they do not fit."""
    files = TableVersion(table.name, number).require(lake).files
    return pa.concat_tables(
        [declared_schema(table).empty_table(), *(as_declared(lake.read_table(f), table, number) for f in files)]
    )


@dataclass(frozen=True)
class VersionRows:
    """The same rows, a stretch in memory at a time, as often as they are asked for; `only` these columns where they are named."""

    lake: Lake
    table: Table
    number: int
    only: Sequence[str] = ()

    def __iter__(self) -> Iterator[pa.Table]:
        only = [*self.only] or None
        for file in TableVersion(self.table.name, self.number).require(self.lake).files:
            for batch in self.lake.read_batches(file, STRETCH_ROWS, only):
                yield as_declared(pa.Table.from_batches([batch]), self.table, self.number, self.only)


def declared_schema(table: Table, only: Sequence[str] = ()) -> pa.Schema:
    """The schema of a version's rows as they are read: a column may be null in an older one; `only` these columns where they are named."""
    return pa.schema([pa.field(c.name, c.type.arrow) for c in table.columns if not only or c.name in only])


def as_declared(found: pa.Table, table: Table, number: int, only: Sequence[str] = ()) -> pa.Table:
    """Rows of a version's file as the table declares them now: a column that they lack is null. LakeError where they do not fit."""
    columns: list[pa.ChunkedArray] = []
    schema = declared_schema(table, only)
    for column in (c for c in table.columns if c.name in schema.names):
        if column.name not in found.column_names and column.nullable:
            columns.append(pa.chunked_array([pa.array([None] * found.num_rows, column.type.arrow)]))
            continue
        if column.name not in found.column_names or found.schema.field(column.name).type != column.type.arrow:
            raise LakeError(
                f"version {number} of table {table.name} has no column {column.name} of type {column.type}: it was loaded by another"
                f" definition; put that back, or load the table and fold the views anew: `watershed init --rebuild`",
                repair="watershed init --rebuild",
            )
        columns.append(found.column(column.name))
    return pa.Table.from_arrays(columns, schema=schema)


def newest_tables(lake: Lake, views: Sequence[View]) -> Tables:
    """The tables that the views look up, in the newest versions that a lake has: for looks at samples, which decide nothing.

    Refused names the load of one that was never loaded.
    """
    newest = {}
    for name in sorted(tables_of(views)):
        manifest = lake.manifest(layout.current_table(name))
        if manifest is None:
            command = f"watershed load {name}"
            raise Refused(f"table {name} was not loaded yet, and views look it up: run `{command}`", repair=command)
        newest[name] = int(manifest.inputs["version"])
    return TableVersions(lake).get(views, newest)


class TableVersions:
    """Versions in memory, each read when it is first asked for, the last KEPT of each table kept. For many threads."""

    def __init__(self, lake: Lake) -> None:
        self._lake, self._lock = lake, Lock()
        self._held: dict[str, OrderedDict[int, Version]] = {}

    def get(self, views: Sequence[View], versions: Versions) -> Tables:
        """The tables that the views look up, in these versions; Refused for one that has none, LakeError where it is not there."""
        tables = tables_of(views)
        return {name: self._version(tables[name], number) for name, number in wanted(versions, tables).items()}

    def _version(self, table: Table, number: int) -> Version:
        with self._lock:
            held = self._held.setdefault(table.name, OrderedDict())
            if number not in held or held[number].table != table:
                held[number] = Version(table, read_version(self._lake, table, number), number)
            held.move_to_end(number)
            while len(held) > KEPT:
                held.popitem(last=False)
            return held[number]


class InForce:
    """The versions of the tables that some views look up, by a ledger read after the log that is folded was there.

    Of views that look nothing up neither the ledger nor the versions are looked at.
    """

    def __init__(
        self, views: Sequence[View], ledger: Sequence[Cut] = (), versions: TableVersions | None = None
    ) -> None:
        self._views, self._ledger, self._versions = views, ledger, versions
        self._names = sorted(tables_of(views))

    def pieces(self, partition: int, accepted: pa.RecordBatch) -> Iterator[tuple[pa.RecordBatch, Tables]]:
        """Slices of accepted records (with OFFSET, rising), each with the tables in force for it. One without a table is one piece."""
        if not self._names or not accepted.num_rows:
            yield accepted, NO_TABLES
            return
        offsets = np.asarray(accepted.column(OFFSET).to_numpy())
        for stretch in stretches(self._ledger, partition, int(offsets[0]), int(offsets[-1]) + 1, self._names):
            low, high = np.searchsorted(offsets, (stretch.start, stretch.end))
            if low < high:
                assert self._versions is not None, "a ledger that names versions comes with them"
                yield accepted.slice(low, high - low), self._versions.get(self._views, stretch.versions)


__all__ = [
    "InForce",
    "TableVersions",
    "VersionRows",
    "as_declared",
    "declared_schema",
    "newest_tables",
    "read_version",
    "tables_of",
]
