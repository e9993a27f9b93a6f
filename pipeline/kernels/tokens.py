"""Values of the types that are read in a second pass: where they stand in the JSON text is known, what they are is found here.

    one row a value: begin[i], end[i] in `data` followed by `more`, its sort TEXT, NUMBER or TRUTH; nothing where null[i]
    state[i] = DECODED: it has its value        BROKEN: its column cannot hold it        UNSURE: the other parser decides

So the first pass (kernels.json) knows one kind for all of these, and costs the others nothing. All arrays are contiguous.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.bytes import byte, set_byte, set_int
from pipeline.kernels.compiling import INT64, READ_BYTES, READ_INTS, kernel
from pipeline.kernels.numbers import LITERAL_LIMIT, MOST_POWER, decimal, double, integer, number
from pipeline.kernels.scalars import BROKEN, COLON, DECODED, LETTER_E, MINUS, NINE, PLUS, POINT, ZERO

Array = np.ndarray[Any, Any]

TEXT, NUMBER, TRUTH = 0, 1, 2  # sorts of scalars
PLACES = (READ_BYTES, READ_BYTES, READ_INTS, READ_INTS, READ_BYTES, READ_BYTES)  # data, more, begin, end, sort, null
WIDE_DIGITS = 38
UUID_SIZE = 36
LOW_32, BITS_32 = np.uint64(0xFFFFFFFF), np.uint64(32)
DAY_FRACTION_DIGITS = 9
# Of a base64 digit: its six bits; 64: none
SIX_BITS = np.full(256, 64, np.uint8)
SIX_BITS[np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)] = np.arange(64)
EQUALS = 61
INTEGRAL, SCALED, REAL = 0, 1, 2  # `what` read_numbers reads
TRUE_WORDS = tuple(int.from_bytes(word, "big") for word in (b"true", b"t", b"yes", b"y", b"on", b"1"))
FALSE_WORDS = tuple(int.from_bytes(word, "big") for word in (b"false", b"f", b"no", b"n", b"off", b"0"))
LONGEST_WORD = 5


@njit(forceinline=True)
def token(values, ends, nulls, breaches, cell, at, end, sort):  # type: ignore[no-untyped-def]
    """Write a cell of a TOKEN column: where its value stands, and its sort."""
    set_int(values, cell, at)
    set_int(ends, cell, end)
    set_byte(nulls, cell, 0)
    set_byte(breaches, cell, sort)


@njit(forceinline=True)
def _spot(data, more, size, begin, end):  # type: ignore[no-untyped-def]
    """(address, at, end) of what stands at [begin, end) of `data` (of `size` bytes) followed by `more`."""
    if begin < size:
        return data, begin, end
    return more, begin - size, end - size


@njit(forceinline=True)
def _trimmed(data, at, end):  # type: ignore[no-untyped-def]
    """(at, end) without the blanks of JSON around it."""
    while at < end and (byte(data, at) == 32 or 9 <= byte(data, at) <= 10 or byte(data, at) == 13):
        at += 1
    while at < end and (byte(data, end - 1) == 32 or 9 <= byte(data, end - 1) <= 10 or byte(data, end - 1) == 13):
        end -= 1
    return at, end


@njit(forceinline=True)
def times_ten(high, low, digit):  # type: ignore[no-untyped-def]
    """(high, low) * 10 + digit in 128 bits."""
    right = (low & LOW_32) * np.uint64(10) + digit
    left = (low >> BITS_32) * np.uint64(10) + (right >> BITS_32)
    return high * np.uint64(10) + (left >> BITS_32), left << BITS_32 | right & LOW_32


@njit(nogil=True)
def _wide(data: Any, at: Any, end: Any, scale: Any, most: Any) -> Any:
    """(high, low, breach, state) of |it| * 10^scale of the number data[at:end], which `number` took; below 10^most."""
    high, low, zero = np.uint64(0), np.uint64(0), np.uint64(0)
    digits, nonzero, kept, fraction, power, behind = 0, 0, 0, 0, np.int64(0), False
    size = end - at
    if byte(data, at) == MINUS:
        at += 1
    while at < end:
        found = byte(data, at)
        at += 1
        if found == POINT:
            behind = True
            continue
        if found | 32 == LETTER_E:
            break
        if behind:
            fraction += 1
        if digits == 0 and found == ZERO:
            continue
        digits += 1
        if found != ZERO:
            while kept < digits - 1 and kept < WIDE_DIGITS:  # the zeros before it
                high, low = times_ten(high, low, zero)
                kept += 1
            if kept < WIDE_DIGITS:
                high, low = times_ten(high, low, np.uint64(found - ZERO))
                kept += 1
            nonzero = digits
    if at < end:  # an exponent: the letter was the last that was read
        negative = byte(data, at) == MINUS
        if negative or byte(data, at) == PLUS:
            at += 1
        while at < end:
            power = min(power * 10 + np.int64(byte(data, at) - ZERO), np.int64(MOST_POWER))
            at += 1
        power = -power if negative else power
    power += scale - fraction + digits - nonzero
    if size > LITERAL_LIMIT or (nonzero and nonzero + power > most):
        return high, low, False, BROKEN
    if nonzero and power < 0:
        return high, low, True, DECODED
    for _ in range(power if nonzero else 0):
        high, low = times_ten(high, low, zero)
    return high, low, False, DECODED


@njit(forceinline=True)
def _number_in(data, at, end, sort, written):  # type: ignore[no-untyped-def]
    """(at, end, state) of the number that a NUMBER is, or a TEXT holds; with `written` between blanks, and at == end where it is empty."""
    if sort == TRUTH:
        return at, end, BROKEN
    if sort == TEXT:
        if written:
            at, end = _trimmed(data, at, end)
            if at == end:
                return at, end, DECODED
        if at == end or not (byte(data, at) == MINUS or ZERO <= byte(data, at) <= NINE):
            return at, end, BROKEN
        stop, state, _, _, _, _ = number(data, at, end)
        if state != DECODED or stop != end:
            return at, end, BROKEN
    return at, end, DECODED


@kernel((*PLACES, INT64, INT64, INT64))
def read_wide(
    data: Array, more: Array, begin: Array, end: Array, sort: Array, null: Array, scale: int, digits: int, written: int
) -> tuple[Array, Array, Array, Array]:
    """(words uint64 (n, 2), null uint8, breach uint8, state int8): decimals of so many digits in all, numbers or numbers as text.

    A breach is one of more decimals than `scale`, and null. `written` (0, 1): a text may have blanks around it, and is null when empty.
    """
    n, size = len(begin), len(data)
    words, nulls, breach, state = np.zeros((n, 2), np.uint64), null.copy(), np.zeros(n, np.uint8), np.zeros(n, np.int8)
    for i in range(n):
        if null[i]:
            continue
        source, at, stop = _spot(data.ctypes.data, more.ctypes.data, size, begin[i], end[i])
        at, stop, state[i] = _number_in(source, at, stop, sort[i], written)
        if state[i] != DECODED or at == stop:
            nulls[i] = 1
            continue
        high, low, breached, state[i] = _wide(source, at, stop, scale, digits)
        if byte(source, at) == MINUS:
            low = ~low + np.uint64(1)
            high = ~high + np.uint64(low == 0)
        words[i, 0], words[i, 1] = low, high
        nulls[i] = breach[i] = breached
    return words, nulls, breach, state


@njit(forceinline=True)
def _hex(found):  # type: ignore[no-untyped-def]
    """The value of a hexadecimal digit, or -1."""
    if ZERO <= found <= NINE:
        return np.int64(found) - ZERO
    letter = np.int64(found) | 32
    return letter - 87 if 97 <= letter <= 102 else np.int64(-1)


@kernel(PLACES)
def read_uuids(data: Array, more: Array, begin: Array, end: Array, sort: Array, null: Array) -> tuple[Array, Array]:
    """(bytes uint8 (n, 16), state int8) of texts of the form 8-4-4-4-12, hexadecimal digits of any case."""
    n, size = len(begin), len(data)
    out, state = np.zeros((n, 16), np.uint8), np.zeros(n, np.int8)
    for i in range(n):
        if null[i]:
            continue
        source, at, stop = _spot(data.ctypes.data, more.ctypes.data, size, begin[i], end[i])
        if sort[i] != TEXT or stop - at != UUID_SIZE:
            state[i] = BROKEN
            continue
        place = 0
        for k in range(16):
            if k == 4 or k == 6 or k == 8 or k == 10:
                if byte(source, at + place) != MINUS:
                    state[i] = BROKEN
                place += 1
            high, low = _hex(byte(source, at + place)), _hex(byte(source, at + place + 1))
            if high < 0 or low < 0:
                state[i] = BROKEN
            out[i, k] = (high << 4 | low) & 255
            place += 2
    return out, state


@njit(forceinline=True)
def _pair(data, at):  # type: ignore[no-untyped-def]
    """The value of two digits, or -1."""
    high, low = byte(data, at), byte(data, at + 1)
    if ZERO <= high <= NINE and ZERO <= low <= NINE:
        return np.int64(high - ZERO) * 10 + np.int64(low - ZERO)
    return np.int64(-1)


@njit(nogil=True)
def _time(data: Any, at: Any, end: Any) -> Any:
    """(microseconds since midnight, state) of HH:MM[:SS[.f]], f of one to nine digits, floored."""
    size = end - at
    if size < 5 or size == 6 or size == 7 or size == 9 or size > 9 + DAY_FRACTION_DIGITS:
        return np.int64(0), BROKEN
    hour, minute, second, micro = _pair(data, at), _pair(data, at + 3), np.int64(0), np.int64(0)
    sound = byte(data, at + 2) == COLON
    if size >= 8:
        sound = sound and byte(data, at + 5) == COLON
        second = _pair(data, at + 6)
    if size > 8:
        sound = sound and byte(data, at + 8) == POINT
        for k in range(9, size):
            found = byte(data, at + k)
            sound = sound and ZERO <= found <= NINE
            if k < 15:
                micro = micro * 10 + np.int64(found - ZERO)
        for _ in range(15 - size):
            micro *= 10
    if not sound or hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return np.int64(0), BROKEN
    return ((hour * 60 + minute) * 60 + second) * 1_000_000 + micro, DECODED


@kernel(PLACES)
def read_times(data: Array, more: Array, begin: Array, end: Array, sort: Array, null: Array) -> tuple[Array, Array]:
    """(microseconds since midnight int64, state int8) of texts HH:MM[:SS[.f]] without a zone."""
    n, size = len(begin), len(data)
    out, state = np.zeros(n, np.int64), np.zeros(n, np.int8)
    for i in range(n):
        if null[i]:
            continue
        source, at, stop = _spot(data.ctypes.data, more.ctypes.data, size, begin[i], end[i])
        if sort[i] == TEXT:
            out[i], state[i] = _time(source, at, stop)
        else:
            state[i] = BROKEN
    return out, state


@njit(nogil=True)
def _base64(data: Any, at: Any, end: Any, target: Any, to: Any) -> Any:
    """(behind what was written at target + to, state) of a text in base64: padded, and without bits that no byte has."""
    if (end - at) % 4:
        return to, BROKEN
    while at < end:
        a, b = SIX_BITS[byte(data, at)], SIX_BITS[byte(data, at + 1)]
        c, d = SIX_BITS[byte(data, at + 2)], SIX_BITS[byte(data, at + 3)]
        size = 3
        if at + 4 == end and byte(data, at + 3) == EQUALS:
            d, size = np.uint8(0), 2
            if byte(data, at + 2) == EQUALS:
                c, size = np.uint8(0), 1
        bits = np.int64(a) << 18 | np.int64(b) << 12 | np.int64(c) << 6 | np.int64(d)
        if a > 63 or b > 63 or c > 63 or d > 63 or bits & ((1 << (24 - 8 * size)) - 1):
            return to, BROKEN
        for k in range(size):
            set_byte(target, to + k, bits >> (16 - 8 * k) & 255)
        to += size
        at += 4
    return to, DECODED


@kernel(PLACES)
def read_base64(
    data: Array, more: Array, begin: Array, end: Array, sort: Array, null: Array
) -> tuple[Array, Array, Array]:
    """(offsets int32 (n + 1,), bytes uint8, state int8) of texts in base64, the standard alphabet with padding."""
    n, size, room = len(begin), len(data), np.int64(0)
    for i in range(n):
        room += 0 if null[i] else (end[i] - begin[i]) // 4 * 3
    offsets, out, state = np.zeros(n + 1, np.int32), np.empty(room, np.uint8), np.zeros(n, np.int8)
    for i in range(n):
        filled = np.int64(offsets[i])
        if not null[i]:
            source, at, stop = _spot(data.ctypes.data, more.ctypes.data, size, begin[i], end[i])
            if sort[i] != TEXT:
                state[i] = BROKEN
            else:
                behind, state[i] = _base64(source, at, stop, out.ctypes.data, filled)
                filled = behind if state[i] == DECODED else filled
        offsets[i + 1] = filled
    return offsets, out, state


@kernel((*PLACES, INT64, INT64))
def read_numbers(
    data: Array, more: Array, begin: Array, end: Array, sort: Array, null: Array, what: int, scale: int
) -> tuple[Array, Array, Array, Array, Array]:
    """(values int64 (n,), reals float64 (n,), null uint8, breach uint8, state int8): numbers, or numbers as text between blanks.

    INTEGRAL: ints of 64 bits. SCALED: decimals of at most 18 digits, unscaled; a breach is one of more decimals than `scale`, and null.
    REAL: floats, in reals. An empty text is null.
    """
    n, size = len(begin), len(data)
    values, reals, nulls = np.zeros(n, np.int64), np.zeros(n, np.float64), null.copy()
    breach, state = np.zeros(n, np.uint8), np.zeros(n, np.int8)
    for i in range(n):
        if null[i]:
            continue
        source, at, stop = _spot(data.ctypes.data, more.ctypes.data, size, begin[i], end[i])
        at, stop, state[i] = _number_in(source, at, stop, sort[i], 1)
        if state[i] != DECODED or at == stop:
            nulls[i] = 1
        elif what == REAL:
            reals[i], state[i] = double(source, at, stop)
        elif what == INTEGRAL:
            values[i], state[i] = integer(source, at, stop)
        else:
            _, _, mantissa, digits, fraction, exponent = number(source, at, stop)
            values[i], breached, state[i] = decimal(
                source, at, stop, mantissa, digits, fraction, exponent, np.int64(scale)
            )
            nulls[i] = breach[i] = breached
    return values, reals, nulls, breach, state


@kernel(PLACES)
def read_truths(
    data: Array, more: Array, begin: Array, end: Array, sort: Array, null: Array
) -> tuple[Array, Array, Array]:
    """(truth bool (n,), null uint8, state int8): true and false, numbers that are 0 or 1, and the words for them between blanks.

    An empty text is null.
    """
    n, size = len(begin), len(data)
    out, nulls, state = np.zeros(n, np.bool_), null.copy(), np.zeros(n, np.int8)
    for i in range(n):
        if null[i]:
            continue
        source, at, stop = _spot(data.ctypes.data, more.ctypes.data, size, begin[i], end[i])
        if sort[i] == TRUTH:
            out[i] = stop - at == 4
        elif sort[i] == NUMBER:
            value, state[i] = integer(source, at, stop)
            out[i] = value == 1
            if not 0 <= value <= 1:
                state[i] = BROKEN
        else:
            at, stop = _trimmed(source, at, stop)
            packed = np.int64(0)
            for k in range(min(stop - at, LONGEST_WORD + 1)):
                letter = np.int64(byte(source, at + k))
                packed = packed << 8 | (letter | 32 if 65 <= letter <= 90 else letter)
            out[i] = packed in TRUE_WORDS
            if at == stop:
                nulls[i] = 1
            elif not (out[i] or packed in FALSE_WORDS):
                state[i] = BROKEN
    return out, nulls, state


@kernel(PLACES)
def read_texts(data: Array, more: Array, begin: Array, end: Array, sort: Array, null: Array) -> Array:
    """State int8 (n,) of texts that may have U+0000, and no half of a surrogate pair, which only an escape can write."""
    n, size = len(begin), len(data)
    state = np.zeros(n, np.int8)
    for i in range(n):
        if null[i]:
            continue
        source, at, stop = _spot(data.ctypes.data, more.ctypes.data, size, begin[i], end[i])
        if sort[i] != TEXT:
            state[i] = BROKEN
        elif begin[i] >= size:
            for k in range(at, stop - 1):
                if byte(source, k) == 0xED and byte(source, k + 1) >= 0xA0:
                    state[i] = BROKEN
    return state


__all__ = [
    "INTEGRAL",
    "NUMBER",
    "REAL",
    "SCALED",
    "TEXT",
    "TRUTH",
    "read_base64",
    "read_numbers",
    "read_texts",
    "read_times",
    "read_truths",
    "read_uuids",
    "read_wide",
]
