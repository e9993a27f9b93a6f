"""Dates and times as texts, from their first byte on: ISO 8601 as the other parser takes it. `data` is an address (kernels.bytes).

(value, state): DECODED and days or microseconds since 1970 in UTC (proleptic Gregorian), or BROKEN

How a time may be written beside that is an int64 of its column, `written(unit, lenient, zoned)`: the unit of a number, 10^unit
microseconds; a second 60; a time of a clock on the wall, without a zone.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.bytes import byte
from pipeline.kernels.scalars import BROKEN, COLON, DECODED, MINUS, NINE, PLUS, POINT, POWERS, ZERO

UNIT_ZERO, UNITS, LENIENT, ZONED = 8, 15, 16, 32
MONTH_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)
DATE_SIZE, MICRO_DIGITS = 10, 6
SPACE, COMMA = 32, 44


def written(unit: int, lenient: bool, zoned: bool) -> int:
    """Ways in which a column's times may be written, as one number."""
    return unit + UNIT_ZERO | LENIENT * lenient | ZONED * zoned


@njit(forceinline=True)
def unit_of(how):  # type: ignore[no-untyped-def]
    """The unit of a number, as a power of ten of a microsecond."""
    return (how & UNITS) - UNIT_ZERO


@njit(forceinline=True)
def _pair(data, at):  # type: ignore[no-untyped-def]
    """The value of two digits, or -1."""
    high, low = byte(data, at), byte(data, at + 1)
    if ZERO <= high <= NINE and ZERO <= low <= NINE:
        return np.int64(high - ZERO) * 10 + np.int64(low - ZERO)
    return np.int64(-1)


@njit(nogil=True)
def days(data: Any, at: Any, end: Any) -> Any:
    """(days since 1970-01-01, state) of the text YYYY-MM-DD (Hinnant's days_from_civil); it may go on behind that."""
    if end - at < DATE_SIZE:
        return 0, BROKEN
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
        return 0, BROKEN
    year = century * 100 + years
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if year < 1 or day > MONTH_DAYS[month] + (1 if leap and month == 2 else 0):
        return 0, BROKEN
    shifted = year - 1 if month <= 2 else year
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468, DECODED


@njit(forceinline=True)
def _fraction(data, at, end):  # type: ignore[no-untyped-def]
    """(behind it, microseconds, state) of the digits behind a point; those behind the sixth are left out."""
    micro, digits = np.int64(0), 0
    while at < end and ZERO <= byte(data, at) <= NINE:
        if digits < MICRO_DIGITS:
            micro = micro * 10 + np.int64(byte(data, at) - ZERO)
        digits += 1
        at += 1
    if digits == 0:
        return at, micro, BROKEN
    return at, micro * (POWERS[MICRO_DIGITS - digits] if digits < MICRO_DIGITS else 1), DECODED


@njit(forceinline=True)
def _zone(data, at, end):  # type: ignore[no-untyped-def]
    """(minutes ahead of UTC, state) of what follows a time: Z, UTC, +hh, +hhmm or +hh:mm, perhaps behind a space, and nothing more."""
    if at < end and byte(data, at) == SPACE:
        at += 1
    if at == end:
        return np.int64(0), BROKEN
    sign = byte(data, at)
    if sign == 85:  # UTC
        whole = end - at == 3 and byte(data, at + 1) == 84 and byte(data, at + 2) == 67
        return np.int64(0), DECODED if whole else BROKEN
    if sign == 90 or sign == 122:  # Z, z
        return np.int64(0), DECODED if at + 1 == end else BROKEN
    if not (sign == PLUS or sign == MINUS) or end - at < 3:  # noqa: SIM109 -- no tuple in a compiled loop
        return np.int64(0), BROKEN
    hours, minutes = _pair(data, at + 1), np.int64(0)
    at += 3
    if at < end and byte(data, at) == COLON and end - at == 3:
        at += 1
    if end - at == 2:
        minutes = _pair(data, at)
        at += 2
    if at != end or hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
        return np.int64(0), BROKEN
    offset = hours * 60 + minutes
    return -offset if sign == MINUS else offset, DECODED


@njit(nogil=True)
def microseconds(data: Any, at: Any, end: Any, how: Any, least: Any, most: Any) -> Any:
    """(microseconds since 1970, is of a clock on the wall, state) of YYYY-MM-DDThh:mm[:ss[.f]] with a zone, from `least` to `most`.

    Without a zone, where `how` allows that, it is what the clock shows, as if it were UTC's, and of any size.
    """
    if end - at < 16:
        return 0, False, BROKEN
    day, state = days(data, at, end)
    between = byte(data, at + 10)
    hour, minute, second, micro = _pair(data, at + 11), _pair(data, at + 14), np.int64(0), np.int64(0)
    if state != DECODED or not (between == 84 or between == 116 or between == SPACE):  # T, t
        return 0, False, BROKEN
    if byte(data, at + 13) != COLON or hour < 0 or hour > 23 or minute < 0 or minute > 59:
        return 0, False, BROKEN
    at += 16
    if at < end and byte(data, at) == COLON:
        if end - at < 3:
            return 0, False, BROKEN
        second = _pair(data, at + 1)
        if second < 0 or second > (60 if how & LENIENT else 59):
            return 0, False, BROKEN
        at += 3
        if at < end and (byte(data, at) == POINT or byte(data, at) == COMMA):
            at, micro, state = _fraction(data, at + 1, end)
            if state != DECODED:
                return 0, False, BROKEN
    found = ((day * 24 + hour) * 60 + minute) * 60_000_000 + second * 1_000_000 + micro
    if at == end and how & ZONED:
        return found, True, DECODED
    offset, state = _zone(data, at, end)
    found -= offset * 60_000_000
    return found, False, state if least <= found <= most else BROKEN
