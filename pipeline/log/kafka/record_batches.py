"""Kafka's record batches (message format 2) to Arrow: bytes as a broker keeps them in, RAW_SCHEMA out, no object per record.

    Records.rows(i, j) = raw_batch(the records that a client would make of those bytes)[i:j]

Nothing is believed before its CRC-32C: bytes that cannot be a batch raise DamagedLog, which names the offsets; none is skipped.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import lz4.frame  # type: ignore[import-untyped]
import numpy as np
import pyarrow as pa
import snappy  # type: ignore[import-untyped]
import zstandard
from crc32c import crc32c

from pipeline.base.errors import LogError
from pipeline.kernels import records as kernels
from pipeline.log.log import RAW_SCHEMA

Array = np.ndarray[Any, Any]

HEADER = struct.Struct(">qiibIhiqqqhii")
LENGTH = struct.Struct(">qi")
CHECKED_FROM = struct.calcsize(">qiibI")  # the CRC covers what follows it
MAGIC_AT = struct.calcsize(">qii")
SMALLEST = LENGTH.size + 14  # bytes of a record set of message format 0
CODEC, FIXED_TIME, TRANSACTIONAL, CONTROL = 0x07, 0x08, 0x10, 0x20
LARGEST_OFFSET = 1 << 62
LARGEST_PAYLOAD = 512 * 1024 * 1024  # bytes, decompressed: a small batch that claims more is a bomb
_HEADERS: Any = RAW_SCHEMA.field("headers").type
XERIAL = b"\x82SNAPPY\x00"


class DamagedLog(LogError):
    """Bytes that a broker sent are not the records they should be. Reading them again does not help."""


class Unpacking(Exception):
    """Fault of compressed bytes; `Records` adds where they are."""


class Batch(NamedTuple):
    """The header of one record batch at [at, at + size) of a buffer; the names are kafka-python's."""

    at: int
    size: int
    base_offset: int
    leader_epoch: int
    crc: int
    attributes: int
    last_offset_delta: int
    first_timestamp: int
    max_timestamp: int
    producer_id: int
    records_count: int

    @property
    def last_offset(self) -> int:
        """Offset of the last record that the batch was written with, also when compaction has taken it."""
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        """Offset to read on from behind the batch: never base_offset + records_count, for offsets have gaps."""
        return self.last_offset + 1

    @property
    def codec(self) -> int:
        """Number of the compression, the low 3 bits of the attributes; 0 for none, and not every number is known."""
        return self.attributes & CODEC

    @property
    def is_transactional(self) -> bool:
        """True when a transaction wrote it; whether that was aborted, the fetch response says and not the batch."""
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def is_control_batch(self) -> bool:
        """True for a marker of a transaction's end, whose record takes an offset and is nobody's event."""
        return bool(self.attributes & CONTROL)


def slices(buffer: bytes | memoryview) -> Iterator[tuple[int, int, int]]:
    """(where it begins, its size, its magic) of each complete batch; a last one that was cut off is left for the next fetch."""
    at = 0
    while len(buffer) - at >= LENGTH.size:
        base, length = LENGTH.unpack_from(buffer, at)
        size = LENGTH.size + length
        if size > len(buffer) - at:
            return
        if size < SMALLEST:
            raise DamagedLog(f"offset {base}: a record batch claims {length} bytes, less than its own header")
        yield at, size, struct.unpack_from(">b", buffer, at + MAGIC_AT)[0]
        at += size


def read_header(buffer: bytes | memoryview, at: int, size: int, checked: bool = True) -> Batch:
    """The batch at [at, at + size), complete and of format 2; raises DamagedLog when its CRC is not that of its bytes."""
    if size < HEADER.size:
        raise DamagedLog(
            f"offset {LENGTH.unpack_from(buffer, at)[0]}: a record batch of {size} bytes is shorter than its header"
        )
    base, _, epoch, magic, crc, attributes, last_delta, first, latest, producer, _, _, count = HEADER.unpack_from(
        buffer, at
    )
    batch = Batch(at, size, base, epoch, crc, attributes, last_delta, first, latest, producer, count)
    if magic != 2:
        raise DamagedLog(f"offset {base}: a record batch has the message format {magic}; known are 0, 1 and 2")
    if checked:
        found = crc32c(memoryview(buffer)[at + CHECKED_FROM : at + size])
        if found != crc:
            raise DamagedLog(f"{_where(batch)} has the CRC-32C {crc:08x}, and its bytes give {found:08x}")
    if not (0 <= base <= LARGEST_OFFSET and last_delta >= 0 and count >= 0):
        raise DamagedLog(f"{_where(batch)} cannot be: {count} records")
    return batch


def _where(batch: Batch) -> str:
    return f"offsets [{batch.base_offset}, {batch.next_offset}): the record batch"


class Records:
    """The records of some batches of one buffer, in order, as columns; `offsets` and `timestamps` are int64 arrays.

    Making it checks every byte; raises DamagedLog when one batch is not sound, and then none of them can be used.
    """

    def __init__(self, buffer: bytes | memoryview, batches: Sequence[Batch]) -> None:
        self._source, self._data, table = _payloads(buffer, batches)
        rows = int(table[:, kernels.COUNT].sum())
        self.offsets, self.timestamps = np.empty(rows, np.int64), np.empty(rows, np.int64)
        self._spans = np.empty((rows, kernels.SPAN_COLUMNS), np.int64)
        fault, index, _ = kernels.decode_records(self._data, table, self.offsets, self.timestamps, self._spans)
        if fault != kernels.SOUND:
            raise DamagedLog(f"{_where(batches[index])} is malformed: {kernels.FAULTS[fault]}")
        self._with_headers = bool(self._spans[:, kernels.HEADER_COUNT].any())
        if self._with_headers:
            self._check_names(batches[0], batches[-1])

    def __len__(self) -> int:
        return len(self.offsets)

    def within(self, start: int, most_rows: int, most_bytes: int) -> tuple[int, int]:
        """(n, bytes) such that rows [start, start + n) are the most that stay within both limits; n may be 0."""
        rows, size = kernels.rows_within(self._spans, start, min(start + most_rows, len(self)), most_bytes)
        return int(rows), int(size)

    def rows(self, start: int, stop: int) -> pa.RecordBatch:
        """Rows [start, stop), which come to less than 2 GiB, as a batch of RAW_SCHEMA of its own memory."""
        columns = [
            _integers(self.offsets[start:stop]),
            _integers(self.timestamps[start:stop]),
            self._binary(self._spans, kernels.KEY, start, stop, pa.binary()),
            self._binary(self._spans, kernels.VALUE, start, stop, pa.binary()),
            self._headers(start, stop),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=RAW_SCHEMA)

    def _binary(self, spans: Array, column: int, start: int, stop: int, kind: pa.DataType) -> pa.Array[Any]:
        bounds = np.empty(stop - start + 1, np.int32)
        nulls = kernels.bounds_of(spans, column, start, stop, bounds)
        data = np.empty(int(bounds[-1]), np.uint8)
        kernels.gather(self._data, spans, column, start, stop, data.ctypes.data)
        valid = None
        if nulls:
            valid = _buffer(np.packbits(spans[start:stop, column + 1] >= 0, bitorder="little"))
        buffers = [valid, _buffer(bounds), _buffer(data)]
        return pa.Array.from_buffers(kind, stop - start, buffers, null_count=int(nulls))

    def _headers(self, start: int, stop: int) -> pa.Array[Any]:
        bounds, pairs = self._names(start, stop)
        return pa.Array.from_buffers(_HEADERS, stop - start, [None, _buffer(bounds)], null_count=0, children=[pairs])

    def _names(self, start: int, stop: int) -> tuple[Array, pa.StructArray]:
        """(where each row's headers begin and end, the headers themselves)."""
        bounds = np.zeros(stop - start + 1, np.int32)
        if self._with_headers:
            np.cumsum(self._spans[start:stop, kernels.HEADER_COUNT], out=bounds[1:])
        found = np.empty((int(bounds[-1]), 4), np.int64)
        if len(found):
            kernels.header_spans(self._data, len(self._source), self._spans, start, stop, found)
        parts = [
            self._binary(found, kernels.KEY, 0, len(found), pa.string()),
            self._binary(found, kernels.VALUE, 0, len(found), pa.binary()),
        ]
        return bounds, pa.StructArray.from_arrays(parts, fields=list(_HEADERS.value_type))

    def _check_names(self, first: Batch, last: Batch) -> None:
        """Header names are text: raise DamagedLog unless all are UTF-8."""
        try:
            self._names(0, len(self))[1].field(0).validate(full=True)
        except pa.ArrowInvalid as error:
            what = f"offsets [{first.base_offset}, {last.next_offset}): the name of a record's header is not UTF-8"
            raise DamagedLog(what) from error


def _buffer(values: Array) -> pa.Buffer:
    found: pa.Buffer = pa.py_buffer(values)  # type: ignore[arg-type]  # the stubs know no arrays
    return found


def _integers(values: Array) -> pa.Array[Any]:
    return pa.Array.from_buffers(pa.int64(), len(values), [None, _buffer(values)], null_count=0)


def _payloads(buffer: bytes | memoryview, batches: Sequence[Batch]) -> tuple[Array, int, Array]:
    """(the memory that holds the records, its address, a row for each batch as decode_records wants it)."""
    table = np.empty((len(batches), kernels.BATCH_COLUMNS), np.int64)
    packed = any(batch.codec for batch in batches)
    pieces: list[Any] = []
    filled = 0
    for row, batch in zip(table, batches, strict=True):
        begin, end = batch.at + HEADER.size, batch.at + batch.size
        if packed:
            pieces.append(_unpacked(batch, memoryview(buffer)[begin:end]))
            begin, end = filled, filled + len(pieces[-1])
            filled = end
        if batch.records_count > (end - begin) // kernels.SMALLEST_RECORD:
            raise DamagedLog(
                f"{_where(batch)} is malformed: it claims {batch.records_count} records in {end - begin} bytes"
            )
        fixed = bool(batch.attributes & FIXED_TIME)
        row[:] = (
            *(begin, end, batch.records_count, batch.base_offset, batch.last_offset_delta),
            *(batch.first_timestamp, fixed, batch.max_timestamp),
        )
    if not packed:
        source = np.frombuffer(buffer, np.uint8)
    else:
        source = np.frombuffer(pieces[0] if len(pieces) == 1 else b"".join(pieces), np.uint8)
    return source, source.ctypes.data, table


def _unpacked(batch: Batch, packed: memoryview) -> bytes | memoryview:
    if batch.codec == 0 or (not packed and not batch.records_count):
        return packed
    if batch.codec not in CODECS:
        known = ", ".join(name for name, _ in CODECS.values())
        raise DamagedLog(
            f"{_where(batch)} is compressed with the codec {batch.codec}, which is unknown; known are none, {known}"
        )
    name, unpack = CODECS[batch.codec]
    try:
        return unpack(packed)
    except (
        Unpacking,
        zlib.error,
        snappy.UncompressError,
        zstandard.ZstdError,
        RuntimeError,
        ValueError,
        EOFError,
    ) as error:
        raise DamagedLog(f"{_where(batch)} cannot be decompressed with {name}: {error}") from error


def _limited(size: int) -> None:
    if size > LARGEST_PAYLOAD:
        raise Unpacking(f"its records come to more than {LARGEST_PAYLOAD} bytes")


def _gunzip(packed: memoryview) -> bytes:
    out: list[bytes] = []
    rest: Any = packed
    while rest:
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        out.append(member.decompress(rest, LARGEST_PAYLOAD + 1))
        _limited(sum(map(len, out)))
        if not member.eof:
            raise Unpacking("the compressed bytes end too early")
        rest = member.unused_data.lstrip(b"\0")
    return out[0] if len(out) == 1 else b"".join(out)


def _unlz4(packed: memoryview) -> bytes:
    out: list[bytes] = []
    rest: Any = packed
    while rest:
        frame = lz4.frame.LZ4FrameDecompressor()
        out.append(frame.decompress(rest, max_length=LARGEST_PAYLOAD + 1))
        _limited(sum(map(len, out)))
        if not frame.eof:
            raise Unpacking("the compressed bytes end too early")
        rest = frame.unused_data
    return out[0] if len(out) == 1 else b"".join(out)


def _unzstd(packed: memoryview) -> bytes:
    out: list[bytes] = []
    step = max(zstandard.frame_content_size(packed) + 1, 4 * len(packed), 64 * 1024)
    with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
        while piece := reader.read(min(step, LARGEST_PAYLOAD + 1)):
            out.append(piece)
            _limited(sum(map(len, out)))
    return out[0] if len(out) == 1 else b"".join(out)


def _unsnappy(packed: memoryview) -> bytes:
    """One block as Snappy itself writes it, or a stream of them in the framing of Java's xerial."""
    if len(packed) <= 16 or packed[: len(XERIAL)] != XERIAL:
        return _snappy_block(packed)
    out: list[bytes] = []
    at = 16
    while at < len(packed):
        if len(packed) - at < 4:
            raise Unpacking("the compressed bytes end too early")
        size = int.from_bytes(packed[at : at + 4], "big")
        at += 4
        if size > len(packed) - at:
            raise Unpacking("the compressed bytes end too early")
        out.append(_snappy_block(packed[at : at + size]))
        _limited(sum(map(len, out)))
        at += size
    return b"".join(out)


def _snappy_block(packed: memoryview) -> bytes:
    size = 0
    for place, found in enumerate(packed[:5]):
        size |= (found & 0x7F) << (7 * place)
        if found < 0x80:
            break
    _limited(size)
    plain: bytes = snappy.decompress(packed)
    return plain


CODECS: Mapping[int, tuple[str, Callable[[memoryview], bytes]]] = {
    1: ("gzip", _gunzip),
    2: ("snappy", _unsnappy),
    3: ("lz4", _unlz4),
    4: ("zstd", _unzstd),
}
