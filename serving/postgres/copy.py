"""Arrow tables through COPY, as CSV that pyarrow writes and reads: no Python object per row.

    copy_out(copy_in(table)) == table        to the bit, for every type a state or a value can have

Null is an empty field without quotes, the empty text is `""`. decimal256 travels as text, for pyarrow's CSV reader does
not know it; binary as Postgres's hex, `\\x` and two digits a byte; UUIDs as Postgres writes them.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import numpy as np
import psycopg2.extensions
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from sqlalchemy.engine import Connection

from pipeline.base.errors import StoreError
from pipeline.columns.arrays import fixed_buffers, text_buffers
from serving.postgres.quoting import quote

CHUNK_BYTES = 1 << 20
BLOCK_BYTES = 1 << 24  # a row must fit: a value has 5 MB at most
DIGITS = np.array([f"{byte:02x}".encode() for byte in range(256)], "S2").view(np.uint16)  # byte -> its two hex digits
NIBBLES = np.array([int(chr(c), 16) if chr(c) in "0123456789abcdef" else 0 for c in range(256)], np.uint8)
WRITE = pacsv.WriteOptions(include_header=False, batch_size=1 << 16)


def cursor_of(connection: Connection) -> Any:
    """The psycopg2 cursor of a connection's transaction: COPY is not in SQLAlchemy's language."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg2.extensions.connection)
    return driver.cursor()


def travels_as_text(type: pa.DataType) -> bool:
    """True when CSV gives the type as text that we read ourselves."""
    return bool(pa.types.is_decimal256(type) or pa.types.is_binary(type) or pa.types.is_fixed_size_binary(type))


def to_csv(table: pa.Table) -> pa.Buffer:
    """The table as CSV without a header."""
    for i, field in enumerate(table.schema):
        if pa.types.is_decimal256(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(pa.string()))
        elif pa.types.is_binary(field.type):
            table = table.set_column(
                i, field.name, pa.chunked_array([to_hex(c) for c in table.column(i).chunks], pa.large_string())
            )
        elif pa.types.is_fixed_size_binary(field.type):
            texts = pa.chunked_array([to_uuid(c) for c in table.column(i).chunks], pa.string())
            table = table.set_column(i, field.name, texts)
    sink = pa.BufferOutputStream()
    pacsv.write_csv(table, sink, WRITE)
    return sink.getvalue()


def to_hex(array: pa.Array) -> pa.Array:
    """Binary as Postgres writes bytea; nulls stay null."""
    offsets, data = text_buffers(array)
    offsets = offsets.astype(np.int64)  # twice as many digits as bytes may be more than int32 counts
    digits = DIGITS[data[offsets[0] : offsets[-1]]]
    buffers = [pa.py_buffer(2 * (offsets - offsets[0])), pa.py_buffer(digits)]
    text = pa.Array.from_buffers(pa.large_string(), len(array), [None, *buffers])
    parts: Any = [pa.scalar("\\x", pa.large_string()), text, pa.scalar("", pa.large_string())]
    found: pa.Array = pc.if_else(array.is_valid(), pc.binary_join_element_wise(*parts), None)
    return found


def to_uuid(array: pa.Array) -> pa.Array:
    """UUIDs as 32 hexadecimal digits, which Postgres takes; nulls stay null."""
    offsets, data = fixed_buffers(array)
    digits = DIGITS[data[offsets[0] : offsets[-1]]]
    ends: Any = np.arange(0, 32 * len(array) + 1, 32, dtype=np.int32)
    text = pa.Array.from_buffers(pa.string(), len(array), [None, pa.py_buffer(ends), pa.py_buffer(digits)])
    return pc.if_else(array.is_valid(), text, pa.scalar(None, pa.string())) if array.null_count else text


def from_uuid(text: pa.Array) -> pa.Array:
    """UUIDs from what Postgres writes: 8-4-4-4-12, in lower case."""
    offsets, digits = text_buffers(text.fill_null(str(UUID(int=0))))
    digits = digits[offsets[0] : offsets[-1]]
    nibbles = NIBBLES[digits[digits != ord("-")]].reshape(-1, 2)
    data: Any = nibbles[:, 0] << 4 | nibbles[:, 1]
    found = pa.Array.from_buffers(pa.binary(16), len(text), [None, pa.py_buffer(data)])
    return pc.if_else(text.is_valid(), found, pa.scalar(None, pa.binary(16))) if text.null_count else found


def _typed(column: pa.Array, type: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_binary(type):
        return from_uuid(column)
    return from_hex(column) if pa.types.is_binary(type) else column.cast(type)


def from_hex(text: pa.Array) -> pa.Array:
    """Binary from the text that to_hex gave."""
    if not pc.all(pc.starts_with(text, "\\x")).as_py() and text.null_count < len(text):
        raise StoreError(
            "Postgres gave binary in another form than hex; let nothing between set bytea_output, and try again"
        )
    offsets, digits = text_buffers(text.fill_null("\\x"))
    nibbles = NIBBLES[digits[offsets[0] : offsets[-1]]].reshape(-1, 2)
    ends: Any = (offsets - offsets[0]) // 2
    data: Any = np.delete(nibbles[:, 0] << 4 | nibbles[:, 1], ends[:-1])  # the `\x` made a byte at the start of each
    ends = (ends - np.arange(len(ends))).astype(np.int32)
    found = pa.Array.from_buffers(pa.binary(), len(text), [None, pa.py_buffer(ends), pa.py_buffer(data)])
    return pc.if_else(text.is_valid(), found, None) if text.null_count else found


def copy_in(connection: Connection, target: str, columns: Sequence[str], tables: Iterable[pa.Table]) -> None:
    """COPY `columns` of each table into `target` (quoted, with its schema); a row that breaks a constraint raises."""
    for table in tables:
        if table.num_rows:
            copy_csv(connection, target, columns, to_csv(table.select(list(columns))))


def copy_csv(connection: Connection, target: str, columns: Sequence[str], csv: pa.Buffer) -> None:
    """The same with what to_csv made of the table's `columns`."""
    names = ", ".join(quote(name) for name in columns)
    with cursor_of(connection) as cursor:
        cursor.copy_expert(f"COPY {target} ({names}) FROM STDIN (FORMAT csv)", io.BytesIO(csv), CHUNK_BYTES)


def copy_out(connection: Connection, query: str, schema: pa.Schema) -> pa.Table:
    """The rows of a query (its columns in the order of `schema`) in memory."""
    buffer = io.BytesIO()
    copy_to_file(connection, query, buffer)
    size = buffer.tell()
    buffer.seek(0)
    return pa.Table.from_batches(read_csv(buffer, schema, block_bytes=size + 1) if size else [], schema)


def copy_to_file(connection: Connection, query: str, file: IO[bytes]) -> None:
    """The rows of a query as CSV, in bounded memory."""
    with cursor_of(connection) as cursor:
        cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv, FORCE_QUOTE *)", file, CHUNK_BYTES)


def read_csv(
    source: IO[bytes] | Path, schema: pa.Schema, *, block_bytes: int = BLOCK_BYTES
) -> Iterator[pa.RecordBatch]:
    """The rows of what copy_to_file wrote, as record batches of about `block_bytes`."""
    if isinstance(source, Path) and source.stat().st_size == 0:
        return
    reader = pacsv.open_csv(
        source,
        pacsv.ReadOptions(column_names=schema.names, block_size=block_bytes, use_threads=False),
        pacsv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        pacsv.ConvertOptions(
            column_types={f.name: pa.string() if travels_as_text(f.type) else f.type for f in schema},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    )
    with reader:
        for batch in reader:
            columns = [_typed(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
