"""The pieces of a JSON text, each from its first byte on: white space, strings, literals. `data` is an address (kernels.bytes).

state = DECODED: it is one        BROKEN: RFC 8259 forbids it, or the column cannot hold it        UNSURE: the other parser decides
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.bytes import HIGH_BITS, LOW_BITS, below_32, byte, equal_bytes, first_byte, set_byte, word

DECODED, BROKEN, UNSURE = 0, 1, 2
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
def utf8(data: Any, at: Any, end: Any) -> Any:
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
            size = utf8(data, at, end)
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
