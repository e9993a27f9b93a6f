"""The ways from a version and an origin's rows to the next version, one class each.

    full: rows        append: before ∪ rows of other keys        merge: before, then the newest row of each key over it
    snapshot: before, with rows ended that changed or are gone, and those that are new begun

Each is fed batches of accepted rows in the origin's order and gives what is kept at once; the rest it gives in the end. What it does is a
function of the version before and of the rows alone, so that a load that died and is run again makes the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.loading.counts import LoadCounts, RejectedRow
from ingestion.loading.rows import Seen, hashed, keys_of, matched
from pipeline.base.errors import OriginError
from pipeline.columns.arrays import Ints, chunk
from pipeline.columns.hash_table import HashTable
from pipeline.definition.table import Append, Full, Incremental, Merge, Table

TWICE = "another row of this key says something else; a key has one row: {}"


class Mode(Protocol):
    """One load of one table."""

    def feed(self, rows: pa.RecordBatch, numbers: Ints, part: str) -> tuple[pa.Table, list[RejectedRow]]:
        """Take the next rows; those that are in the version for certain, and those that are rejected."""

    def finish(self) -> Iterator[pa.Table]:
        """The rest of the version, once all rows were fed."""


def mode_of(
    table: Table, before: pa.Table | None, at: datetime, counts: LoadCounts, deleted: pa.Table | None = None
) -> Mode:
    """The mode of the table's load; `before` are the rows of the version before (None: there is none), `at` the time of the load.

    `deleted` are the rows that deleted keys up to then, in a Merge.
    """
    match table.load:
        case Full():
            return Fresh(table, None, counts)
        case Append():
            return Fresh(table, before, counts)
        case Merge() | Incremental():
            return Newest(table, before, counts, deleted)
    return Snapshots(table, before, at, counts)


def schema_of(table: Table) -> pa.Schema:
    """The schema of a version's files."""
    fields: list[Any] = [pa.field(c.name, c.type.arrow, nullable=c.nullable) for c in table.columns]
    return pa.schema(fields)


def _take(rows: pa.Table | pa.RecordBatch, numbers: Ints) -> pa.Table:
    whole = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
    return whole.take(pa.array(numbers, pa.int64()))


class Fresh:
    """Full and Append: the first row of a key counts. Memory does not hold the rows, but 80 bytes of each."""

    def __init__(self, table: Table, before: pa.Table | None, counts: LoadCounts) -> None:
        self.table, self.before, self.counts = table, before, counts
        self._names, self._keys = [c.name for c in table.columns], keys_of(table)
        self._seen, self._old = Seen(), HashTable()
        if before is not None:
            self._old.put(hashed(before, table, self._keys), np.arange(before.num_rows, dtype=np.int64))

    def feed(self, rows: pa.RecordBatch, numbers: Ints, part: str) -> tuple[pa.Table, list[RejectedRow]]:
        keys = hashed(rows, self.table, self._keys)
        if self.before is not None:
            new = np.flatnonzero(self._old.find(keys) < 0)
            self.counts.unchanged += rows.num_rows - len(new)
            rows, numbers, keys = rows.take(pa.array(new, pa.int64())), numbers[new], np.ascontiguousarray(keys[new])
        found = self._seen.sort(keys, hashed(rows, self.table, self._names))
        self.counts.added += len(found.fresh)
        self.counts.duplicates += len(found.same)
        return _take(rows, found.fresh), _rejected(self.table, rows, found.other, numbers, part)

    def finish(self) -> Iterator[pa.Table]:
        if self.before is not None:
            yield self.before


class Newest:
    """Incremental and Merge: of each key the row with the greatest cursor counts, of equal ones the later read. Memory holds all rows.

    A row that deletes its key stays one of those, in `deleted` and in no version: else an older row that comes late would bring the key
    back.
    """

    def __init__(self, table: Table, before: pa.Table | None, counts: LoadCounts, deleted: pa.Table | None) -> None:
        assert isinstance(table.load, Incremental | Merge)
        self.table, self.load, self.counts = table, table.load, counts
        nothing = schema_of(table).empty_table()
        self.before = before if before is not None else nothing
        self.deleted = deleted if deleted is not None else nothing
        self._read: list[pa.Table] = []

    def feed(self, rows: pa.RecordBatch, numbers: Ints, part: str) -> tuple[pa.Table, list[RejectedRow]]:
        self._read.append(pa.Table.from_batches([rows]))
        return schema_of(self.table).empty_table(), []

    def finish(self) -> Iterator[pa.Table]:
        table, names, key = self.table, [c.name for c in self.table.columns], list(self.table.key)
        old = pa.concat_tables([self.before, self.deleted.cast(self.before.schema)]).combine_chunks()
        new = pa.concat_tables([schema_of(table).empty_table(), *self._read]).combine_chunks()
        newest = _last_of_each_key(new, table, key, self.load.cursor)
        self.counts.duplicates += new.num_rows - len(newest)
        new = _take(new, newest)
        found = matched(new, old, table, key, names)
        place, there, same = found.place, found.there, found.same
        older = there & ~same & ~_at_least(new, old, place, self.load.cursor)
        gone, alive = self._deleted(new) & ~older, np.arange(old.num_rows) < self.before.num_rows
        was = there.copy()
        was[there] = alive[place[there]]
        self.counts.unchanged += int((same & ~gone).sum())
        self.counts.duplicates += int(older.sum())
        self.counts.deleted += int(gone.sum())
        self.counts.gone += int((gone & was).sum())
        takes = ~same & ~older & ~gone
        self.counts.changed += int((takes & was).sum())
        self.counts.added += int((takes & ~was).sum())
        stays = np.ones(old.num_rows, np.bool_)
        stays[place[there & (takes | gone)]] = False
        yield _take(old, np.flatnonzero(stays & alive))
        yield _take(new, np.flatnonzero(takes))
        kept = _take(old, np.flatnonzero(stays & ~alive))
        self.deleted = pa.concat_tables([kept, _take(new, np.flatnonzero(gone)).cast(kept.schema)])

    def _deleted(self, rows: pa.Table) -> Any:
        flag = self.load.deleted if isinstance(self.load, Merge) else None
        if flag is None:
            return np.zeros(rows.num_rows, np.bool_)
        return np.asarray(chunk(rows.column(flag)).fill_null(False).to_numpy(zero_copy_only=False), np.bool_)


class Snapshots:
    """Snapshot: the rows of the origin as they are now, against those of the version before that are open. Memory holds all rows."""

    def __init__(self, table: Table, before: pa.Table | None, at: datetime, counts: LoadCounts) -> None:
        assert table.history is not None
        self.table, self.counts, self.at, self.history = table, counts, at, table.history
        self.first = before is None
        self.before = before if before is not None else schema_of(table).empty_table()
        self._names = [n for n in (c.name for c in table.columns) if n not in (table.history.start, table.history.end)]
        self._seen, self._read = Seen(), list[pa.Table]()

    def feed(self, rows: pa.RecordBatch, numbers: Ints, part: str) -> tuple[pa.Table, list[RejectedRow]]:
        keys, contents = hashed(rows, self.table, self.table.key), hashed(rows, self.table, self._names)
        found = self._seen.sort(keys, contents)
        self.counts.duplicates += len(found.same)
        self._read.append(_take(rows, found.fresh))
        return schema_of(self.table).empty_table(), _rejected(self.table, rows, found.other, numbers, part)

    def finish(self) -> Iterator[pa.Table]:
        table, end = self.table, self.history.end
        closed = chunk(self.before.column(end)).is_valid()
        is_open = self.before.filter(pc.invert(closed))
        yield self.before.filter(closed)
        empty = pa.schema([schema_of(table).field(name) for name in self._names]).empty_table()
        new = pa.concat_tables([empty, *self._read]).combine_chunks()
        found = matched(new, is_open, table, table.key, self._names)
        place, there, same = found.place, found.there, found.same
        stays = np.zeros(is_open.num_rows, np.bool_)
        stays[place[same]] = True
        self.counts.unchanged += int(same.sum())
        self.counts.changed += int((there & ~same).sum())
        self.counts.added += int((~there).sum())
        self.counts.gone += is_open.num_rows - int(there.sum())
        self._refuse_clock(_take(is_open, np.flatnonzero(~stays)))
        yield _take(is_open, np.flatnonzero(stays))
        yield self._with(_take(is_open, np.flatnonzero(~stays)), end, self.at)
        begun = _take(new, np.flatnonzero(~same))
        begun = self._with(begun, self.history.start, None if self.first else self.at)
        yield self._with(begun, end, None)

    def _refuse_clock(self, ended: pa.Table) -> None:
        """OriginError where a row would end before it began, or when it did: then its history would be lost."""
        begun = chunk(ended.column(self.history.start))
        early = np.flatnonzero(
            pc.greater_equal(begun, pa.scalar(self.at, begun.type)).fill_null(False).to_numpy(zero_copy_only=False)
        )
        if len(early):
            row = ended.slice(int(early[0]), 1).to_pylist()[0]
            raise OriginError(
                f"table {self.table.name}: the row of {_key_of(row, self.table.key)} began at {row[self.history.start]}, and this load"
                f" at {self.at}: the clock of Postgres ran back; put it right, and load under a new name"
            )

    def _with(self, rows: pa.Table, name: str, value: datetime | None) -> pa.Table:
        column = pa.array([value] * rows.num_rows, pa.timestamp("us", "UTC"))
        rows = (
            rows.set_column(rows.schema.get_field_index(name), name, column)
            if name in rows.column_names
            else (rows.append_column(name, column))
        )
        return rows if len(rows.column_names) < len(self.table.columns) else rows.select(schema_of(self.table).names)


def _last_of_each_key(rows: pa.Table, table: Table, key: Sequence[str], cursor: str) -> Ints:
    """The numbers of the rows that count: of each key the one with the greatest cursor, of equal cursors the last."""
    if not rows.num_rows:
        return np.empty(0, np.int64)
    keys = hashed(rows, table, key)
    rank = np.asarray(pc.rank(chunk(rows.column(cursor)), tiebreaker="first").to_numpy(), np.int64)
    order = np.lexsort((rank, keys[:, 1], keys[:, 0]))
    last = np.ones(len(order), np.bool_)
    last[:-1] = (keys[order][1:] != keys[order][:-1]).any(axis=1)
    found: Ints = np.sort(order[last])
    return found


def _at_least(new: pa.Table, old: pa.Table, place: Ints, cursor: str) -> Any:
    """True where the new row's cursor is not below the old one's; of rows that have none of old."""
    if not old.num_rows:
        return np.ones(new.num_rows, np.bool_)
    before = chunk(old.column(cursor)).take(pa.array(np.maximum(place, 0), pa.int64()))
    at_least = pc.greater_equal(chunk(new.column(cursor)), before)
    return np.asarray(at_least.to_numpy(zero_copy_only=False), np.bool_)


def _key_of(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """A row's key as a person reads it."""
    return ", ".join(f"{name}={row[name]!r}" for name in names)


def _rejected(table: Table, rows: pa.RecordBatch, which: Ints, numbers: Ints, part: str) -> list[RejectedRow]:
    keys = rows.select(keys_of(table) if not table.makes_history else list(table.key))
    found = []
    for row in which.tolist():
        said = _key_of(keys.slice(row, 1).to_pylist()[0], keys.schema.names)
        found.append(
            RejectedRow(part, int(numbers[row]), TWICE.format(said), str(rows.slice(row, 1).to_pylist()[0]).encode())
        )
    return found
