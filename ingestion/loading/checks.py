"""Checks of a version before it is one: a load that breaks a check makes nothing, and the last good version stays.

made(version)  =>  every check of its table holds for it
"""

from decimal import Decimal

import numpy as np
import pyarrow as pa

from ingestion.loading.counts import LoadCounts
from ingestion.loading.rows import hashed
from pipeline.base.errors import LakeError, OriginError
from pipeline.columns.arrays import chunk
from pipeline.columns.groups import group
from pipeline.columns.hash_table import HashTable
from pipeline.columns.hashing import hash_rows
from pipeline.definition.table import References, RowCount, Table
from pipeline.fold.in_force import VersionRows
from pipeline.fold.lookup import Version
from pipeline.lake.lake import Lake
from pipeline.lake.manifest import File
from serving.stores.tables import PostgresTableStore, copy_manifests

BATCH_ROWS = 100_000


def check_version(
    lake: Lake, store: PostgresTableStore, table: Table, file: File, had: int, counts: LoadCounts
) -> None:
    """OriginError for the first check that the rows of `file` break; `had` are the rows (valid_now) of the version before.

    Of a Snapshot the rows count that are valid now: those that ended stay in every version, whatever the origin has.
    """
    counted = [check for check in table.checks if isinstance(check, RowCount)]
    rows = counts.added + counts.changed + counts.unchanged if table.makes_history else counts.rows
    if not counted and not rows and had:
        raise OriginError(
            f"table {table.name}: the load has no rows, and the version before has {had:,}; where that may be,"
            f" say so: checks=(RowCount(at_least=0),)"
        )
    for check in counted:
        if not check.at_least <= rows <= (rows if check.at_most is None else check.at_most):
            most = "" if check.at_most is None else f" and at most {check.at_most:,}"
            raise OriginError(
                f"table {table.name}: the load has {rows:,} rows; allowed are at least {check.at_least:,}{most};"
                f" {counts.rejected:,} rows were rejected"
            )
    for reference in table.checks:
        if isinstance(reference, References):
            _check_references(lake, store, table, file, reference)


def valid_now(table: Table, rows: pa.Table) -> int:
    """The number of rows that count: of a Snapshot those that have not ended."""
    if not table.makes_history or table.history is None:
        return rows.num_rows
    return rows.column(table.history.end).null_count


def check_history(table: Table, rows: pa.Table) -> None:
    """OriginError where rows of one key are valid at once; `rows` has all of each key that it has any of."""
    try:
        Version(table, rows)
    except LakeError as error:
        raise OriginError(
            f"table {table.name}: rows of one key are valid at the same time, or one ends before it begins"
        ) from error


def _check_references(lake: Lake, store: PostgresTableStore, table: Table, file: File, check: References) -> None:
    number = store.newest([check.table.name])[check.table.name]
    copy_manifests(lake, [one for one in store.versions(check.table.name) if one.version == number])
    index = HashTable()
    for others in VersionRows(lake, check.table, number, check.table.key):
        hashes = hashed(others, check.table, check.table.key)
        _, first = group(hashes)
        index.put(np.ascontiguousarray(hashes[first]), np.zeros(len(first), np.int64))
    asked = found = 0
    for batch in lake.read_batches(file, BATCH_ROWS, [check.column]):
        column = chunk(batch.column(0)).drop_null()
        asked += len(column)
        found += int((index.find(hash_rows([(column, table.types[check.column])])) >= 0).sum()) if len(column) else 0
    if found < Decimal(str(check.share)) * asked:
        raise OriginError(
            f"table {table.name}: {found:,} of {asked:,} values of {check.column} are keys of table {check.table.name}"
            f" (version {number}); allowed is a share of {check.share} at least"
        )
