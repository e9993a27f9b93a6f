"""The next version of a table out of the version before and a load's rows, a bucket of keys at a time.

    next version = Σ over buckets b of mode(before(b), rows(b))        rows(b) in the origin's order, however readers gave them

Two rows of one key are in one bucket, so that a mode sees all that it asks about; and memory holds one bucket's rows.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.loading.buckets import ROOM, Buckets, Room, together
from ingestion.loading.checks import check_history, valid_now
from ingestion.loading.counts import LoadCounts, RejectedRow
from ingestion.loading.modes import Fresh, Mode, Newest, mode_of, schema_of
from ingestion.typed import Records
from pipeline.columns.arrays import Ints
from pipeline.definition.table import Full, Table
from pipeline.fold.in_force import STRETCH_ROWS, VersionRows, as_declared, declared_schema
from pipeline.lake.lake import Lake
from pipeline.lake.manifest import File
from serving.ops.table_versions import LoadedVersion

Reject = Callable[[Sequence[RejectedRow]], None]
# No column has such a name.
PLACE: Sequence[Any] = (pa.field("its part", pa.int32()), pa.field("its number", pa.int64()))


class NextVersion:
    """One load of one table: give it the rows before (None: there is no version), feed it the origin's, and take the version's rows.

    `deleted` are the rows that deleted keys before, in a Merge. With `adds` rows of new keys are added to those before, as Append does,
    whatever the table's load is. `had` is the number of rows before that are valid now. Close it.
    """

    def __init__(
        self,
        table: Table,
        before: Iterable[pa.Table] | None,
        at: datetime,
        counts: LoadCounts,
        deleted: Iterable[pa.Table] = (),
        room: Room = ROOM,
        adds: bool = False,
    ) -> None:
        self.table, self.at, self.counts, self.adds = table, at, counts, adds
        self.had, self.deletions, self._first = 0, 0, before is None
        self._new = Buckets(table, pa.schema([*Records(table.record).schema, *PLACE]), room)
        nullable = declared_schema(table)
        self._old, self._deleted_before, self._deleted = (Buckets(table, nullable, room) for _ in range(3))
        for rows in before or ():
            self.had += valid_now(table, rows)
            self._old.add(rows.cast(nullable))
        for rows in deleted:
            self._deleted_before.add(rows.cast(nullable))

    @classmethod
    def over(
        cls, lake: Lake, table: Table, base: LoadedVersion | None, at: datetime, counts: LoadCounts, adds: bool = False
    ) -> "NextVersion":
        """The next version over the one before, which the lake has; a full load is over none, unless it `adds`."""
        if base is None or (isinstance(table.load, Full) and not adds):
            return cls(table, None, at, counts)
        files = [File(**one) for one in base.facts.get("deleted", ())]
        batches = (batch for file in files for batch in lake.read_batches(file, STRETCH_ROWS))
        deleted = (as_declared(pa.Table.from_batches([batch]), table, base.version) for batch in batches)
        return cls(table, VersionRows(lake, table, base.version), at, counts, deleted, adds=adds)

    def feed(self, rows: pa.RecordBatch, numbers: Ints, part: int) -> None:
        """Take accepted rows of the part of that number, `numbers` (int64) the place of each in it."""
        place = pa.array(np.full(rows.num_rows, part, np.int32)), pa.array(numbers, pa.int64())
        self._new.add(pa.RecordBatch.from_arrays([*rows.columns, *place], schema=self._new.schema))

    def tables(self, parts: Sequence[str], reject: Reject) -> Iterator[pa.Table]:
        """The version's rows, once all are fed; `parts` are the parts' names, `reject` is given the rows that are in no version."""
        for number in range(together([self._new, self._old, self._deleted_before])):
            yield from self._bucket(number, parts, reject)

    def deleted(self) -> Iterator[pa.Table]:
        """The rows that deleted keys, of this load and of those before, once all rows of the version were taken: `deletions` of them."""
        for number in range(len(self._deleted)):
            yield self._deleted.bucket(number).cast(schema_of(self.table))

    def close(self) -> None:
        """Give temporary files back."""
        for one in (self._new, self._old, self._deleted_before, self._deleted):
            one.close()

    def _bucket(self, number: int, parts: Sequence[str], reject: Reject) -> Iterator[pa.Table]:
        schema = schema_of(self.table)
        new, before, deleted = (one.bucket(number) for one in (self._new, self._old, self._deleted_before))
        if not new.num_rows and not before.num_rows and not deleted.num_rows:
            return
        mode: Mode
        if self.adds:
            mode = Fresh(self.table, before, self.counts)
        else:
            mode = mode_of(self.table, None if self._first else before, self.at, self.counts, deleted)
        made = [*self._fed(mode, new, parts, reject), *mode.finish()]
        if isinstance(mode, Newest):
            self._deleted.add(mode.deleted.cast(self._deleted.schema))
            self.deletions += mode.deleted.num_rows
        version = [one.select(schema.names).cast(schema) for one in made if one.num_rows]
        if self.table.history is not None and version:
            check_history(self.table, pa.concat_tables(version))
        yield from version

    def _fed(self, mode: Mode, rows: pa.Table, parts: Sequence[str], reject: Reject) -> Iterator[pa.Table]:
        part, number = (rows.column(field.name).to_numpy() for field in PLACE)
        order = np.lexsort((number, part))
        if (np.diff(order) < 0).any():
            rows, part, number = rows.take(pa.array(order, pa.int64())), part[order], number[order]
        columns = rows.drop_columns([field.name for field in PLACE])
        ends = [*(np.flatnonzero(np.diff(part)) + 1).tolist(), len(part)] if len(part) else []
        for start, end in zip([0, *ends], ends, strict=False):
            for batch in columns.slice(start, end - start).combine_chunks().to_batches():
                kept, rejected = mode.feed(batch, number[start : start + batch.num_rows], parts[part[start]])
                start += batch.num_rows
                reject(rejected)
                yield kept


__all__ = ["NextVersion"]
