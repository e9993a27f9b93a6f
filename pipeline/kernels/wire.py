"""The pieces of a message on the wire, as Protobuf writes them. `data` is an address (kernels.bytes).

    at = behind the piece, at most `end`        at = NOWHERE: it is broken, or goes on behind `end`

A varint has at most 64 bits, in at most ten bytes; a tag and a length at most 32, in at most five, as protobuf's own parser takes them.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.bytes import HIGH_BITS, LOW_BITS, byte, int_at, set_int, word
from pipeline.kernels.scalars import utf8

NOWHERE = np.int64(-1)
VARINT, FIXED64, DELIMITED, START_GROUP, END_GROUP, FIXED32 = 0, 1, 2, 3, 4, 5
DEPTH_LIMIT = 64  # of messages and groups; the record's own is 1
VALID, BROKEN_TEXT, NUL = 0, 1, 2
MOST_TAG, MOST_SIZE = 2**32 - 1, 2**31 - 1


@njit(nogil=True)
def _long(data: Any, at: Any, end: Any, most: Any) -> Any:
    """(at, value) of a varint of up to `most` bytes."""
    value, shift = np.uint64(0), np.uint64(0)
    for _ in range(most):
        if at >= end:
            return NOWHERE, value
        found = np.uint64(byte(data, at))
        at += 1
        if shift == np.uint64(63) and found > np.uint64(1):
            return NOWHERE, value
        value |= (found & np.uint64(127)) << shift
        if found < np.uint64(128):
            return at, value
        shift += np.uint64(7)
    return NOWHERE, value


@njit(forceinline=True)
def varint(data, at, end):  # type: ignore[no-untyped-def]
    """(at, value) of 64 bits; uint64."""
    if at < end and byte(data, at) < 128:
        return at + 1, np.uint64(byte(data, at))
    return _long(data, at, end, 10)


@njit(forceinline=True)
def tag(data, at, end):  # type: ignore[no-untyped-def]
    """(at, value): the number of a field << 3 | its wire type; int64."""
    if at < end and byte(data, at) < 128:
        value = np.int64(byte(data, at))
        return (at + 1 if value >= 8 else NOWHERE), value
    at, found = _long(data, at, end, 5)
    value = np.int64(found)
    return (at if 8 <= value <= MOST_TAG else NOWHERE), value


@njit(forceinline=True)
def size(data, at, end):  # type: ignore[no-untyped-def]
    """(at, behind what it counts) of a length and as many bytes."""
    if at < end and byte(data, at) < 128:
        stop = at + 1 + np.int64(byte(data, at))
        return (at + 1 if stop <= end else NOWHERE), stop
    at, found = _long(data, at, end, 5)
    if at < 0 or found > np.uint64(MOST_SIZE) or np.int64(found) > end - at:
        return NOWHERE, at
    return at, at + np.int64(found)


@njit(forceinline=True)
def _skip_one(data, at, end, wire):  # type: ignore[no-untyped-def]
    """at behind a value that is no group."""
    if wire == VARINT:
        at, _ = varint(data, at, end)
        return at
    if wire == DELIMITED:
        at, stop = size(data, at, end)
        return stop if at >= 0 else NOWHERE
    wide = 8 if wire == FIXED64 else 4
    return at + wide if (wire == FIXED64 or wire == FIXED32) and end - at >= wide else NOWHERE  # noqa: SIM109


@njit(nogil=True)
def _group(data: Any, at: Any, end: Any, number: Any, depth: Any, stack: Any) -> Any:
    """at behind the group whose tag, of field `number`, was read at level `depth`; `stack` has DEPTH_LIMIT places."""
    level = np.int64(0)
    set_int(stack, level, number)
    while True:
        if depth + level + 1 > DEPTH_LIMIT:
            return NOWHERE
        at, found = tag(data, at, end)
        if at < 0:
            return NOWHERE
        wire = found & 7
        if wire == START_GROUP:
            level += 1
            if depth + level + 1 > DEPTH_LIMIT:
                return NOWHERE
            set_int(stack, level, found >> 3)
        elif wire == END_GROUP:
            if int_at(stack, level) != found >> 3:
                return NOWHERE
            level -= 1
            if level < 0:
                return at
        else:
            at = _skip_one(data, at, end, wire)
            if at < 0:
                return NOWHERE


@njit(forceinline=True)
def skip(data, at, end, found, depth, stack):  # type: ignore[no-untyped-def]
    """at behind the value of a field that nobody asks for, whose tag is `found`, in a message at level `depth`."""
    wire = found & 7
    if wire == START_GROUP:
        return _group(data, at, end, found >> 3, depth, stack)
    return _skip_one(data, at, end, wire)


@njit(forceinline=True)
def text(data, at, end):  # type: ignore[no-untyped-def]
    """VALID, BROKEN_TEXT (no UTF-8) or NUL (UTF-8 with U+0000, which no column can hold) of the bytes [at, end)."""
    state = np.int64(VALID)
    while True:
        while at + 8 <= end:
            eight = word(data, at)
            if (eight & HIGH_BITS) | ((eight - LOW_BITS) & ~eight & HIGH_BITS):
                break
            at += 8
        stop = min(at + 8, end)
        if at >= end:
            return state
        while at < stop:
            found = byte(data, at)
            if found < 128:
                at += 1
                if found == 0:
                    state = np.int64(NUL)
                continue
            length = utf8(data, at, end)
            if length == 0:
                return np.int64(BROKEN_TEXT)
            at += length
