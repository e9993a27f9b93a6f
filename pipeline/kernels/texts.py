"""Texts that are no JSON, but raw bytes of a record's key or headers: which are texts, and which are whole numbers.

are_texts(bytes) <=> they are UTF-8, mostly without U+0000        integer(bytes) = the number of a JSON text, where it is whole and fits
"""

from typing import Any

import numpy as np

from pipeline.kernels.bytes import byte
from pipeline.kernels.compiling import INT64, READ_BYTES, READ_INTS32, READ_MASK, kernel
from pipeline.kernels.numbers import integer, number
from pipeline.kernels.scalars import DECODED, MINUS, NINE, ZERO, utf8

Array = np.ndarray[Any, Any]


@kernel((READ_INTS32, READ_BYTES, READ_MASK, INT64))
def are_texts(offsets: Array, data: Array, present: Array, least: int) -> Array:
    """bool (n,): data[offsets[i]:offsets[i + 1]] is UTF-8 of no byte below `least` (1: without U+0000); True where not present."""
    found = np.ones(len(present), np.bool_)
    address = data.ctypes.data
    for i in range(len(present)):
        at, end = np.int64(offsets[i]), np.int64(offsets[i + 1])
        while present[i] and at < end:
            first = byte(address, at)
            size = utf8(address, at, end) if first >= 0x80 else 1 if first >= least else 0
            if size == 0:
                found[i] = False
                break
            at += size
    return found


@kernel((READ_INTS32, READ_BYTES, READ_MASK))
def integers(offsets: Array, data: Array, present: Array) -> tuple[Array, Array]:
    """(int64 (n,), bool (n,)): the whole number that data[offsets[i]:offsets[i + 1]] is, and True where it is one or not present."""
    values, known = np.zeros(len(present), np.int64), np.ones(len(present), np.bool_)
    address = data.ctypes.data
    for i in range(len(present)):
        if not present[i]:
            continue
        at, end = np.int64(offsets[i]), np.int64(offsets[i + 1])
        known[i] = at < end and (byte(address, at) == MINUS or ZERO <= byte(address, at) <= NINE)
        if known[i]:
            stop, state, _, _, _, _ = number(address, at, end)
            known[i] = state == DECODED and stop == end
        if known[i]:
            values[i], state = integer(address, at, end)
            known[i] = state == DECODED
    return values, known
