"""Records of Kafka's message format 2, one after the other in memory, to columns.

    record = length, attributes, timestamp delta, offset delta, key, value, headers        (integers as zigzag varints)
    column j of a record's row in `spans` is where a part begins, column j + 1 its size, -1 when it is null

No byte is trusted: decode_records reads nothing outside of [start, end) of a batch, and what it accepts fills it to the last byte.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.bytes import byte, copy_bytes
from pipeline.kernels.compiling import INT64, INT_TABLE, INTS, INTS32, READ_INT_TABLE, kernel

Array = np.ndarray[Any, Any]

# Columns of `batches`, one row for each record batch.
START, END, COUNT, BASE_OFFSET, LAST_DELTA, FIRST_TIMESTAMP, FIXED, MAX_TIMESTAMP = range(8)
BATCH_COLUMNS = 8
# Columns of `spans`, one row for each record; HEADER_BYTES counts keys and values of its headers.
KEY, KEY_SIZE, VALUE, VALUE_SIZE, HEADERS, HEADER_COUNT, HEADER_BYTES = range(7)
SPAN_COLUMNS = 7
SMALLEST_RECORD = 7  # bytes: one for each of its seven parts

SOUND, CUT_SHORT, WRONG_LENGTH, WRONG_HEADERS, WRONG_OFFSET, WRONG_TIMESTAMP, LEFT_OVER = range(7)
FAULTS = (
    "",
    "a record runs over its end",
    "a record's parts do not fill its length",
    "a record's headers cannot be",
    "the offsets of its records do not rise, or leave its range",
    "a record's timestamp is beyond 64 bits",
    "bytes are left over behind its last record",
)


@njit(forceinline=True)
def _varint(data, at, end):  # type: ignore[no-untyped-def]
    """(value, where the next part begins); -1 for the latter when it leaves [at, end) or 64 bits."""
    raw, shift = np.uint64(0), np.uint64(0)
    value, after = np.int64(0), np.int64(-1)
    while at < end:
        found = np.uint64(byte(data, at))
        at += 1
        raw |= (found & np.uint64(127)) << shift
        if found < np.uint64(128):
            if shift < np.uint64(63) or found <= np.uint64(1):
                value, after = np.int64(raw >> np.uint64(1)) ^ -np.int64(raw & np.uint64(1)), at
            break
        shift += np.uint64(7)
        if shift > np.uint64(63):
            break
    return value, after


@njit(forceinline=True)
def _part(data, at, end):  # type: ignore[no-untyped-def]
    """(where it begins, its size, where the next part begins) of nullable bytes; the last is -1 when they leave [at, end)."""
    size, begin = _varint(data, at, end)
    after = begin
    if begin >= 0 and size > 0:
        after = begin + size if size <= end - begin else np.int64(-1)
    return begin, max(size, np.int64(-1)), after


@njit
def _headers(data, at, end, count):  # type: ignore[no-untyped-def]
    """(bytes of keys and values, where they end) of `count` headers; -1 for the latter when they cannot be."""
    total = np.int64(0)
    for _ in range(count):
        _, size, at = _part(data, at, end)
        if at < 0 or size < 0:  # a header's key is never null
            return total, np.int64(-1)
        total += size
        _, size, at = _part(data, at, end)
        if at < 0:
            return total, np.int64(-1)
        total += max(size, np.int64(0))
    return total, at


@kernel((INT64, READ_INT_TABLE, INTS, INTS, INT_TABLE))
def decode_records(data: int, batches: Array, offsets: Array, timestamps: Array, spans: Array) -> tuple[int, int, int]:
    """Fill offsets, timestamps and spans (a row for each of the batches' COUNT records) from the bytes at the address `data`.

    (fault, index of the batch, records before it): fault is SOUND, or what is wrong with that batch; what is behind it is not filled.
    """
    row, last_offset = 0, np.int64(-1)
    for b in range(len(batches)):
        at, end, first_row = batches[b, START], batches[b, END], row
        for _ in range(batches[b, COUNT]):
            length, at = _varint(data, at, end)
            if at < 0 or length < 0 or length > end - at:
                return CUT_SHORT, b, first_row
            stop = at + length
            _, at = _varint(data, at, stop)  # its attributes, all unused
            timestamp, at = _varint(data, at, stop) if at >= 0 else (np.int64(0), at)
            delta, at = _varint(data, at, stop) if at >= 0 else (np.int64(0), at)
            if at < 0:
                return CUT_SHORT, b, first_row
            key, key_size, at = _part(data, at, stop)
            if at < 0:
                return CUT_SHORT, b, first_row
            value, value_size, at = _part(data, at, stop)
            if at < 0:
                return CUT_SHORT, b, first_row
            header_count, at = _varint(data, at, stop)
            if at < 0:
                return CUT_SHORT, b, first_row
            spans[row, HEADERS], spans[row, HEADER_COUNT], spans[row, HEADER_BYTES] = at, header_count, 0
            if header_count != 0:
                if header_count < 0 or header_count > stop - at:
                    return WRONG_HEADERS, b, first_row
                spans[row, HEADER_BYTES], at = _headers(data, at, stop, header_count)
                if at < 0:
                    return WRONG_HEADERS, b, first_row
            if at != stop:
                return WRONG_LENGTH, b, first_row
            offset = batches[b, BASE_OFFSET] + delta
            if delta < 0 or delta > batches[b, LAST_DELTA] or offset <= last_offset:
                return WRONG_OFFSET, b, first_row
            last_offset = offset
            if batches[b, FIXED]:
                timestamps[row] = batches[b, MAX_TIMESTAMP]
            else:
                base = batches[b, FIRST_TIMESTAMP]
                total = base + timestamp
                if (base ^ total) & (timestamp ^ total) < 0:  # both have the sign that the sum lacks: it overflowed
                    return WRONG_TIMESTAMP, b, first_row
                timestamps[row] = total
            offsets[row] = offset
            spans[row, KEY], spans[row, KEY_SIZE] = key, key_size
            spans[row, VALUE], spans[row, VALUE_SIZE] = value, value_size
            row += 1
        if at != end:
            return LEFT_OVER, b, first_row
    return SOUND, len(batches), row


@kernel((READ_INT_TABLE, INT64, INT64, INT64))
def rows_within(spans: Array, start: int, stop: int, most: int) -> tuple[int, int]:
    """(rows from `start` on, at most up to `stop`, whose keys, values and headers are of `most` bytes or less in all, those bytes).

    `spans` is int64 (records, SPAN_COLUMNS), as decode_records fills it. (0, 0) when already the first row is larger: the caller
    takes that one by itself, or never gets on.
    """
    total = 0
    for row in range(start, stop):
        size = max(spans[row, KEY_SIZE], 0) + max(spans[row, VALUE_SIZE], 0) + spans[row, HEADER_BYTES]
        if total + size > most:
            return row - start, total
        total += size
    return max(stop - start, 0), total


@kernel((READ_INT_TABLE, INT64, INT64, INT64, INTS32))
def bounds_of(spans: Array, column: int, start: int, stop: int, bounds: Array) -> int:
    """Fill `bounds` (int32, a row more) with where each row's part begins and ends in one buffer; how many parts are null.

    `column` is KEY or VALUE; the bounds are Arrow's offsets, from 0, and a null part has no length. The sizes must add up to less than
    2**31, which rows_within sees to.
    """
    total, nulls = 0, 0
    bounds[0] = 0
    for row in range(start, stop):
        size = spans[row, column + 1]
        if size < 0:
            nulls += 1
        else:
            total += size
        bounds[row - start + 1] = total
    return nulls


@kernel((INT64, READ_INT_TABLE, INT64, INT64, INT64, INT64))
def gather(data: int, spans: Array, column: int, start: int, stop: int, target: int) -> None:
    """Copy the parts of rows [start, stop) from the address `data` to the address `target`, one behind the other; nulls take no room.

    Nothing is checked: `target` must have as many bytes as bounds_of ends in, and both memories must outlive the call.
    """
    filled = 0
    for row in range(start, stop):
        size = spans[row, column + 1]
        if size > 0:
            at = spans[row, column]
            copy_bytes(data, at, at + size, target, filled)
            filled += size


@kernel((INT64, INT64, READ_INT_TABLE, INT64, INT64, INT_TABLE))
def header_spans(data: int, end: int, spans: Array, start: int, stop: int, found: Array) -> None:
    """Fill `found` (a row for each header: key, its size, value, its size) from the headers of rows that decode_records accepted.

    `found` is int64 (headers of rows [start, stop), 4 columns at least), places from the address `data`; memory ends at `data` + `end`.
    """
    filled = 0
    for row in range(start, stop):
        at = spans[row, HEADERS]
        for _ in range(spans[row, HEADER_COUNT]):
            found[filled, KEY], found[filled, KEY_SIZE], at = _part(data, at, end)
            found[filled, VALUE], found[filled, VALUE_SIZE], at = _part(data, at, end)
            filled += 1
