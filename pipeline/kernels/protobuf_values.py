"""A value of a Protobuf message as what its column holds. `data` is an address (kernels.bytes), `row` that of an entry of WIDTH int64.

    value = what protobuf's own parser makes of the bytes, as the column's type: an int, an unscaled decimal, microseconds, a text's place

What is no value of its column is not BROKEN yet: it may be given again, and then counts the last one.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.bytes import byte, int_at, set_byte, set_int, set_real
from pipeline.kernels.json import DATETIME, DECIMAL, EPOCH, FLOAT, MAX_MS, STR, from_text
from pipeline.kernels.scalars import DECODED, POWERS
from pipeline.kernels.times import unit_of
from pipeline.kernels.wire import BROKEN_TEXT, NOWHERE, VALID, size, skip, tag, text, varint

WIDTH = 8
TAG, SOURCE, KIND, TARGET, SCALE, MORE, LAST, ONEOF = range(WIDTH)
# MORE and LAST: of an enumeration its rows, of a text MORE is 1 where an empty one is as good as missing, of a PACKED its wire type.
# Sources: how a value is written. Those up to ENUM are varints.
INT32, INT64_, UINT32, UINT64, SINT32, SINT64, BOOLEAN, ENUM = range(8)
FIXED_32, SFIXED_32, REAL_32, FIXED_64, SFIXED_64, REAL_64, TEXT, TIMESTAMP = range(8, 16)
MESSAGE, REPEATED, PACKED, IGNORED = range(16, 20)
UNKNOWN = np.int64(-1)
LOW_32, SIGN_32 = np.uint64(2**32 - 1), 2**31
SECONDS_MIN, SECONDS_MAX, SECOND_US, SECOND_NS = -62_135_596_800, 253_402_300_799, 1_000_000, 1_000_000_000
SECONDS_TAG, NANOS_TAG = 8, 16


@njit(forceinline=True)
def signed(raw, source):  # type: ignore[no-untyped-def]
    """(value, fits int64) of 64 bits that were a varint or fixed; int64."""
    low = np.int64(raw & LOW_32)
    if source == INT32 or source == ENUM or source == SFIXED_32:  # noqa: SIM109 -- no tuple in a compiled loop
        return (low ^ SIGN_32) - SIGN_32, True
    if source == UINT32 or source == FIXED_32:  # noqa: SIM109
        return low, True
    if source == SINT32:
        return low >> 1 ^ -(low & 1), True
    if source == SINT64:
        return np.int64(raw >> np.uint64(1)) ^ -np.int64(raw & np.uint64(1)), True
    if source == BOOLEAN:
        return np.int64(raw != np.uint64(0)), True
    value = np.int64(raw)
    return value, value >= 0 or (source != UINT64 and source != FIXED_64)


@njit(forceinline=True)
def _from_int(value, kind, scale, least, most):  # type: ignore[no-untyped-def]
    """(value, fits) of an integer in a column of `kind`, none of text or floats."""
    if kind == DECIMAL:
        limit = POWERS[18 - scale]
        return (value * POWERS[scale], True) if -limit < value < limit else (value, False)
    if kind == DATETIME:
        fits = -MAX_MS <= value <= MAX_MS
        value = value * 1000 if fits else value
        return value, fits and least <= value <= most
    if kind == EPOCH:
        unit = unit_of(scale)
        if unit < 0:
            value = value // POWERS[-unit]
            return value, least <= value <= most
        limit = POWERS[18 - unit]
        fits = -limit < value < limit
        value = value * POWERS[unit] if fits else value
        return value, fits and least <= value <= most
    return value, True


@njit(forceinline=True)
def _enum(enums, low, high, value):  # type: ignore[no-untyped-def]
    """The row of a number among the rows [low, high) of (number, begin, end), by number; UNKNOWN when it has no name."""
    guess = low + value
    if low <= guess < high and int_at(enums, 3 * guess) == value:
        return guess
    while low < high:
        middle = (low + high) >> 1
        found = int_at(enums, 3 * middle)
        if found == value:
            return middle
        if found < value:
            low = middle + 1
        else:
            high = middle
    return UNKNOWN


@njit(nogil=True)
def _timestamp(data: Any, at: Any, end: Any, depth: Any, stack: Any, least: Any, most: Any) -> Any:
    """(is a message, microseconds, fits) of the google.protobuf.Timestamp [at, end); nanoseconds are floored."""
    seconds, nanos = np.int64(0), np.int64(0)
    while at < end:
        at, found = tag(data, at, end)
        if at < 0:
            return False, seconds, False
        if found == SECONDS_TAG or found == NANOS_TAG:  # noqa: SIM109
            at, raw = varint(data, at, end)
            if found == SECONDS_TAG:
                seconds = np.int64(raw)
            else:
                nanos, _ = signed(raw, INT32)
        else:
            at = skip(data, at, end, found, depth, stack)
        if at < 0:
            return False, seconds, False
    if not (SECONDS_MIN <= seconds <= SECONDS_MAX and 0 <= nanos < SECOND_NS):
        return True, seconds, False
    found = seconds * SECOND_US + nanos // 1000
    return True, found, least <= found <= most


@njit(forceinline=True)
def _number(data, at, end, source):  # type: ignore[no-untyped-def]
    """(at, 64 bits) of a value that is a varint or fixed."""
    if source <= ENUM:
        return varint(data, at, end)
    wide = 4 if source <= REAL_32 else 8
    if end - at < wide:
        return NOWHERE, np.uint64(0)
    raw = np.uint64(0)
    for k in range(wide):
        raw |= np.uint64(byte(data, at + k)) << np.uint64(8 * k)
    return at + wide, raw


@njit(forceinline=True)
def _float(raw, source):  # type: ignore[no-untyped-def]
    """The value of the bits of a float or double; -0.0 as 0.0."""
    if source == REAL_32:
        return np.float64(np.uint32(raw).view(np.float32)) + 0.0
    return np.uint64(raw).view(np.float64) + 0.0


@njit(forceinline=True)
def leaf(  # type: ignore[no-untyped-def]
    data, at, end, row, cell, depth, stack, enums, least, most, values, ends, reals, nulls, breaches
):  # fmt: skip
    """(at, is a value of its column) of the value at `at`, which is written into the outputs' `cell`; `row` is the address of its entry."""
    source, kind, scale = int_at(row, SOURCE), int_at(row, KIND), int_at(row, SCALE)
    set_byte(nulls, cell, 0)
    if source >= TEXT:
        at, stop = size(data, at, end)
        if at < 0:
            return NOWHERE, False
        if source == TIMESTAMP:
            is_message, value, fits = _timestamp(data, at, stop, depth + 1, stack, least, most)
            set_int(values, cell, value)
            return (stop if is_message else NOWHERE), fits
        state = text(data, at, stop)
        if state == BROKEN_TEXT:
            return NOWHERE, False
        if kind == STR:
            set_int(values, cell, at)
            set_int(ends, cell, stop)
            return stop, state == VALID
        if at == stop and int_at(row, MORE):
            set_byte(nulls, cell, 1)
            return stop, True
        value, breach, state = from_text(data, at, stop, kind, scale, least, most)
        set_int(values, cell, value)
        set_byte(nulls, cell, breach)
        set_byte(breaches, cell, breach)
        return stop, state == DECODED
    at, raw = _number(data, at, end, source)
    if source == REAL_32 or source == REAL_64:  # noqa: SIM109
        real = _float(raw, source)
        set_real(reals, cell, real)
        return at, np.isfinite(real)
    value, fits = signed(raw, source)
    if kind == FLOAT:
        set_real(reals, cell, np.float64(value))
    elif kind == STR:
        found = _enum(enums, int_at(row, MORE), int_at(row, LAST), value)
        if found == UNKNOWN:
            return at, False
        set_int(values, cell, int_at(enums, 3 * found + 1))
        set_int(ends, cell, int_at(enums, 3 * found + 2))
    else:
        value, inside = _from_int(value, kind, scale, least, most)
        set_int(values, cell, value)
        fits = fits and inside
    return at, fits
