"""A lake in memory: files are Arrow tables or bytes, written whole or not at all; everything else is the shipped Lake.

a file is there  <=>  its write reached the rename
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.base.errors import LakeError
from pipeline.lake.lake import NOTHING, Known, Lake, Tables
from pipeline.lake.manifest import File


class MemoryLake(Lake):
    """Replaces what touches the filesystem; manifests are the shipped JSON. `point` is called around every write."""

    def __init__(self, crash: CrashPoints | None = None, point: Callable[[str], None] = lambda _: None) -> None:
        self.root = "memory://lake"
        self.crash = crash or NoCrash()
        self.point = point
        self.is_local = False
        self._base = ""
        self.files: dict[str, pa.Table | bytes] = {}

    def uri(self, path: str) -> str:
        return f"{self.root}/{path}"

    def exists(self, path: str) -> bool:
        return path in self.files

    def all_exist(self, paths: Sequence[str]) -> bool:
        return all(map(self.exists, paths))

    def _file(self, path: str) -> Any:
        if path not in self.files:
            raise LakeError(f"lake {self.root}: there is no file {path}")
        return self.files[path]

    def read_bytes(self, path: str) -> bytes:
        self.point("lake.read")
        return bytes(self._file(path))

    def _settled(self, path: str, content: pa.Table | bytes) -> None:
        self.crash.reach("lake.before_rename")
        self.files[path] = content
        self.crash.reach("lake.after_rename")

    def write_bytes(self, path: str, content: bytes) -> None:
        self._settled(path, content)

    def write_table(self, path: str, schema: pa.Schema, tables: Tables, known: Known = NOTHING) -> int:
        parts = [t if isinstance(t, pa.Table) else pa.Table.from_batches([t], schema) for t in tables]
        table = pa.concat_tables(parts).combine_chunks() if parts else schema.empty_table()
        if table.schema.names != schema.names:
            raise ValueError(f"{path}: the table has the columns {table.schema.names}, not {schema.names}")
        self._settled(path, table)
        return table.num_rows

    def read_table(self, file: File | str, columns: list[str] | None = None) -> pa.Table:
        self.point("lake.read")
        table: pa.Table = self._file(file if isinstance(file, str) else file.path)
        if isinstance(file, File):
            self._check_rows(file, table.num_rows)
        return table if columns is None else table.select(columns)

    def read_batches(
        self, file: File, rows: int, columns: list[str] | None = None, encoded: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        table = self.read_table(file, columns)
        for name in encoded:
            table = table.set_column(table.schema.get_field_index(name), name, table.column(name).dictionary_encode())
        yield from table.to_batches(max_chunksize=rows)

    def last_row(self, path: str, columns: list[str]) -> dict[str, Any]:
        table = self.read_table(path, columns)
        return dict(table.slice(table.num_rows - 1).to_pylist()[0])

    def delete(self, path: str) -> None:
        self.point("lake.delete")
        self.files.pop(path, None)
