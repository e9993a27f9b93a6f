"""Avro's scalars, each from its first byte on. `data` is an address (kernels.bytes); nothing is read at `end` or behind it.

(value, behind it, state): DECODED, or BROKEN where the bytes end before, or are no such value, or the column cannot hold it
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.base.types import DECIMAL_DIGITS
from pipeline.kernels.bytes import HIGH_BITS, LOW_BITS, byte, first_byte, set_byte, word
from pipeline.kernels.scalars import BROKEN, DECODED, POWERS, UNSURE, utf8

LONG_BYTES = 10
INT_MIN = np.int64(-(2**63))
HYPHENS = 1 << 4 | 1 << 6 | 1 << 8 | 1 << 10  # before these bytes of a UUID
UUID_SIZE, UUID_TEXT = 16, 36


@njit(nogil=True)
def _further(data: Any, at: Any, end: Any) -> Any:
    """(value, behind it, state) of the varint at `at`, of at most LONG_BYTES bytes and 64 bits."""
    found, shift, size = np.uint64(0), np.uint64(0), 0
    while at < end and size < LONG_BYTES:
        part = np.uint64(byte(data, at))
        at += 1
        size += 1
        found |= (part & np.uint64(127)) << shift
        if part < np.uint64(128):
            state = BROKEN if size == LONG_BYTES and part > np.uint64(1) else DECODED
            return np.int64(found >> np.uint64(1)) ^ -np.int64(found & np.uint64(1)), at, state
        shift += np.uint64(7)
    return np.int64(0), at, BROKEN


@njit(forceinline=True)
def long(data, at, end):  # type: ignore[no-untyped-def]
    """(value, behind it, state) of the zigzag varint at `at`."""
    if at < end:
        first = np.int64(byte(data, at))
        if first < 128:
            return first >> 1 ^ -(first & 1), at + 1, DECODED
    return _further(data, at, end)


@njit(forceinline=True)
def sized(data, at, end):  # type: ignore[no-untyped-def]
    """(first byte, behind the last, state) of bytes or a string at `at`, whose length stands before them."""
    size, at, state = long(data, at, end)
    if state != DECODED or size < 0 or size > end - at:
        return at, at, BROKEN
    return at, at + size, DECODED


@njit(forceinline=True)
def real32(data, at):  # type: ignore[no-untyped-def]
    """The float at `at`, as a double."""
    bits = np.uint64(0)
    for k in range(4):
        bits |= np.uint64(byte(data, at + k)) << np.uint64(8 * k)
    return np.float64(np.uint32(bits).view(np.float32))


@njit(forceinline=True)
def real64(data, at):  # type: ignore[no-untyped-def]
    """The double at `at`."""
    return np.uint64(word(data, at)).view(np.float64)


@njit(nogil=True)
def is_text(data: Any, at: Any, end: Any) -> bool:
    """True when data[at:end] is UTF-8 without U+0000."""
    while at < end:
        while at + 8 <= end:
            eight = word(data, at)
            stops = ((eight - LOW_BITS) & ~eight | eight) & HIGH_BITS
            if stops:
                at += first_byte(stops)
                break
            at += 8
        if at >= end:
            return True
        found = byte(data, at)
        if found == 0:
            return False
        size = utf8(data, at, end) if found >= 128 else 1
        if size == 0:
            return False
        at += size
    return True


@njit(nogil=True)
def scaled(value: Any, shift: Any) -> Any:
    """(value * 10^shift, has more decimals than that, state): BROKEN beyond DECIMAL_DIGITS digits."""
    if value == 0:
        return np.int64(0), False, DECODED
    if shift < 0:
        unit = POWERS[-shift] if -shift <= DECIMAL_DIGITS else np.int64(0)
        if unit == 0 or value % unit:
            return np.int64(0), True, DECODED
        value, shift = value // unit, 0
    if shift >= DECIMAL_DIGITS:
        return np.int64(0), False, BROKEN
    limit = POWERS[DECIMAL_DIGITS - shift]
    if value <= -limit or value >= limit:
        return np.int64(0), False, BROKEN
    return value * POWERS[shift], False, DECODED


@njit(nogil=True)
def big_endian(data: Any, at: Any, end: Any) -> Any:
    """(value, fits) of the two's complement integer data[at:end], of at least one byte."""
    negative = byte(data, at) >= 128
    filling = 255 if negative else 0
    while end - at > 1 and byte(data, at) == filling and (byte(data, at + 1) >= 128) == negative:
        at += 1
    if end - at > 8:
        return np.int64(0), False
    found = np.int64(-1) if negative else np.int64(0)
    while at < end:
        found = found << 8 | np.int64(byte(data, at))
        at += 1
    return found, True


@njit(nogil=True)
def binary_decimal(data: Any, at: Any, end: Any, shift: Any) -> Any:
    """(unscaled value, has more decimals than the column, state) of the big-endian integer data[at:end] times 10^shift."""
    if at == end:
        return np.int64(0), False, BROKEN
    found, fits = big_endian(data, at, end)
    if not fits:
        return np.int64(0), False, UNSURE if shift < 0 else BROKEN
    return scaled(found, shift)


@njit(nogil=True)
def whole_decimal(data: Any, at: Any, end: Any, shift: Any) -> Any:
    """(value, False, state) of a decimal, of -shift decimal places, in a column of ints: it must be whole."""
    if at == end:
        return np.int64(0), False, BROKEN
    found, fits = big_endian(data, at, end)
    if not fits:
        return np.int64(0), False, UNSURE if shift < 0 else BROKEN
    if shift < 0 and found != 0:
        unit = POWERS[-shift] if -shift < len(POWERS) else np.int64(0)
        if unit == 0 or found % unit:
            return np.int64(0), False, BROKEN
        found = found // unit
    return found, False, DECODED


@njit(forceinline=True)
def _digit(value):  # type: ignore[no-untyped-def]
    return value + (48 if value < 10 else 87)


@njit(nogil=True)
def uuid_text(data: Any, at: Any, target: Any, to: Any) -> Any:
    """The place behind the text, of UUID_TEXT characters, that is written at target + to for the 16 bytes from `at` on."""
    for k in range(UUID_SIZE):
        if HYPHENS >> k & 1:
            set_byte(target, to, 45)
            to += 1
        found = np.int64(byte(data, at + k))
        set_byte(target, to, _digit(found >> 4))
        set_byte(target, to + 1, _digit(found & 15))
        to += 2
    return to
