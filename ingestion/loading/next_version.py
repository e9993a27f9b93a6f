"""The next version of a table out of the version before and a load's rows, a bucket of keys at a time.

    next version = Σ over buckets b of mode(before(b), rows(b))        rows(b) in the origin's order, however readers gave them

Two rows of one key are in one bucket, so that a mode sees all that it asks about; and memory holds one bucket's rows.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.loading.buckets import ROOM, Buckets, Room, together
from ingestion.loading.checks import check_history, valid_now
from ingestion.loading.counts import LoadCounts, RejectedRow
from ingestion.loading.modes import Mode, mode_of, schema_of
from ingestion.typed import Records
from pipeline.columns.arrays import Ints
from pipeline.definition.table import Table

Reject = Callable[[Sequence[RejectedRow]], None]
PLACE: Sequence[Any] = (
    pa.field("its part", pa.int32()),
    pa.field("its number", pa.int64()),
)  # no column has such a name


class NextVersion:
    """One load of one table: give it the rows before (None: there is no version), feed it the origin's, and take the version's rows.

    `rejected` are rows that are well formed and contradict others; `had` are the rows before that are valid now.
    """

    def __init__(
        self,
        table: Table,
        before: Iterable[pa.Table] | None,
        at: datetime,
        counts: LoadCounts,
        room: Room = ROOM,
    ) -> None:
        self.table, self.at, self.counts = table, at, counts
        self.had = 0
        self._new = Buckets(table, pa.schema([*Records(table.record).schema, *PLACE]), room)
        nullable = pa.schema([field.with_nullable(True) for field in schema_of(table)])
        self._old = None if before is None else Buckets(table, nullable, room)
        for rows in before or ():
            assert self._old is not None
            self.had += valid_now(table, rows)
            self._old.add(rows.cast(nullable))

    def feed(self, rows: pa.RecordBatch, numbers: Ints, part: int) -> None:
        """Take accepted rows of the part of that number, `numbers` (int64) the place of each in it."""
        place = pa.array(np.full(rows.num_rows, part, np.int32)), pa.array(numbers, pa.int64())
        self._new.add(pa.RecordBatch.from_arrays([*rows.columns, *place], schema=self._new.schema))

    def tables(self, parts: Sequence[str], reject: Reject) -> Iterator[pa.Table]:
        """The version's rows, once all are fed; `parts` are the parts' names, `reject` is given the rows that are in no version."""
        buckets = [self._new] if self._old is None else [self._new, self._old]
        with ExitStack() as stack:
            for one in buckets:
                stack.callback(one.close)
            for number in range(together(buckets)):
                yield from self._bucket(number, parts, reject)

    def _bucket(self, number: int, parts: Sequence[str], reject: Reject) -> Iterator[pa.Table]:
        schema = schema_of(self.table)
        before = None if self._old is None else self._old.bucket(number)
        rows = self._new.bucket(number)
        if not rows.num_rows and (before is None or not before.num_rows):
            return
        mode = mode_of(self.table, before, self.at, self.counts)
        made = [*self._fed(mode, rows, parts, reject), *mode.finish()]
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
