"""The pieces of a JSON text, each from its first byte on: strings, numbers, literals, times. `data` is an address (kernels.bytes).

    state = DECODED: it is one        BROKEN: RFC 8259 forbids it        UNSURE: the record-by-record parser decides

A number is its digits as an integer, so nothing is rounded here.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.base.types import DECIMAL_DIGITS
from pipeline.kernels.bytes import HIGH_BITS, LOW_BITS, below_32, byte, equal_bytes, first_byte, word

DECODED, BROKEN, UNSURE = 0, 1, 2
MANTISSA_DIGITS = 18  # fit int64
QUOTE, BACKSLASH, MINUS, PLUS, POINT, COLON, LETTER_E = 34, 92, 45, 43, 46, 58, 101
ZERO, NINE = 48, 57
QUOTES, BACKSLASHES = LOW_BITS * np.uint64(QUOTE), LOW_BITS * np.uint64(BACKSLASH)
TRUE, NULL, FALS = (int.from_bytes(text, "big") for text in (b"true", b"null", b"fals"))
POWERS = np.array([10**n for n in range(19)], np.int64)
MONTH_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)


@njit(forceinline=True)
def space(data, at, end):  # type: ignore[no-untyped-def]
    """The first place from `at` on that is no white space."""
    while at < end and (byte(data, at) == 32 or byte(data, at) == 10 or byte(data, at) == 13 or byte(data, at) == 9):
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
def string(data, at, end):  # type: ignore[no-untyped-def]
    """(index of the closing quote, state) of the string whose first byte is at `at`."""
    while True:
        while at + 8 <= end:
            eight = word(data, at)
            stops = equal_bytes(eight, QUOTES) | equal_bytes(eight, BACKSLASHES) | below_32(eight) | (eight & HIGH_BITS)
            if stops:
                at += first_byte(stops)
                break
            at += 8
        if at >= end:
            return at, BROKEN
        found = byte(data, at)
        if found == QUOTE:
            return at, DECODED
        if found == BACKSLASH:
            return at, UNSURE
        if found < 32:
            return at, BROKEN
        if found < 128:
            at += 1
        else:
            size = _utf8(data, at, end)
            if size == 0:
                return at, BROKEN
            at += size


@njit(forceinline=True)
def number(data, at, end):  # type: ignore[no-untyped-def]
    """(end, state, mantissa, its digits, digits behind the point, has an exponent) of a JSON number; the mantissa has the sign.

    A mantissa of more than MANTISSA_DIGITS digits is 0 here.
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
def _pair(data, at):  # type: ignore[no-untyped-def]
    """The value of two digits, or -1."""
    high, low = byte(data, at), byte(data, at + 1)
    if ZERO <= high <= NINE and ZERO <= low <= NINE:
        return np.int64(high - ZERO) * 10 + np.int64(low - ZERO)
    return np.int64(-1)


@njit(nogil=True)
def days(data: Any, at: Any) -> Any:
    """(days since 1970-01-01, certain) of the 10 bytes YYYY-MM-DD at `at` (proleptic Gregorian; Hinnant's days_from_civil)."""
    century, years, month, day = _pair(data, at), _pair(data, at + 2), _pair(data, at + 5), _pair(data, at + 8)
    if (
        century < 0
        or years < 0
        or month < 1
        or month > 12
        or day < 1
        or byte(data, at + 4) != MINUS
        or byte(data, at + 7) != MINUS
    ):
        return 0, False
    year = century * 100 + years
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if year < 1 or day > MONTH_DAYS[month] + (1 if leap and month == 2 else 0):
        return 0, False
    shifted = year - 1 if month <= 2 else year
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468, True


@njit(nogil=True)
def microseconds(data: Any, at: Any, end: Any, least: Any, most: Any) -> Any:
    """(microseconds since 1970, certain) of YYYY-MM-DDThh:mm:ss[.f]Z or ...+hh:mm, f of 1 to 6 digits."""
    if end - at < 20:
        return 0, False
    day, certain = days(data, at)
    between = byte(data, at + 10)
    hour, minute, second = _pair(data, at + 11), _pair(data, at + 14), _pair(data, at + 17)
    if not certain or not (between == 84 or between == 116 or between == 32):
        return 0, False
    if byte(data, at + 13) != COLON or byte(data, at + 16) != COLON:
        return 0, False
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return 0, False
    at += 19
    micro, digits = np.int64(0), 0
    if byte(data, at) == POINT:
        at += 1
        while at < end and ZERO <= byte(data, at) <= NINE and digits < 6:
            micro = micro * 10 + np.int64(byte(data, at) - ZERO)
            digits += 1
            at += 1
        if digits == 0 or at == end:
            return 0, False
        micro *= POWERS[6 - digits]
    offset = np.int64(0)
    if byte(data, at) == 90 or byte(data, at) == 122:
        at += 1
    elif (byte(data, at) == PLUS or byte(data, at) == MINUS) and end - at == 6 and byte(data, at + 3) == COLON:
        hours, minutes = _pair(data, at + 1), _pair(data, at + 4)
        if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
            return 0, False
        offset = (hours * 60 + minutes) * (1 if byte(data, at) == PLUS else -1)
        at += 6
    else:
        return 0, False
    found = ((day * 24 + hour) * 60 + minute - offset) * 60_000_000 + second * 1_000_000 + micro
    return found, at == end and least <= found <= most


@njit(forceinline=True)
def decimal(mantissa, digits, fraction, exponent, scale):  # type: ignore[no-untyped-def]
    """(unscaled value, has more decimals than the scale, certain)."""
    if exponent or digits > MANTISSA_DIGITS or digits - fraction + scale > DECIMAL_DIGITS:
        return np.int64(0), False, False
    if fraction <= scale:
        return mantissa * POWERS[scale - fraction], False, True
    unit = POWERS[fraction - scale]
    if mantissa % unit:
        return np.int64(0), True, True
    return mantissa // unit, False, True


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
