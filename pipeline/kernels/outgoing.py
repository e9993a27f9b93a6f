"""Records as they stand in a record batch of Kafka's (format 2): from columns of keys and values to the bytes behind the batch's header.

    bytes of a batch = of its records, one after the other        record = varint(size), 0, 0, varint(place), key, value, 0

Timestamps are the batch's first, so their deltas are 0; there are no headers. Numbers are zigzag varints, and none is negative.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.bytes import copy_bytes, set_byte
from pipeline.kernels.compiling import INT64, READ_BYTES, READ_INTS, kernel

Array = np.ndarray[Any, Any]
FIXED_BYTES = 3  # of a record: attributes, timestamp, number of headers


@njit(forceinline=True)
def varint_size(number):  # type: ignore[no-untyped-def]
    """Bytes of a number that is not negative, as a zigzag varint."""
    left, size = number << 1, 1
    while left >= 128:
        left >>= 7
        size += 1
    return size


@njit(forceinline=True)
def set_varint(target, at, number):  # type: ignore[no-untyped-def]
    """Write it; the place behind it."""
    left = number << 1
    while left >= 128:
        set_byte(target, at, np.uint8(left & 127 | 128))
        left >>= 7
        at += 1
    set_byte(target, at, np.uint8(left))
    return at + 1


@njit(forceinline=True)
def inner_size(place, key, value):  # type: ignore[no-untyped-def]
    """Bytes of a record behind its size; `key` and `value` in bytes."""
    return FIXED_BYTES + varint_size(place) + varint_size(key) + key + varint_size(value) + value


@kernel((READ_INTS, READ_BYTES, READ_INTS, READ_BYTES, READ_INTS, INT64))
def encode_records(
    key_offsets: Array, keys: Array, value_offsets: Array, values: Array, rows: Array, most_bytes: int
) -> tuple[Array, Array, Array]:
    """(bytes, end of each batch in them, records of each batch; int64) of the records at these rows, in their order.

    Text r of a column is [offsets[r], offsets[r + 1]) of its bytes. A batch has at most `most_bytes`, or one record that is larger.
    """
    count = len(rows)
    ends, counts, batches = np.empty(count, np.int64), np.empty(count, np.int64), 0
    total, used, place = np.int64(0), np.int64(0), np.int64(0)
    for n in range(count):
        key = key_offsets[rows[n] + 1] - key_offsets[rows[n]]
        value = value_offsets[rows[n] + 1] - value_offsets[rows[n]]
        inner = inner_size(place, key, value)
        size = varint_size(inner) + inner
        if place > 0 and used + size > most_bytes:
            ends[batches], counts[batches] = total, place
            batches += 1
            place, used = np.int64(0), np.int64(0)
            inner = inner_size(place, key, value)
            size = varint_size(inner) + inner
        total += size
        used += size
        place += 1
    if place > 0:
        ends[batches], counts[batches] = total, place
        batches += 1
    out = np.empty(total, np.uint8)
    target, key_data, value_data = out.ctypes.data, keys.ctypes.data, values.ctypes.data
    at, n = np.int64(0), 0
    for batch in range(batches):
        for number in range(counts[batch]):
            first_key, last_key = key_offsets[rows[n]], key_offsets[rows[n] + 1]
            first, last = value_offsets[rows[n]], value_offsets[rows[n] + 1]
            at = set_varint(target, at, inner_size(number, last_key - first_key, last - first))
            set_byte(target, at, np.uint8(0))
            set_byte(target, at + 1, np.uint8(0))
            at = set_varint(target, at + 2, number)
            at = set_varint(target, at, last_key - first_key)
            copy_bytes(key_data, first_key, last_key, target, at)
            at = set_varint(target, at + last_key - first_key, last - first)
            copy_bytes(value_data, first, last, target, at)
            at += last - first
            set_byte(target, at, np.uint8(0))
            at += 1
            n += 1
    return out, ends[:batches], counts[:batches]


__all__ = ["encode_records"]
