"""The double nearest to w * 10^q, ties to even, for every w below 2^64: what IEEE 754 asks of a decimal literal.

    nearest(w, q) = float(f"{w}e{q}")        infinity where that is out of range

Eisel and Lemire's algorithm (Lemire 2021, "Number parsing at a gigabyte per second", with Mushtak and Lemire's 2023 proof that 128 bits of
5^q decide every 64-bit w): one or two 64 x 64 -> 128 bit products, no division and no loop.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

LEAST_POWER, MOST_POWER = -342, 308  # below: 0 for every w < 2^64; above: infinity for every w > 0
MANTISSA_BITS, EXPONENT_BIAS = 52, 1023
ONE, ALL = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)


def _power_of_five(q: int) -> int:
    """The 128 leading bits of 5^q: rounded down for q >= 0, and up below (so that a product never falls short)."""
    power: int = 5 ** abs(q)
    if q >= 0:
        return power << 128 - power.bit_length() if power.bit_length() <= 128 else power >> power.bit_length() - 128
    bits = (power - 1).bit_length()
    found: int = (1 << (bits + 127 if q >= -27 else 2 * bits + 128)) // power + 1
    return found >> max(0, found.bit_length() - 128)


def _table() -> np.ndarray[Any, Any]:
    powers = [_power_of_five(q) for q in range(LEAST_POWER, MOST_POWER + 1)]
    return np.array([half for p in powers for half in (p >> 64, p & (1 << 64) - 1)], np.uint64)


POWERS_OF_FIVE = _table()
_intrinsic: Any = intrinsic  # what mypy makes of it takes the context for an argument


@_intrinsic
def _high(context, one, other):  # type: ignore[no-untyped-def]
    """The upper 64 bits of a product of two uint64."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), code


@_intrinsic
def _leading_zeros(context, value):  # type: ignore[no-untyped-def]
    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), code


@_intrinsic
def _as_double(context, bits):  # type: ignore[no-untyped-def]
    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.uint64), code


@njit(nogil=True)
def nearest(w: Any, q: Any) -> Any:
    """The double nearest to w * 10^q; w uint64, q int64."""
    if w == 0 or q < LEAST_POWER:
        return 0.0
    if q > MOST_POWER:
        return np.inf
    zeros: Any = _leading_zeros(w)
    w = w << zeros
    place = 2 * (q - LEAST_POWER)
    high: Any = _high(w, POWERS_OF_FIVE[place])
    low: Any = w * POWERS_OF_FIVE[place]
    if high & np.uint64(0x1FF) == np.uint64(0x1FF):  # the bits that decide may still change
        more: Any = _high(w, POWERS_OF_FIVE[place + 1])
        low = low + more
        if low < more:
            high = high + ONE
    upper = high >> np.uint64(63)
    shift = upper + np.uint64(64 - MANTISSA_BITS - 3)
    mantissa = high >> shift
    exponent = ((217706 * q) >> 16) + 63 + np.int64(upper) - np.int64(zeros) + EXPONENT_BIAS
    if exponent <= 0:  # subnormal
        if 1 - exponent >= 64:
            return 0.0
        mantissa = mantissa >> np.uint64(1 - exponent)
        mantissa = (mantissa + (mantissa & ONE)) >> ONE
        return _as_double(mantissa)
    if low <= ONE and -4 <= q <= 23 and mantissa & np.uint64(3) == ONE and mantissa << shift == high:
        mantissa = mantissa & (ALL - ONE)  # exactly half way: to even
    mantissa = (mantissa + (mantissa & ONE)) >> ONE
    if mantissa >= np.uint64(2 << MANTISSA_BITS):
        mantissa = np.uint64(1 << MANTISSA_BITS)
        exponent += 1
    if exponent >= 2047:
        return np.inf
    return _as_double(mantissa & np.uint64((1 << MANTISSA_BITS) - 1) | np.uint64(exponent) << np.uint64(MANTISSA_BITS))
