"""Rows in buckets by the hash of their key: in memory while they are few, in a temporary file beyond that.

rows added = Σ over n of bucket(n)        rows of one key are in one bucket, in the order in which they were added

So a version of any size is made a bucket at a time, and memory holds one of them.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.loading.rows import hashed
from pipeline.base.errors import LakeError
from pipeline.definition.table import Table


@dataclass(frozen=True)
class Room:
    """Memory for rows, in bytes, before they go into a file; and the number of buckets that they have there."""

    memory_bytes: int = 16 * 1024 * 1024
    buckets: int = 256


ROOM = Room()


class Buckets:
    """Rows of a table, some columns of it left out and others beside them as one likes; all of one schema.

    The file has no name: a process that dies leaves nothing. The usual mistake: to ask for a bucket of some rows that are spilled, and
    of others that are not: `together` makes them alike.
    """

    def __init__(self, table: Table, schema: pa.Schema, room: Room = ROOM) -> None:
        self.table, self.schema, self.room = table, schema, room
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = 0
        self._file: Any = None
        self._pieces: list[list[tuple[int, int]]] = [[] for _ in range(room.buckets)]  # in the file: [start, end)

    def __len__(self) -> int:
        return 1 if self._file is None else self.room.buckets

    def add(self, rows: pa.RecordBatch | pa.Table) -> None:
        """Take rows. LakeError where the temporary file has no room."""
        for batch in rows.to_batches() if isinstance(rows, pa.Table) else [rows]:
            self._held.append(batch)
            self._held_bytes += batch.nbytes
        if self._held_bytes > self.room.memory_bytes:
            self.spill()

    def spill(self) -> None:
        """Write what memory holds into the file, so that there is more than one bucket."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="watershed-load-")  # noqa: SIM115  # close() does
            self._write(self._file)
        except OSError as error:
            raise LakeError(
                f"the temporary file of the load of {self.table.name} cannot be written in {tempfile.gettempdir()} ({error.strerror});"
                " it needs as much room as the rows: set TMPDIR to a folder that has it"
            ) from None

    def _write(self, file: Any) -> None:
        held = pa.Table.from_batches(self._held, self.schema)
        self._held, self._held_bytes = [], 0
        if not held.num_rows:
            return
        # The other half of the hash finds the slot in a HashTable: a bucket must not be a corner of one.
        number = hashed(held, self.table, self.table.key)[:, 1] % np.uint64(self.room.buckets)
        order = np.argsort(number, kind="stable")
        held = held.take(pa.array(order, pa.int64()))
        ends = np.searchsorted(number[order], np.arange(self.room.buckets, dtype=np.uint64), side="right")
        start, at = 0, file.tell()
        for bucket, end in enumerate(ends.tolist()):
            if end > start:
                with pa.ipc.new_stream(file, self.schema) as stream:
                    stream.write_table(held.slice(start, end - start))
                self._pieces[bucket].append((at, file.tell()))
            start, at = end, file.tell()

    def bucket(self, number: int) -> pa.Table:
        """The rows of a bucket, in the order in which they were added."""
        if self._file is None:
            return pa.Table.from_batches(self._held, self.schema)
        if self._held:
            self.spill()
        self._file.flush()
        found = [self.schema.empty_table()]
        for start, end in self._pieces[number]:
            self._file.seek(start)
            found.append(pa.ipc.open_stream(self._file.read(end - start)).read_all())
        self._file.seek(0, 2)
        return pa.concat_tables(found)

    def close(self) -> None:
        """Give the file back."""
        self._held = []
        if self._file is not None:
            self._file.close()


def together(several: Sequence[Buckets]) -> int:
    """The number of buckets, the same of each: where one is in a file, all are."""
    if any(len(one) > 1 for one in several):
        for one in several:
            one.spill()
    return max(len(one) for one in several)


__all__ = ["ROOM", "Buckets", "Room", "together"]
