"""The pieces of a JSON text, each from its first byte on: strings, numbers, literals. `data` is an address (kernels.bytes).

    state = DECODED: it is one        BROKEN: RFC 8259 forbids it, or the column cannot hold it        UNSURE: the other parser decides

A number is its digits as an integer, and is rounded once where its column is a float.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.base.types import DECIMAL_DIGITS
from pipeline.kernels.bytes import HIGH_BITS, LOW_BITS, below_32, byte, equal_bytes, first_byte, set_byte, word
from pipeline.kernels.floats import nearest

DECODED, BROKEN, UNSURE = 0, 1, 2
MANTISSA_DIGITS = 18  # fit int64
MOST_DIGITS = 19  # fit uint64
MOST_POWER = 100_000  # an exponent beyond it is as good as infinite: no literal has so many digits
INT_LIMIT = np.uint64(2**63)
LITERAL_LIMIT = 4000  # characters of a number in a declared column
QUOTE, BACKSLASH, MINUS, PLUS, POINT, COLON = 34, 92, 45, 43, 46, 58
LETTER_E, LETTER_U, SLASH = 101, 117, 47
ZERO, NINE = 48, 57
QUOTES, BACKSLASHES = LOW_BITS * np.uint64(QUOTE), LOW_BITS * np.uint64(BACKSLASH)
TRUE, NULL, FALS = (int.from_bytes(text, "big") for text in (b"true", b"null", b"fals"))
POWERS = np.array([10**n for n in range(19)], np.int64)


@njit(forceinline=True)
def space(data, at, end):  # type: ignore[no-untyped-def]
    """The first place from `at` on that is no white space; mostly there is none."""
    while at < end:
        found = byte(data, at)
        if found > 32 or not (found == 32 or found == 10 or found == 13 or found == 9):
            break
        at += 1
    return at


@njit(nogil=True)
def _utf8(data: Any, at: Any, end: Any) -> Any:
    """Number of bytes that the character at `at` (a byte >= 0x80) has, 0 when it is no UTF-8 (Unicode, table 3-7)."""
    first = byte(data, at)
    if 0xC2 <= first <= 0xDF:
        return 2 if at + 1 < end and 0x80 <= byte(data, at + 1) <= 0xBF else 0
    if 0xE0 <= first <= 0xEF:
        if at + 2 >= end or not 0x80 <= byte(data, at + 2) <= 0xBF:
            return 0
        low = 0xA0 if first == 0xE0 else 0x80
        high = 0x9F if first == 0xED else 0xBF
        return 3 if low <= byte(data, at + 1) <= high else 0
    if 0xF0 <= first <= 0xF4:
        if at + 3 >= end or not (0x80 <= byte(data, at + 2) <= 0xBF and 0x80 <= byte(data, at + 3) <= 0xBF):
            return 0
        low = 0x90 if first == 0xF0 else 0x80
        high = 0x8F if first == 0xF4 else 0xBF
        return 4 if low <= byte(data, at + 1) <= high else 0
    return 0


@njit(forceinline=True)
def _hex(data, at):  # type: ignore[no-untyped-def]
    """The value of a hexadecimal digit, or -1."""
    found = np.int64(byte(data, at))
    if ZERO <= found <= NINE:
        return found - ZERO
    found |= 32
    return found - 87 if 97 <= found <= 102 else np.int64(-1)


@njit(forceinline=True)
def _unit(data, at):  # type: ignore[no-untyped-def]
    """The UTF-16 code unit of the four hexadecimal digits at `at`; negative when one is none."""
    a, b, c, d = _hex(data, at), _hex(data, at + 1), _hex(data, at + 2), _hex(data, at + 3)
    return np.int64(-1) if a | b | c | d < 0 else a << 12 | b << 8 | c << 4 | d


@njit(forceinline=True)
def _simple(letter):  # type: ignore[no-untyped-def]
    """The character of an escape of two bytes, by its second; -1 when there is none."""
    if letter == QUOTE or letter == BACKSLASH or letter == SLASH:  # noqa: SIM109 -- no tuple in a compiled loop
        return np.int64(letter)
    if letter == 110:
        return np.int64(10)
    if letter == 116:
        return np.int64(9)
    if letter == 114:
        return np.int64(13)
    if letter == 98:
        return np.int64(8)
    return np.int64(12) if letter == 102 else np.int64(-1)


@njit(nogil=True)
def _escape(data: Any, at: Any, end: Any) -> Any:
    """The number of bytes of the escape at `at` (a backslash), 0 when it is none."""
    if at + 1 >= end:
        return 0
    letter = byte(data, at + 1)
    if letter == LETTER_U:
        return 6 if at + 6 <= end and _unit(data, at + 2) >= 0 else 0
    return 2 if _simple(letter) >= 0 else 0


@njit(forceinline=True)
def string(data, at, end):  # type: ignore[no-untyped-def]
    """(index of the closing quote, state, has escapes) of the string whose first byte is at `at`."""
    escaped = False
    while True:
        while at + 8 <= end:
            eight = word(data, at)
            stops = equal_bytes(eight, QUOTES) | equal_bytes(eight, BACKSLASHES) | below_32(eight) | (eight & HIGH_BITS)
            if stops:
                at += first_byte(stops)
                break
            at += 8
        if at >= end:
            return at, BROKEN, escaped
        found = byte(data, at)
        if found == QUOTE:
            return at, DECODED, escaped
        size = 1
        if found == BACKSLASH:
            size = _escape(data, at, end)
            escaped = True
        elif found < 32:
            size = 0
        elif found >= 128:
            size = _utf8(data, at, end)
        if size == 0:
            return at, BROKEN, escaped
        at += size


@njit(forceinline=True)
def _put(target, to, character):  # type: ignore[no-untyped-def]
    """The place behind the UTF-8 of the character that was written at `to` (half a pair: as if it were one)."""
    if character < 0x80:
        set_byte(target, to, character)
        return to + 1
    if character < 0x800:
        set_byte(target, to, 0xC0 | character >> 6)
        set_byte(target, to + 1, 0x80 | character & 0x3F)
        return to + 2
    if character < 0x10000:
        set_byte(target, to, 0xE0 | character >> 12)
        set_byte(target, to + 1, 0x80 | character >> 6 & 0x3F)
        set_byte(target, to + 2, 0x80 | character & 0x3F)
        return to + 3
    set_byte(target, to, 0xF0 | character >> 18)
    set_byte(target, to + 1, 0x80 | character >> 12 & 0x3F)
    set_byte(target, to + 2, 0x80 | character >> 6 & 0x3F)
    set_byte(target, to + 3, 0x80 | character & 0x3F)
    return to + 4


@njit(nogil=True)
def unescape(data: Any, at: Any, end: Any, target: Any, to: Any) -> Any:
    """(behind it, is text) of the inside of a string that `string` took, written without escapes at target + to: never longer than it was.

    No text: it holds U+0000 or half a surrogate pair, which a column cannot.
    """
    text = True
    while at < end:
        found = np.int64(byte(data, at))
        if found != BACKSLASH:
            set_byte(target, to, found)
            at += 1
            to += 1
            continue
        letter = byte(data, at + 1)
        if letter != LETTER_U:
            to = _put(target, to, _simple(letter))
            at += 2
            continue
        unit = _unit(data, at + 2)
        at += 6
        if 0xD800 <= unit < 0xDC00 and at + 6 <= end and byte(data, at) == BACKSLASH and byte(data, at + 1) == LETTER_U:
            low = _unit(data, at + 2)
            if 0xDC00 <= low < 0xE000:
                unit = 0x10000 + (unit - 0xD800 << 10) + low - 0xDC00
                at += 6
        text = text and unit != 0 and not 0xD800 <= unit < 0xE000
        to = _put(target, to, unit)
    return to, text


@njit(forceinline=True)
def number(data, at, end):  # type: ignore[no-untyped-def]
    """(end, state, mantissa, its digits, digits behind the point, has an exponent) of a JSON number; the mantissa has the sign.

    A mantissa of more than MANTISSA_DIGITS digits is 0 here: see `exact` and `double`.
    """
    negative = byte(data, at) == MINUS
    if negative:
        at += 1
    mantissa, digits, fraction, exponent = np.int64(0), 0, 0, False
    first = at
    while at < end and ZERO <= byte(data, at) <= NINE:
        if digits < MANTISSA_DIGITS:
            mantissa = mantissa * 10 + np.int64(byte(data, at) - ZERO)
        digits += 1
        at += 1
    if digits == 0 or (digits > 1 and byte(data, first) == ZERO):
        return at, BROKEN, mantissa, digits, fraction, exponent
    if at < end and byte(data, at) == POINT:
        at += 1
        while at < end and ZERO <= byte(data, at) <= NINE:
            if digits < MANTISSA_DIGITS:
                mantissa = mantissa * 10 + np.int64(byte(data, at) - ZERO)
            digits += 1
            fraction += 1
            at += 1
        if fraction == 0:
            return at, BROKEN, mantissa, digits, fraction, exponent
    if at < end and (byte(data, at) == LETTER_E or byte(data, at) == 69):
        exponent = True
        at += 1
        if at < end and (byte(data, at) == MINUS or byte(data, at) == PLUS):
            at += 1
        begin = at
        while at < end and ZERO <= byte(data, at) <= NINE:
            at += 1
        if at == begin:
            return at, BROKEN, mantissa, digits, fraction, exponent
    if digits > MANTISSA_DIGITS:
        mantissa = np.int64(0)
    return at, DECODED, -mantissa if negative else mantissa, digits, fraction, exponent


@njit(forceinline=True)
def _digits_end(data, at, end):  # type: ignore[no-untyped-def]
    while at < end and ZERO <= byte(data, at) <= NINE:
        at += 1
    return at


@njit(forceinline=True)
def number_end(data, at, end):  # type: ignore[no-untyped-def]
    """(behind it, state) of a JSON number that nobody asks for."""
    if byte(data, at) == MINUS:
        at += 1
    stop = _digits_end(data, at, end)
    if stop == at or (stop > at + 1 and byte(data, at) == ZERO):
        return stop, BROKEN
    at = stop
    if at < end and byte(data, at) == POINT:
        stop = _digits_end(data, at + 1, end)
        if stop == at + 1:
            return stop, BROKEN
        at = stop
    if at < end and byte(data, at) | 32 == LETTER_E:
        at += 1
        if at < end and (byte(data, at) == MINUS or byte(data, at) == PLUS):
            at += 1
        stop = _digits_end(data, at, end)
        if stop == at:
            return stop, BROKEN
        at = stop
    return at, DECODED


@njit(nogil=True)
def significant(data: Any, at: Any, end: Any) -> Any:
    """(first, digits, power) of the number data[at:end], which `number` took, without its sign.

        it = its `digits` significant digits, from the first to the last that is no zero, as an integer, * 10^power

    `first` is that integer, uint64, or its first MOST_DIGITS digits; 0 has no digits. An exponent ends at MOST_POWER.
    """
    first, digits, nonzero, fraction, power, behind = np.uint64(0), 0, 0, 0, np.int64(0), False
    if byte(data, at) == MINUS:
        at += 1
    while at < end:
        found = byte(data, at)
        at += 1
        if found == POINT:
            behind = True
            continue
        if not ZERO <= found <= NINE:
            break
        if behind:
            fraction += 1
        if digits or found != ZERO:
            if digits < MOST_DIGITS:
                first = first * np.uint64(10) + np.uint64(found - ZERO)
            digits += 1
            if found != ZERO:
                nonzero = digits
    if at < end:  # an exponent: the letter was the last that was read
        negative = byte(data, at) == MINUS
        if negative or byte(data, at) == PLUS:
            at += 1
        while at < end:
            power = min(power * 10 + np.int64(byte(data, at) - ZERO), np.int64(MOST_POWER))
            at += 1
        power = -power if negative else power
    for _ in range(nonzero, min(digits, MOST_DIGITS)):
        first = first // np.uint64(10)
    return first, nonzero, power - fraction + digits - nonzero


@njit(nogil=True)
def exact(data: Any, at: Any, end: Any, scale: Any, most: Any) -> Any:
    """(|it| * 10^scale, has more decimals than the scale, state) of a number with an exponent or many digits; uint64, below 10^most.

    BROKEN: it is larger, or longer than LITERAL_LIMIT. `most` is at most 19.
    """
    first, digits, power = significant(data, at, end)
    power += scale
    if end - at > LITERAL_LIMIT or (digits and digits + power > most):
        return np.uint64(0), False, BROKEN
    if digits and power < 0:
        return np.uint64(0), True, DECODED
    for _ in range(power if digits else 0):
        first = first * np.uint64(10)
    return first, False, DECODED


@njit(nogil=True)
def double(data: Any, at: Any, end: Any) -> Any:
    """(the double nearest to the number data[at:end], state); BROKEN beyond all doubles."""
    first, digits, power = significant(data, at, end)
    if end - at > LITERAL_LIMIT:
        return 0.0, BROKEN
    state = DECODED
    if digits > MOST_DIGITS:  # it lies between these two, and mostly that is enough
        power += digits - MOST_DIGITS
        state = DECODED if nearest(first, power) == nearest(first + np.uint64(1), power) else UNSURE
    found = nearest(first, power)
    if found == np.inf:
        return 0.0, BROKEN if state == DECODED else UNSURE
    return -found if byte(data, at) == MINUS and found != 0.0 else found, state


@njit(forceinline=True)
def decimal(data, at, end, mantissa, digits, fraction, exponent, scale):  # type: ignore[no-untyped-def]
    """(unscaled value, has more decimals than the scale, state) of the number data[at:end], of which `number` said the rest."""
    if exponent or digits > MANTISSA_DIGITS or digits - fraction + scale > DECIMAL_DIGITS:
        size, breach, state = exact(data, at, end, scale, np.int64(DECIMAL_DIGITS))
        return -np.int64(size) if byte(data, at) == MINUS else np.int64(size), breach, state
    if fraction <= scale:
        return mantissa * POWERS[scale - fraction], False, DECODED
    unit = POWERS[fraction - scale]
    if mantissa % unit:
        return np.int64(0), True, DECODED
    return mantissa // unit, False, DECODED


@njit(nogil=True)
def integer(data: Any, at: Any, end: Any) -> Any:
    """(int64, state) of the number data[at:end] with an exponent, a point or many digits; BROKEN unless it is whole and fits."""
    size, breach, state = exact(data, at, end, np.int64(0), np.int64(MOST_DIGITS))
    if state != DECODED or breach or size > INT_LIMIT:
        return np.int64(0), BROKEN
    if byte(data, at) == MINUS:
        return np.int64(np.uint64(0) - size), DECODED
    return np.int64(size), DECODED if size < INT_LIMIT else BROKEN


@njit(forceinline=True)
def _four(data, at):  # type: ignore[no-untyped-def]
    found = np.int64(0)
    for k in range(4):
        found = found << 8 | np.int64(byte(data, at + k))
    return found


@njit(forceinline=True)
def literal(data, at, end):  # type: ignore[no-untyped-def]
    """(length, value) of true, false or null: value 1, 0 or -1; length 0 when it is none."""
    four = _four(data, at) if at + 4 <= end else 0
    if four == TRUE:
        return 4, 1
    if four == NULL:
        return 4, -1
    if four == FALS and at + 5 <= end and byte(data, at + 4) == LETTER_E:
        return 5, 0
    return 0, 0
