"""Dates and times as texts, from their first byte on: ISO 8601 as the other parser takes it. `data` is an address (kernels.bytes).

(value, state): DECODED and days or microseconds since 1970 in UTC (proleptic Gregorian), or BROKEN
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.bytes import byte
from pipeline.kernels.scalars import BROKEN, COLON, DECODED, MINUS, NINE, PLUS, POINT, POWERS, ZERO

MONTH_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)
DATE_SIZE, MICRO_DIGITS = 10, 6


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
    """(behind it, microseconds, state) of the digits behind a point; those behind the sixth must be zeros."""
    micro, digits = np.int64(0), 0
    while at < end and ZERO <= byte(data, at) <= NINE:
        if digits < MICRO_DIGITS:
            micro = micro * 10 + np.int64(byte(data, at) - ZERO)
        elif byte(data, at) != ZERO:
            return at, micro, BROKEN
        digits += 1
        at += 1
    if digits == 0:
        return at, micro, BROKEN
    return at, micro * (POWERS[MICRO_DIGITS - digits] if digits < MICRO_DIGITS else 1), DECODED


@njit(forceinline=True)
def _zone(data, at, end):  # type: ignore[no-untyped-def]
    """(minutes ahead of UTC, state) of what follows a time: Z, +hh, +hhmm or +hh:mm, and nothing behind it."""
    if at == end:
        return np.int64(0), BROKEN
    sign = byte(data, at)
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
def microseconds(data: Any, at: Any, end: Any, least: Any, most: Any) -> Any:
    """(microseconds since 1970, state) of YYYY-MM-DDThh:mm[:ss[.f]] with a zone, from `least` to `most`."""
    if end - at < 17:
        return 0, BROKEN
    day, state = days(data, at, end)
    between = byte(data, at + 10)
    hour, minute, second, micro = _pair(data, at + 11), _pair(data, at + 14), np.int64(0), np.int64(0)
    if state != DECODED or not (between == 84 or between == 116 or between == 32):  # T, t, space
        return 0, BROKEN
    if byte(data, at + 13) != COLON or hour < 0 or hour > 23 or minute < 0 or minute > 59:
        return 0, BROKEN
    at += 16
    if byte(data, at) == COLON:
        if end - at < 4:
            return 0, BROKEN
        second = _pair(data, at + 1)
        if second < 0 or second > 59:
            return 0, BROKEN
        at += 3
        if byte(data, at) == POINT:
            at, micro, state = _fraction(data, at + 1, end)
            if state != DECODED:
                return 0, BROKEN
    offset, state = _zone(data, at, end)
    found = ((day * 24 + hour) * 60 + minute - offset) * 60_000_000 + second * 1_000_000 + micro
    return found, state if least <= found <= most else BROKEN
