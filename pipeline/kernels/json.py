"""JSON events to columns: one pass over the bytes of each event, for what can be told for certain.

    state[i] = DECODED  =>  every declared column of event i has its value, or is null
    state[i] = BROKEN   =>  the record-by-record parser rejects event i
    state[i] = UNSURE   :   ask it (names that may be one, more digits of a float than decide it)

RFC 8259, UTF-8, at most DEPTH_LIMIT levels, no name twice in one object. What nobody declared is looked at and skipped. A text with
escapes is written without them into `texts`, whose first byte counts as the one behind the last of `data`.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.bytes import byte, copy_bytes, int_at, set_byte, set_int, set_real
from pipeline.kernels.compiling import INT64, READ_BYTES, READ_INTS, READ_INTS32, READ_MASK, kernel
from pipeline.kernels.names import AROUND, HELD, NAMES, OBJECTS, SLOTS, TAIL, UNKNOWN, edge_of, note
from pipeline.kernels.numbers import MANTISSA_DIGITS, decimal, double, epoch, exact, integer, number, number_end
from pipeline.kernels.scalars import (
    BROKEN,
    DECODED,
    MINUS,
    NINE,
    QUOTE,
    UNSURE,
    ZERO,
    literal,
    space,
    string,
    unescape,
)
from pipeline.kernels.skipping import BRACKET, BRACKET_CLOSE, CLOSE, COMMA, OPEN, name, scalar, skip
from pipeline.kernels.times import DATE_SIZE, days, microseconds

Array = np.ndarray[Any, Any]

INT, DECIMAL, FLOAT, STR, BOOL, DATETIME, DATE, EPOCH = 0, 1, 2, 3, 4, 5, 6, 7
FLOAT_DIGITS = 15  # below 2**53: exact as a double, as is 10**15
MAX_MS = 400_000_000_000_000  # beyond every year that is allowed
FLOAT_POWERS = np.array([10.0**n for n in range(23)], np.float64)


@njit(nogil=True)
def from_text(data: Any, at: Any, end: Any, kind: Any, scale: Any, least: Any, most: Any) -> Any:
    """(value, breach, state) of a text in a column that is neither text nor undeclared."""
    if kind == DECIMAL:
        if at == end or not (byte(data, at) == MINUS or ZERO <= byte(data, at) <= NINE):
            return np.int64(0), False, BROKEN
        stop, state, mantissa, digits, fraction, exponent = number(data, at, end)
        if state != DECODED or stop != end:
            return np.int64(0), False, BROKEN
        return decimal(data, at, end, mantissa, digits, fraction, exponent, scale)
    if kind == EPOCH and at < end and (byte(data, at) == MINUS or ZERO <= byte(data, at) <= NINE):
        stop, state = number_end(data, at, end)
        if state == DECODED and stop == end:
            value, state = epoch(data, at, end, scale, least, most)
            return value, False, state
    if kind == DATETIME or kind == EPOCH:  # noqa: SIM109
        value, state = microseconds(data, at, end, least, most)
        return value, False, state
    if kind == DATE and end - at == DATE_SIZE:
        value, state = days(data, at, end)
        return value, False, state
    return np.int64(0), False, BROKEN


@njit(forceinline=True)
def _from_number(data, at, end, kind, scale, least, most, read):  # type: ignore[no-untyped-def]
    """(value, as a float, breach, state) of the number data[at:end] in a declared column; `read` is what `number` said of it."""
    mantissa, digits, fraction, exponent = read
    value, real, breach, state = np.int64(0), 0.0, False, DECODED
    usual = not exponent and digits <= MANTISSA_DIGITS
    if kind == DECIMAL:
        value, breach, state = decimal(data, at, end, mantissa, digits, fraction, exponent, scale)
    elif kind == FLOAT:
        if usual and digits <= FLOAT_DIGITS:
            real = 0.0 if mantissa == 0 else np.float64(mantissa) / FLOAT_POWERS[fraction]
        else:
            real, state = double(data, at, end)
    elif kind == INT:
        if usual and fraction == 0:
            value = mantissa
        else:
            value, state = integer(data, at, end)
    elif kind == DATETIME:
        if not usual or fraction:
            size, breach, state = exact(data, at, end, np.int64(0), np.int64(MANTISSA_DIGITS))
            mantissa = -np.int64(size) if byte(data, at) == MINUS else np.int64(size)
        value = mantissa * 1000 if -MAX_MS <= mantissa <= MAX_MS else most + 1
        if breach or not least <= value <= most:
            breach, state = False, BROKEN
    elif kind == EPOCH:
        value, state = epoch(data, at, end, scale, least, most)
    else:
        state = BROKEN
    return value, real, breach, state


@njit(forceinline=True)
def _set(values, nulls, breaches, cell, value, breach):  # type: ignore[no-untyped-def]
    """Write a cell: the value, or null where its Scale is breached."""
    set_int(values, cell, value)
    set_byte(nulls, cell, breach)
    set_byte(breaches, cell, breach)


@njit(nogil=True)
def _escaped(data, start, stop, size, cell, kind, scale, least, most, values, ends, nulls, breaches, texts, held):  # type: ignore[no-untyped-def]
    """State of the text [start, stop), which has escapes, in a declared column."""
    tail = int_at(held, TAIL)
    end, is_text = unescape(data, start, stop, texts, tail)
    if kind != STR:
        value, breach, state = from_text(texts, tail, end, kind, scale, least, most)
        _set(values, nulls, breaches, cell, value, breach)
        return state
    set_int(values, cell, size + tail)
    set_int(ends, cell, size + end)
    set_int(held, TAIL, end)
    set_byte(nulls, cell, 0)
    return DECODED if is_text else BROKEN


@njit(forceinline=True)
def _value(  # type: ignore[no-untyped-def]
    data, at, end, size, cell, kind, scale, least, most, values, ends, reals, nulls, breaches, texts, held
):  # fmt: skip
    """(behind it, state) of the value at `at` in a declared column of `kind`, which is written into the outputs' `cell`."""
    first = byte(data, at)
    if first == QUOTE:
        start = at + 1
        stop, state, escaped = string(data, start, end)
        if state == DECODED and escaped:
            state = _escaped(
                data, start, stop, size, cell, kind, scale, least, most, values, ends, nulls, breaches, texts, held
            )
        elif state == DECODED and kind == STR:
            set_int(values, cell, start)
            set_int(ends, cell, stop)
            set_byte(nulls, cell, 0)
        elif state == DECODED:
            value, breach, state = from_text(data, start, stop, kind, scale, least, most)
            _set(values, nulls, breaches, cell, value, breach)
        return stop + 1, state
    if first == MINUS or ZERO <= first <= NINE:
        stop, state, mantissa, digits, fraction, exponent = number(data, at, end)
        if state == DECODED:
            read = (mantissa, digits, fraction, exponent)
            value, real, breach, state = _from_number(data, at, stop, kind, scale, least, most, read)
            _set(values, nulls, breaches, cell, value, breach)
            if kind == FLOAT:
                set_real(reals, cell, real)
        return stop, state
    length, truth = literal(data, at, end)
    if length == 0 or (truth >= 0 and kind != BOOL):
        return at, BROKEN
    if truth >= 0:
        set_int(values, cell, truth)
        set_byte(nulls, cell, 0)
    return at + length, DECODED


@njit(forceinline=True)
def _undeclared(data, at, end, depth, event, table, texts, held):  # type: ignore[no-untyped-def]
    """(behind it, state) of the value at `at`, which nobody asks for; it would be at level `depth`."""
    first = byte(data, at)
    if first == OPEN or first == BRACKET:  # noqa: SIM109
        return skip(data, at, end, depth, event, table, texts, held)
    return scalar(data, at, end)


@njit(forceinline=True)
def _field(data, at, end, names, starts, low, high, likely, owner, event, table, texts, held):  # type: ignore[no-untyped-def]
    """(where its value begins, declared name or UNKNOWN, state) of the field at `at` of an object whose names are [low, high)."""
    start, stop, escaped, at, state = name(data, at, end)
    if state != DECODED:
        return at, np.int64(UNKNOWN), state
    if escaped:
        tail = int_at(held, TAIL)
        edge = edge_of(texts, tail, unescape(data, start, stop, texts, tail)[0], names, starts, low, high, likely)
    else:
        edge = edge_of(data, start, stop, names, starts, low, high, likely)
    if edge == UNKNOWN:
        state = note(data, start, stop, end, escaped, owner, event, table, texts, held)
    return at, edge, state


@njit(forceinline=True)
def _edge_at(places, low, high, place):  # type: ignore[no-untyped-def]
    """The declared one of [low, high) that is the array's element `place`, UNKNOWN when none is."""
    for edge in range(low, high):
        if int_at(places, edge) == place:
            return np.int64(edge)
    return np.int64(UNKNOWN)


@njit(nogil=True)
def _push(held, level, node, place, likely, owner):  # type: ignore[no-untyped-def]
    """The number of the object or array that opens inside of that of `node`, which is kept at `level`."""
    at = AROUND + 4 * level
    set_int(held, at, node)
    set_int(held, at + 1, place)
    set_int(held, at + 2, likely)
    set_int(held, at + 3, owner)
    number = int_at(held, OBJECTS) + 1
    set_int(held, OBJECTS, number)
    return number


@njit(forceinline=True)
def _again(seen, edge, i):  # type: ignore[no-untyped-def]
    """True when event i had that entry before; from now on it had."""
    found = int_at(seen, edge) == i
    set_int(seen, edge, i)
    return found


@njit(nogil=True)
def _null(data: Any, at: Any, end: Any) -> Any:
    """(behind it, state) of the value at `at`, which may only be null."""
    length, truth = literal(data, at, end)
    return at + length, DECODED if length and truth < 0 else BROKEN


@njit(forceinline=True)
def _inside(first, places, node):  # type: ignore[no-untyped-def]
    """(low, high, close): the entries [low, high) of a declared object or array, and the bracket that closes it."""
    low = int_at(first, node)
    return low, int_at(first, node + 1), np.int64(BRACKET_CLOSE if int_at(places, low) >= 0 else CLOSE)


@njit(forceinline=True)
def _pop(held, level):  # type: ignore[no-untyped-def]
    """(node, place, likely, number) of the object or array that is open at `level`."""
    at = AROUND + 4 * level
    return int_at(held, at), int_at(held, at + 1), int_at(held, at + 2), int_at(held, at + 3)


@njit(nogil=True)
def _event(  # type: ignore[no-untyped-def]
    data, at, end, size, i, n, names, starts, first, targets, places, kinds, scales, least, most, seen, table, held, texts,
    values, ends, reals, nulls, breaches,
):  # fmt: skip
    """The state of event i of n, whose bytes are data[at:end]; `seen[e]` is the last event that had name e. Arrays are addresses."""
    at = space(data, at, end)
    if at == end or byte(data, at) != OPEN:
        return BROKEN
    set_int(held, NAMES, 0)
    set_int(held, OBJECTS, 0)
    node, level, place, owner = np.int64(0), np.int64(0), np.int64(UNKNOWN), np.int64(0)
    low, high, close = _inside(first, places, node)
    likely = low
    at = space(data, at + 1, end)
    member = at >= end or byte(data, at) != close
    while True:
        if member and at < end:
            if close == CLOSE:
                at, edge, state = _field(data, at, end, names, starts, low, high, likely, owner, i, table, texts, held)
            else:
                place, state = place + 1, DECODED
                edge = _edge_at(places, low, high, place)
            if state != DECODED:
                return state
            column = int_at(targets, edge) if edge != UNKNOWN else np.int64(0)
            if edge != UNKNOWN and _again(seen, edge, i):
                return BROKEN
            likely = likely if edge == UNKNOWN else edge + 1 if edge + 1 < high else low
            if edge == UNKNOWN:
                at, state = _undeclared(data, at, end, level + 2, i, table, texts, held)
            elif column >= 0:
                kind, scale = int_at(kinds, column), int_at(scales, column)
                at, state = _value(
                    data, at, end, size, column * n + i, kind, scale, least, most, values, ends, reals, nulls, breaches, texts, held
                )  # fmt: skip
            elif byte(data, at) == (BRACKET if int_at(places, int_at(first, -column)) >= 0 else OPEN):
                owner = _push(held, level, node, place, likely, owner)
                node, level, place = -column, level + 1, np.int64(UNKNOWN)
                low, high, close = _inside(first, places, node)
                likely = low
                at = space(data, at + 1, end)
                member = at >= end or byte(data, at) != close
                continue
            else:
                at, state = _null(data, at, end)
            if state != DECODED:
                return state
            at = space(data, at, end)
        else:
            if at >= end or byte(data, at) != close:
                return BROKEN
            at = space(data, at + 1, end)
            if level == 0:
                return DECODED if at == end else BROKEN
            level -= 1
            node, place, likely, owner = _pop(held, level)
            low, high, close = _inside(first, places, node)
        member = at < end and byte(data, at) == COMMA
        if member:
            at = space(data, at + 1, end)


@kernel((READ_INTS32, READ_BYTES, READ_MASK, READ_BYTES, *[READ_INTS] * 6, INT64, INT64))
def parse_events(
    offsets: Array,
    data: Array,
    present: Array,
    names: Array,
    starts: Array,
    first: Array,
    targets: Array,
    places: Array,
    kinds: Array,
    scales: Array,
    least: int,
    most: int,
) -> tuple[Array, Array, Array, Array, Array, Array, Array]:
    """Events data[offsets[i]:offsets[i + 1]] where present[i] -> (state, values, ends, reals, nulls, breaches, texts).

    Declared objects and arrays are nodes, the event is node 0; node k has the entries [first[k], first[k + 1]): entry e has the UTF-8 name
    names[starts[e]:starts[e + 1]], or is element places[e] of an array (-1: it is a name); it is the column targets[e], or the node
    -targets[e]. Columns: kinds[c] and scales[c] (of EPOCH: its unit is 10^scale microseconds). All int64; datetimes from `least` to `most`
    microseconds. state int8 (n,), DECODED where not present. values int64 (columns, n): the value, or a text's first byte in `data`
    followed by `texts`, and ends int64 where it ends; reals float64 for floats, (columns, 0) without any; nulls, breaches uint8. Rows of
    an event that is not DECODED mean nothing. All arrays are contiguous.
    """
    n, columns = len(offsets) - 1, len(kinds)
    state = np.zeros(n, np.int8)
    values, ends = np.zeros((columns, n), np.int64), np.zeros((columns, n), np.int64)
    reals = np.zeros((columns, n if (kinds == FLOAT).any() else 0), np.float64)
    nulls, breaches = np.ones((columns, n), np.uint8), np.zeros((columns, n), np.uint8)
    seen = np.full(len(targets), -1, np.int64)
    table = np.full(2 * SLOTS, -1, np.int64)
    held = np.zeros(HELD, np.int64)
    # Never longer than what is read; no page of it is touched before it is needed.
    texts = np.empty(offsets[n] - offsets[0] if n else 0, np.uint8)
    for i in range(n):
        if present[i]:
            state[i] = _event(
                data.ctypes.data, np.int64(offsets[i]), np.int64(offsets[i + 1]), len(data), i, n, names.ctypes.data,
                starts.ctypes.data, first.ctypes.data, targets.ctypes.data, places.ctypes.data, kinds.ctypes.data,
                scales.ctypes.data, least, most, seen.ctypes.data, table.ctypes.data, held.ctypes.data, texts.ctypes.data,
                values.ctypes.data, ends.ctypes.data, reals.ctypes.data, nulls.ctypes.data, breaches.ctypes.data,
            )  # fmt: skip
    return state, values, ends, reals, nulls, breaches, texts[: held[TAIL]]


@kernel((READ_BYTES, READ_BYTES, READ_INTS, READ_INTS, READ_INTS))
def gather_texts(data: Array, more: Array, begin: Array, end: Array, rows: Array) -> tuple[Array, Array]:
    """(offsets int32 (n + 1,), bytes): the texts [begin[r], end[r]) of `data`, followed by `more`; below 2**31 bytes."""
    offsets = np.zeros(len(rows) + 1, np.int32)
    total = np.int64(0)
    for k in range(len(rows)):
        total += end[rows[k]] - begin[rows[k]]
        offsets[k + 1] = total
    out = np.empty(total, np.uint8)
    source, other, target, size = data.ctypes.data, more.ctypes.data, out.ctypes.data, len(data)
    for k in range(len(rows)):
        first, stop = begin[rows[k]], end[rows[k]]
        if first < size:
            copy_bytes(source, first, stop, target, np.int64(offsets[k]))
        else:
            copy_bytes(other, first - size, stop - size, target, np.int64(offsets[k]))
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
    "from_text",
    "gather_texts",
    "parse_events",
]
