"""Numbers of a JSON text, from their first byte on, as what their column holds. `data` is an address (kernels.bytes).

    value = the decimal literal, exactly: an int, an unscaled decimal        or rounded once: the nearest double, a floored time

BROKEN: it is no number, or its column cannot hold it. The usual one, of up to MANTISSA_DIGITS digits without exponent, is read in one pass.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.base.types import DECIMAL_DIGITS
from pipeline.kernels.bytes import byte
from pipeline.kernels.floats import nearest
from pipeline.kernels.scalars import BROKEN, DECODED, LETTER_E, MINUS, NINE, PLUS, POINT, POWERS, UNSURE, ZERO

MANTISSA_DIGITS = 18  # fit int64
MOST_DIGITS = 19  # fit uint64
MOST_POWER = 100_000  # an exponent beyond it is as good as infinite: no literal has so many digits
INT_LIMIT = np.uint64(2**63)
LITERAL_LIMIT = 4000  # characters of a number in a declared column


@njit(forceinline=True)
def _digits_end(data, at, end):  # type: ignore[no-untyped-def]
    while at < end and ZERO <= byte(data, at) <= NINE:
        at += 1
    return at


@njit(forceinline=True)
def _exponent_end(data, at, end):  # type: ignore[no-untyped-def]
    """(behind it, state) of the exponent at `at`; there need not be one."""
    if at >= end or byte(data, at) | 32 != LETTER_E:
        return at, DECODED
    at += 1
    if at < end and (byte(data, at) == MINUS or byte(data, at) == PLUS):
        at += 1
    stop = _digits_end(data, at, end)
    return stop, DECODED if stop > at else BROKEN


@njit(forceinline=True)
def number(data, at, end):  # type: ignore[no-untyped-def]
    """(end, state, mantissa, its digits, digits behind the point, has an exponent) of a JSON number; the mantissa has the sign.

    A mantissa of more than MANTISSA_DIGITS digits is 0 here: see `exact` and `double`.
    """
    negative = byte(data, at) == MINUS
    if negative:
        at += 1
    mantissa, digits, fraction = np.int64(0), 0, 0
    first = at
    while at < end and ZERO <= byte(data, at) <= NINE:
        if digits < MANTISSA_DIGITS:
            mantissa = mantissa * 10 + np.int64(byte(data, at) - ZERO)
        digits += 1
        at += 1
    if digits == 0 or (digits > 1 and byte(data, first) == ZERO):
        return at, BROKEN, mantissa, digits, fraction, False
    if at < end and byte(data, at) == POINT:
        at += 1
        while at < end and ZERO <= byte(data, at) <= NINE:
            if digits < MANTISSA_DIGITS:
                mantissa = mantissa * 10 + np.int64(byte(data, at) - ZERO)
            digits += 1
            fraction += 1
            at += 1
        if fraction == 0:
            return at, BROKEN, mantissa, digits, fraction, False
    behind, state = _exponent_end(data, at, end)
    if digits > MANTISSA_DIGITS:
        mantissa = np.int64(0)
    return behind, state, -mantissa if negative else mantissa, digits, fraction, behind > at


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
    return _exponent_end(data, at, end)


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


@njit(nogil=True)
def epoch(data: Any, at: Any, end: Any, scale: Any, least: Any, most: Any) -> Any:
    """(microseconds, state) of the number data[at:end] of units of 10^scale microseconds, floored; from `least` to `most`."""
    first, digits, power = significant(data, at, end)
    power += scale
    if end - at > LITERAL_LIMIT or (digits and digits + power > MANTISSA_DIGITS):
        return np.int64(0), BROKEN
    inexact = digits > 0 and power < 0
    for _ in range(power if digits else 0):
        first = first * np.uint64(10)
    if inexact:  # `first` keeps digits + power of its digits; those behind are no zeros, for the last of all is none
        for _ in range(min(min(digits, MOST_DIGITS) - digits - power, MOST_DIGITS + 1)):
            first = first // np.uint64(10)
    found = np.int64(first)
    if byte(data, at) == MINUS:
        found = -found - (1 if inexact else 0)
    return found, DECODED if least <= found <= most else BROKEN
