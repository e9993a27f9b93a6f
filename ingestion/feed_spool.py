"""Rows of one reading, kept in a temporary file until all of them are there, and then given in the order of their cursor values.

ordered(n) = the rows added, by rising cursor, n at a time        in memory: the cursor values, and n rows
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc


class Spooled(NamedTuple):
    """Rows: keys and values (binary), and their cursor values."""

    keys: pa.Array
    values: pa.Array
    cursors: pa.Array


class Spool:
    """A temporary file of rows; gone when the block ends. Add all, then ask for them."""

    def __init__(self, cursor_type: pa.DataType) -> None:
        fields: list[Any] = [("key", pa.binary()), ("value", pa.binary()), ("cursor", cursor_type)]
        self._schema = pa.schema(fields)
        self.rows = 0

    def __enter__(self) -> "Spool":
        self._folder = tempfile.TemporaryDirectory(prefix="watershed-")
        self._path = str(Path(self._folder.name) / "rows.arrow")
        self._writer = pa.ipc.new_file(self._path, self._schema)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._folder.cleanup()

    def add(self, rows: Spooled) -> None:
        """Write rows."""
        self._writer.write_batch(pa.RecordBatch.from_arrays(list(rows), schema=self._schema))
        self.rows += len(rows.keys)

    def ordered(self, count: int) -> Iterator[Spooled]:
        """All rows by their cursor, `count` at a time."""
        self._writer.close()
        with pa.memory_map(self._path) as file:
            table = pa.ipc.open_file(file).read_all()
            order: Any = pc.array_sort_indices(table.column("cursor").combine_chunks()) if self.rows else []
            for start in range(0, self.rows, count):
                taken = table.take(order[start : start + count])
                yield Spooled(*(_whole(taken.column(name)) for name in ("key", "value", "cursor")))


def _whole(column: Any) -> pa.Array:
    return pa.concat_arrays(column.chunks)


__all__ = ["Spool", "Spooled"]
