"""Avro bodies to columns: one kernel that runs, over each record's bytes, the program of its writer's schema (decode.avro_programs).

    state[i] = DECODED  =>  every declared column of record i has its value, or is null
    state[i] = BROKEN   =>  the record-by-record parser rejects record i
    state[i] = UNSURE   :   ask it (a decimal of more than 8 bytes that has more decimals than its column)

A program is rows of WIDTH int64: an instruction and its parameters. Every read is within the record's own bytes; records, arrays and
maps are at most DEPTH_LIMIT deep; the work for a record is bounded by its bytes and its program, whatever its counts say.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels import json
from pipeline.kernels.avro_scalars import (
    INT_MIN,
    UUID_TEXT,
    binary_decimal,
    is_text,
    long,
    real32,
    real64,
    scaled,
    sized,
    uuid_text,
    whole_decimal,
)
from pipeline.kernels.bytes import byte, copy_bytes, int_at, set_byte, set_int, set_real
from pipeline.kernels.compiling import INT64, READ_BYTES, READ_INTS, READ_INTS32, READ_MASK, kernel
from pipeline.kernels.json import from_text
from pipeline.kernels.scalars import BROKEN, DECODED, POWERS, UNSURE

Array = np.ndarray[Any, Any]

DEPTH_LIMIT = 64
WIDTH, SHIFT = 8, 3
FRAME = 6
END, JUMP, SKIP, SKIP_LONG, SKIP_BYTES, OPTION, UNION, FAIL, CALL, RETURN, LOOP, NEXT, READ, DEEP, ASK = range(15)
BOOL, LONG, LONG_FLOAT, LONG_DECIMAL, LONG_TIME, LONG_CLOCK, LONG_DATE, FLOAT32, FLOAT64 = range(9)
TEXT, TEXT_DECIMAL, TEXT_DATETIME, TEXT_DATE, TEXT_EPOCH, ENUM, DECIMAL, DECIMAL_INT, UUID = range(9, 18)
OF_TEXT = np.array([json.STR] * 10 + [json.DECIMAL, json.DATETIME, json.DATE, json.EPOCH], np.int64)  # by conversion
CLOCK_US = 2 * 86_400_000_000  # more than any clock is off UTC
INT32 = np.int64(2**31)
FIRST_DAY, LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31
LARGEST_FLOAT = np.float64(1.7976931348623157e308)


@njit(nogil=True)
def _from_long(value: Any, conversion: Any, scale: Any, bits: Any, least: Any, most: Any) -> Any:
    """(value, as a float, state) of an int or long in a declared column."""
    if bits == 32 and not -INT32 <= value < INT32:
        return value, 0.0, BROKEN
    if conversion == LONG_FLOAT:
        return value, np.float64(value), DECODED
    if conversion == LONG_DECIMAL:
        found, _, state = scaled(value, scale)
        return found, 0.0, state
    if conversion == LONG_TIME or conversion == LONG_CLOCK:  # noqa: SIM109
        if conversion == LONG_CLOCK:  # its moment is found and judged later
            least, most = least - CLOCK_US, most + CLOCK_US
        if scale < 0:
            value = value // POWERS[-scale]
        else:
            limit = most // POWERS[scale] + 1
            if not -limit <= value <= limit:
                return value, 0.0, BROKEN
            value = value * POWERS[scale]
        return value, 0.0, DECODED if least <= value <= most else BROKEN
    if conversion == LONG_DATE and not FIRST_DAY <= value <= LAST_DAY:
        return value, 0.0, BROKEN
    return value, 0.0, DECODED


@njit(nogil=True)
def _from_bytes(data: Any, at: Any, end: Any, conversion: Any, scale: Any, least: Any, most: Any) -> Any:
    """(value, breach, state) of bytes or a string in a declared column that is no text."""
    if conversion == DECIMAL:
        return binary_decimal(data, at, end, scale)
    if conversion == DECIMAL_INT:
        return whole_decimal(data, at, end, scale)
    if not is_text(data, at, end):
        return np.int64(0), False, BROKEN
    return from_text(data, at, end, OF_TEXT[conversion], scale, least, most)


@njit(nogil=True)
def _sized_value(  # type: ignore[no-untyped-def]
    data, at, end, cell, conversion, scale, size, least, most, values, ends, nulls, breaches
):  # fmt: skip
    """(behind it, state) of bytes, a string or a decimal, which is written into the outputs' cell."""
    if size >= 0:
        if size > end - at:
            return at, BROKEN
        start, stop = at, at + size
    else:
        start, stop, state = sized(data, at, end)
        if state != DECODED:
            return at, state
    if conversion == TEXT:
        set_int(values, cell, start)
        set_int(ends, cell, stop)
        set_byte(nulls, cell, 0)
        return stop, DECODED if is_text(data, start, stop) else BROKEN
    value, breach, state = _from_bytes(data, start, stop, conversion, scale, least, most)
    set_int(values, cell, value)
    set_byte(nulls, cell, breach)
    set_byte(breaches, cell, breach)
    return stop, state


@njit(forceinline=True)
def _fixed_value(data, at, end, cell, conversion, values, reals, nulls):  # type: ignore[no-untyped-def]
    """(behind it, state) of a boolean, float or double."""
    size = 1 if conversion == BOOL else 4 if conversion == FLOAT32 else 8
    if size > end - at:
        return at, BROKEN
    state = DECODED
    if conversion == BOOL:
        set_int(values, cell, np.int64(byte(data, at)))
        state = DECODED if byte(data, at) <= 1 else BROKEN
    else:
        real = real32(data, at) if conversion == FLOAT32 else real64(data, at)
        set_real(reals, cell, real + 0.0)  # -0.0 + 0.0 is 0.0
        state = DECODED if abs(real) <= LARGEST_FLOAT else BROKEN  # NaN is not
    set_byte(nulls, cell, 0)
    return at + size, state


@njit(nogil=True)
def _other_value(data, at, end, cell, code, ops, shared, size, values, ends, nulls, texts, tail):  # type: ignore[no-untyped-def]
    """(behind it, state) of an enum's symbol or a UUID of 16 bytes, as text, which stands behind the `size` bytes of data."""
    if int_at(ops, code + 2) == UUID:
        if end - at < 16:
            return at, BROKEN
        first = int_at(tail, 0)
        last = uuid_text(data, at, texts, first)
        set_int(tail, 0, last)
        at += 16
    else:
        number, at, state = long(data, at, end)
        if state != DECODED or not 0 <= number < int_at(ops, code + 4):
            return at, BROKEN
        symbol = int_at(ops, code + 3) + number << SHIFT
        first, last = int_at(ops, symbol + 1) + shared, int_at(ops, symbol + 2) + shared
    set_int(values, cell, size + first)
    set_int(ends, cell, size + last)
    set_byte(nulls, cell, 0)
    return at, DECODED


@njit(nogil=True)
def _block(data: Any, at: Any, end: Any) -> Any:
    """(behind its head, items, where it says that it ends, or -1, state) of the next block of an array or map."""
    count, at, state = long(data, at, end)
    if state != DECODED or count >= 0:
        return at, count, np.int64(-1), state
    size, at, state = long(data, at, end)
    if state != DECODED or size < 0 or size > end - at or count == INT_MIN:
        return at, np.int64(0), np.int64(-1), BROKEN
    return at, -count, at + size, DECODED


@njit(nogil=True)
def _entry(data: Any, at: Any, end: Any, ops: Any, texts: Any, shared: Any, first: Any, count: Any) -> Any:
    """The row of the entry whose name is data[at:end], or -1."""
    for row in range(first, first + count):
        start = int_at(ops, (row << SHIFT) + 2) + shared
        size = int_at(ops, (row << SHIFT) + 3) + shared - start
        if size == end - at:
            k = 0
            while k < size and byte(data, at + k) == byte(texts, start + k):
                k += 1
            if k == size:
                return np.int64(row)
    return np.int64(-1)


@njit(nogil=True)
def _key(data, at, end, ops, code, texts, shared, seen, event):  # type: ignore[no-untyped-def]
    """(behind a map's key, where to go on: its value's row, or -1 to skip it, state)."""
    start, at, state = sized(data, at, end)
    if state != DECODED:
        return at, np.int64(-1), state
    row = _entry(data, start, at, ops, texts, shared, int_at(ops, code + 1), int_at(ops, code + 2))
    if row < 0:
        return at, row, DECODED
    number = int_at(ops, (row << SHIFT) + 5)
    if int_at(seen, number) == event:
        return at, row, BROKEN
    set_int(seen, number, event)
    return at, int_at(ops, (row << SHIFT) + 4), DECODED


@njit(nogil=True)
def _next(data, at, end, ops, code, stack, frame, base, texts, shared, seen, event):  # type: ignore[no-untyped-def]
    """(place, row to go on at, -1 where the array or map of the instruction at `code` is over, state)."""
    first, count, skip, size = (
        int_at(ops, code + 1),
        int_at(ops, code + 2),
        int_at(ops, code + 3),
        int_at(ops, code + 4),
    )
    is_map, level = int_at(ops, code + 5), int_at(ops, code + 6)
    while True:
        remaining = int_at(stack, frame + 3)
        if remaining == 0:
            if int_at(stack, frame + 4) >= 0 and int_at(stack, frame + 4) != at:
                return at, np.int64(-1), BROKEN
            at, remaining, block_end, state = _block(data, at, end)
            if state != DECODED or remaining == 0:
                return at, np.int64(-1), state
            set_int(stack, frame + 4, block_end)
        run, index, cursor = remaining, int_at(stack, frame + 2), int_at(stack, frame + 1)
        row = np.int64(-1)
        if is_map:
            run = np.int64(1)
            at, row, state = _key(data, at, end, ops, code, texts, shared, seen, event)
            if state != DECODED:
                return at, row, state
        elif cursor < count:
            place = int_at(ops, (first + cursor << SHIFT) + 1)
            if place == index:
                run = np.int64(1)
                row = int_at(ops, (first + cursor << SHIFT) + 4)
                set_int(stack, frame + 1, cursor + 1)
            else:
                run = min(run, place - index)
        if row < 0 and size < 0:
            run, row = np.int64(1), skip
        set_int(stack, frame + 2, index + run)
        set_int(stack, frame + 3, remaining - run)
        if row >= 0:
            return at, row, DECODED
        if base + level + skip > DEPTH_LIMIT or (size > 0 and run > (end - at) // size):
            return at, np.int64(-1), BROKEN
        at += run * size


@njit(nogil=True)
def _body(  # type: ignore[no-untyped-def]
    data, at, end, size, i, n, ops, shared, least, most, stack, seen, texts, tail, values, ends, reals, nulls, breaches
):  # fmt: skip
    """The state of record i of n, whose body is data[at:end]. Arrays are addresses."""
    row, top, base = np.int64(0), np.int64(0), np.int64(0)
    while True:
        code = row << SHIFT
        what, first, second = int_at(ops, code), int_at(ops, code + 1), int_at(ops, code + 2)
        row += 1
        state = DECODED
        if what == READ:
            cell, scale, width = first * n + i, int_at(ops, code + 3), int_at(ops, code + 4)
            if second == BOOL or second == FLOAT32 or second == FLOAT64:  # noqa: SIM109
                at, state = _fixed_value(data, at, end, cell, second, values, reals, nulls)
            elif second <= LONG_DATE:
                value, at, state = long(data, at, end)
                if state == DECODED and (second != LONG or width == 32):
                    value, real, state = _from_long(value, second, scale, width, least, most)
                    if second == LONG_FLOAT:
                        set_real(reals, cell, real)
                set_int(values, cell, value)
                set_byte(nulls, cell, second == LONG_CLOCK)
                set_byte(breaches, cell, second == LONG_CLOCK)
            elif second == ENUM or second == UUID:  # noqa: SIM109
                at, state = _other_value(data, at, end, cell, code, ops, shared, size, values, ends, nulls, texts, tail)
                row = int_at(ops, code + 5) if second == ENUM else row
            else:
                at, state = _sized_value(
                    data, at, end, cell, second, scale, width, least, most, values, ends, nulls, breaches
                )
        elif what == OPTION:
            branch, at, state = long(data, at, end)
            if branch == first:
                row = second
            elif branch != 1 - first:
                state = BROKEN
        elif what <= SKIP_BYTES:
            if what == END:
                return DECODED if at == end else BROKEN
            if what == JUMP:
                row = first
            elif what == SKIP:
                state = DECODED if first <= end - at else BROKEN
                at += first
            elif what == SKIP_LONG:
                _, at, state = long(data, at, end)
            else:
                _, at, state = sized(data, at, end)
        elif what == UNION:
            branch, at, state = long(data, at, end)
            row += branch
            if not 0 <= branch < first:
                state = BROKEN
        else:
            at, row, top, base, state = _nested(
                data, at, end, ops, code, row, what, stack, top, base, texts, shared, seen, i
            )
        if state != DECODED:
            return state


@njit(nogil=True)
def _nested(data, at, end, ops, code, row, what, stack, top, base, texts, shared, seen, event):  # type: ignore[no-untyped-def]
    """(place, row, top of the stack, base, state) after an instruction that goes into or out of a record, array or map, or FAIL."""
    level = int_at(ops, code + (6 if what == LOOP else 2 if what == CALL else 1))
    if what == ASK:
        return at, row, top, base, UNSURE
    if what == FAIL or (what != NEXT and what != RETURN and base + level > DEPTH_LIMIT):
        return at, row, top, base, BROKEN
    if what == RETURN:
        top -= 1
        return at, int_at(stack, FRAME * top), top, int_at(stack, FRAME * top + 5), DECODED
    if what == CALL:
        set_int(stack, FRAME * top, row)
        set_int(stack, FRAME * top + 5, base)
        return at, int_at(ops, code + 1), top + 1, base + level - 1, DECODED
    if what == LOOP:
        set_int(stack, FRAME * top, row)
        for k in range(1, 4):
            set_int(stack, FRAME * top + k, 0)
        set_int(stack, FRAME * top + 4, -1)
        return at, row, top + 1, base, DECODED
    if what == NEXT:
        loop = code - WIDTH
        at, found, state = _next(
            data, at, end, ops, loop, stack, FRAME * (top - 1), base, texts, shared, seen, event
        )  # fmt: skip
        if found < 0:
            return at, int_at(ops, loop + 7), top - 1, base, state
        return at, found, top, base, state
    return at, row, top, base, DECODED  # DEEP, which is not too deep


@kernel((READ_INTS, READ_INTS, READ_BYTES, READ_INTS, READ_INTS, READ_INTS, READ_BYTES, *[INT64] * 6))
def read_bodies(
    begin: Array,
    end: Array,
    data: Array,
    which: Array,
    starts: Array,
    ops: Array,
    names: Array,
    columns: int,
    floats: int,
    entries: int,
    uuids: int,
    least: int,
    most: int,
) -> tuple[Array, Array, Array, Array, Array, Array, Array]:
    """Bodies data[begin[i]:end[i]] of program which[i] (-1: none) -> (state, values, ends, reals, nulls, breaches, texts).

    Program p is the rows of `ops` (int64, WIDTH each) from row starts[2 p] on; its names begin at names[starts[2 p + 1]]. `columns` are
    declared, `floats` of them floats; a program has at most `entries` declared elements and reads at most `uuids` UUIDs a record.
    The answer is as that of kernels.json.parse_events; state is DECODED where there is no program.
    """
    n = len(begin)
    state = np.zeros(n, np.int8)
    values, ends = np.zeros((columns, n), np.int64), np.zeros((columns, n), np.int64)
    reals = np.zeros((columns, n if floats else 0), np.float64)
    nulls, breaches = np.ones((columns, n), np.uint8), np.zeros((columns, n), np.uint8)
    seen = np.full(entries + 1, -1, np.int64)
    stack = np.zeros(FRAME * (DEPTH_LIMIT + 2), np.int64)
    tail = np.full(1, len(names), np.int64)
    texts = np.empty(len(names) + UUID_TEXT * uuids * n, np.uint8)
    copy_bytes(names.ctypes.data, np.int64(0), np.int64(len(names)), texts.ctypes.data, np.int64(0))
    for i in range(n):
        if which[i] >= 0:
            state[i] = _body(
                data.ctypes.data, begin[i], end[i], len(data), i, n, ops.ctypes.data + 8 * WIDTH * starts[2 * which[i]],
                starts[2 * which[i] + 1], least, most, stack.ctypes.data, seen.ctypes.data, texts.ctypes.data,
                tail.ctypes.data, values.ctypes.data, ends.ctypes.data, reals.ctypes.data, nulls.ctypes.data, breaches.ctypes.data,
            )  # fmt: skip
    return state, values, ends, reals, nulls, breaches, texts[: tail[0]]


@kernel((READ_INTS32, READ_BYTES, READ_MASK, INT64))
def read_decimals(offsets: Array, data: Array, null: Array, shift: int) -> tuple[Array, Array, Array]:
    """(unscaled int64, breaches uint8, state int8) of the big-endian integers data[offsets[i]:offsets[i + 1]] times 10^shift.

    0 where null; DECIMAL_DIGITS at most, and UNSURE as for read_bodies.
    """
    n = len(null)
    values, breaches, state = np.zeros(n, np.int64), np.zeros(n, np.uint8), np.zeros(n, np.int8)
    for i in range(n):
        if not null[i]:
            values[i], breach, state[i] = binary_decimal(
                data.ctypes.data, np.int64(offsets[i]), np.int64(offsets[i + 1]), np.int64(shift)
            )
            breaches[i] = breach
    return values, breaches, state
