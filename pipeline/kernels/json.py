"""JSON events to columns: one pass over the bytes of each event, for what can be told for certain.

    state[i] = DECODED  =>  every declared column of event i has its value, or is null
    state[i] = BROKEN   =>  the record-by-record parser rejects event i
    state[i] = UNSURE   :   ask it (escapes, unknown fields that nest, long or exponential numbers, unusual times)

RFC 8259, UTF-8, no duplicate keys. A number's value is its digits as an integer, so nothing is rounded: a float of up to 15 digits is
one division of two exact doubles, which IEEE 754 rounds correctly (Clinger 1990).
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.bytes import byte, copy_bytes, int_at, set_byte, set_int, set_real
from pipeline.kernels.compiling import INT64, READ_BYTES, READ_INTS, READ_INTS32, READ_MASK, kernel
from pipeline.kernels.scalars import (
    BROKEN,
    COLON,
    DECODED,
    MANTISSA_DIGITS,
    MINUS,
    NINE,
    QUOTE,
    UNSURE,
    ZERO,
    days,
    decimal,
    literal,
    microseconds,
    number,
    space,
    string,
)

Array = np.ndarray[Any, Any]

INT, DECIMAL, FLOAT, STR, BOOL, DATETIME, DATE = 0, 1, 2, 3, 4, 5, 6
UNKNOWN = -1
MOST_UNKNOWN = 32  # undeclared keys of one event that are held apart
FLOAT_DIGITS = 15  # below 2**53: exact as a double, as is 10**15
MAX_MS = 400_000_000_000_000  # beyond every year that is allowed
COMMA, OPEN, CLOSE, BRACKET = 44, 123, 125, 91
FLOAT_POWERS = np.array([10.0**n for n in range(23)], np.float64)


@njit(forceinline=True)
def _is_name(data, start, size, names, first):  # type: ignore[no-untyped-def]
    for k in range(size):  # noqa: SIM110 -- a generator is no loop to the compiler
        if byte(data, start + k) != byte(names, first + k):
            return False
    return True


@njit(forceinline=True)
def _column(data, start, end, names, starts, columns, likely):  # type: ignore[no-untyped-def]
    """The declared column of a key, UNKNOWN when there is none; `likely` is tried first."""
    size = end - start
    column = likely
    for _ in range(columns):
        first = int_at(starts, column)
        if int_at(starts, column + 1) - first == size and _is_name(data, start, size, names, first):
            return column
        column = column + 1 if column + 1 < columns else 0
    return np.int64(UNKNOWN)


@njit(nogil=True)
def _from_text(data: Any, at: Any, end: Any, kind: Any, scale: Any, least: Any, most: Any) -> Any:
    """(value, breach, state) of a text in a column that is neither text nor undeclared."""
    if kind == DECIMAL:
        if at == end or not (byte(data, at) == MINUS or ZERO <= byte(data, at) <= NINE):
            return 0, False, BROKEN
        stop, state, mantissa, digits, fraction, exponent = number(data, at, end)
        if state != DECODED or stop != end:
            return 0, False, BROKEN
        value, breach, certain = decimal(mantissa, digits, fraction, exponent, scale)
        return value, breach, DECODED if certain else UNSURE
    if kind == DATETIME:
        value, certain = microseconds(data, at, end, least, most)
        return value, False, DECODED if certain else UNSURE
    if kind == DATE and end - at == 10:
        value, certain = days(data, at)
        return value, False, DECODED if certain else UNSURE
    return 0, False, UNSURE if kind == DATE else BROKEN


@njit(forceinline=True)
def _from_number(mantissa, digits, fraction, exponent, kind, scale, least, most):  # type: ignore[no-untyped-def]
    """(value, as a float, breach, state) of a number in a declared column."""
    value, real, breach = np.int64(0), 0.0, False
    if kind == STR or kind == BOOL or kind == DATE:  # noqa: SIM109
        return value, real, breach, BROKEN
    if exponent or digits > MANTISSA_DIGITS:
        return value, real, breach, UNSURE
    if kind == DECIMAL:
        value, breach, certain = decimal(mantissa, digits, fraction, exponent, scale)
        return value, real, breach, DECODED if certain else UNSURE
    if kind == FLOAT:
        if digits > FLOAT_DIGITS:
            return value, real, breach, UNSURE
        real = 0.0 if mantissa == 0 else np.float64(mantissa) / FLOAT_POWERS[fraction]
        return value, real, breach, DECODED
    if fraction:
        return value, real, breach, UNSURE
    if kind == INT:
        return mantissa, real, breach, DECODED
    if mantissa > MAX_MS or mantissa < -MAX_MS:
        return value, real, breach, UNSURE
    value = mantissa * 1000
    return value, real, breach, DECODED if least <= value <= most else UNSURE


@njit(forceinline=True)
def _value(data, at, end, cell, kind, scale, least, most, values, ends, reals, nulls, breaches):  # type: ignore[no-untyped-def]
    """(behind it, state) of the value at `at` of a column of `kind` (or UNKNOWN), which is written into the outputs' `cell`."""
    first = byte(data, at)
    if first == QUOTE:
        start = at + 1
        stop, state = string(data, start, end)
        if state == DECODED and kind == STR:
            set_int(values, cell, start)
            set_int(ends, cell, stop)
            set_byte(nulls, cell, 0)
        elif state == DECODED and kind != UNKNOWN:
            value, breach, state = _from_text(data, start, stop, kind, scale, least, most)
            set_int(values, cell, value)
            set_byte(nulls, cell, breach)
            set_byte(breaches, cell, breach)
        return stop + 1, state
    if first == MINUS or ZERO <= first <= NINE:
        at, state, mantissa, digits, fraction, exponent = number(data, at, end)
        if state == DECODED and kind != UNKNOWN:
            value, real, breach, state = _from_number(mantissa, digits, fraction, exponent, kind, scale, least, most)
            set_int(values, cell, value)
            set_byte(nulls, cell, breach)
            set_byte(breaches, cell, breach)
            if kind == FLOAT:
                set_real(reals, cell, real)
        return at, state
    if first == OPEN or first == BRACKET:  # noqa: SIM109
        return at, UNSURE if kind == UNKNOWN else BROKEN
    size, truth = literal(data, at, end)
    if size == 0 or (truth >= 0 and kind != BOOL and kind != UNKNOWN):
        return at, BROKEN
    if truth >= 0 and kind == BOOL:
        set_int(values, cell, truth)
        set_byte(nulls, cell, 0)
    return at + size, DECODED


@njit(forceinline=True)
def _is_new(data, start, stop, others, known):  # type: ignore[no-untyped-def]
    """True when an undeclared key is none of the `known` ones before it, as a state; it is noted."""
    for k in range(known):
        first = int_at(others, 2 * k)
        if int_at(others, 2 * k + 1) - first == stop - start and _is_name(data, start, stop - start, data, first):
            return BROKEN
    if known == MOST_UNKNOWN:
        return UNSURE
    set_int(others, 2 * known, start)
    set_int(others, 2 * known + 1, stop)
    return DECODED


@njit(nogil=True)
def _event(  # type: ignore[no-untyped-def]
    data, at, end, i, n, names, starts, kinds, scales, columns, least, most, seen, others, values, ends, reals, nulls, breaches
):  # fmt: skip
    """The state of event i of n, whose bytes are data[at:end]; `seen[c]` is the last event that had column c. Arrays are addresses."""
    at = space(data, at, end)
    if at == end or byte(data, at) != OPEN:
        return BROKEN
    at = space(data, at + 1, end)
    known: Any = np.int64(0)
    likely: Any = np.int64(0)
    more = at >= end or byte(data, at) != CLOSE
    while more:
        if at >= end or byte(data, at) != QUOTE:
            return BROKEN
        start = at + 1
        stop, state = string(data, start, end)
        if state != DECODED:
            return state
        at = space(data, stop + 1, end)
        if at >= end or byte(data, at) != COLON:
            return BROKEN
        at = space(data, at + 1, end)
        if at >= end:
            return BROKEN
        column = _column(data, start, stop, names, starts, columns, likely)
        kind, scale = np.int64(UNKNOWN), np.int64(0)
        if column == UNKNOWN:
            state = _is_new(data, start, stop, others, known)
            known = known + np.int64(1)
        elif int_at(seen, column) == i:
            state = BROKEN
        else:
            set_int(seen, column, i)
            likely = column + 1 if column + 1 < columns else 0
            kind, scale = int_at(kinds, column), int_at(scales, column)
        if state == DECODED:
            cell = column * n + i
            at, state = _value(data, at, end, cell, kind, scale, least, most, values, ends, reals, nulls, breaches)
        if state != DECODED:
            return state
        at = space(data, at, end)
        if at >= end or not (byte(data, at) == COMMA or byte(data, at) == CLOSE):
            return BROKEN
        more = byte(data, at) == COMMA
        if more:
            at = space(data, at + 1, end)
    return DECODED if space(data, at + 1, end) == end else BROKEN


@kernel((READ_INTS32, READ_BYTES, READ_MASK, READ_BYTES, READ_INTS, READ_INTS, READ_INTS, INT64, INT64))
def parse_events(
    offsets: Array,
    data: Array,
    present: Array,
    names: Array,
    starts: Array,
    kinds: Array,
    scales: Array,
    least: int,
    most: int,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Events data[offsets[i]:offsets[i + 1]] where present[i] -> (state, values, ends, reals, nulls, breaches).

    Columns: UTF-8 names[starts[c]:starts[c + 1]], kinds[c], scales[c], all int64; datetimes from `least` to `most` microseconds.
    state int8 (n,), DECODED where not present. values int64 (columns, n): the value, or a text's first byte in `data`, and ends int64
    where it ends; reals float64 for floats, (columns, 0) without any; nulls, breaches uint8. Rows of an event that is not DECODED mean
    nothing. All arrays are contiguous.
    """
    n, columns = len(offsets) - 1, len(kinds)
    state = np.zeros(n, np.int8)
    values, ends = np.zeros((columns, n), np.int64), np.zeros((columns, n), np.int64)
    reals = np.zeros((columns, n if (kinds == FLOAT).any() else 0), np.float64)
    nulls, breaches = np.ones((columns, n), np.uint8), np.zeros((columns, n), np.uint8)
    seen = np.full(columns, -1, np.int64)
    others = np.empty(2 * MOST_UNKNOWN, np.int64)
    for i in range(n):
        if present[i]:
            state[i] = _event(
                data.ctypes.data, np.int64(offsets[i]), np.int64(offsets[i + 1]), i, n, names.ctypes.data, starts.ctypes.data,
                kinds.ctypes.data, scales.ctypes.data, columns, least, most, seen.ctypes.data, others.ctypes.data, values.ctypes.data,
                ends.ctypes.data, reals.ctypes.data, nulls.ctypes.data, breaches.ctypes.data,
            )  # fmt: skip
    return state, values, ends, reals, nulls, breaches


@kernel((READ_BYTES, READ_INTS, READ_INTS, READ_INTS))
def gather_texts(data: Array, begin: Array, end: Array, rows: Array) -> tuple[Array, Array]:
    """(offsets int32 (n + 1,), bytes): the texts data[begin[r]:end[r]] of the rows, one behind the other; below 2**31 bytes."""
    offsets = np.zeros(len(rows) + 1, np.int32)
    total = np.int64(0)
    for k in range(len(rows)):
        total += end[rows[k]] - begin[rows[k]]
        offsets[k + 1] = total
    out = np.empty(total, np.uint8)
    source, target = data.ctypes.data, out.ctypes.data
    for k in range(len(rows)):
        copy_bytes(source, begin[rows[k]], end[rows[k]], target, np.int64(offsets[k]))
    return offsets, out


__all__ = [
    "BOOL",
    "BROKEN",
    "DATE",
    "DATETIME",
    "DECIMAL",
    "DECODED",
    "FLOAT",
    "INT",
    "STR",
    "UNSURE",
    "gather_texts",
    "parse_events",
]
