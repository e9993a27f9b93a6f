"""Sums of squares of integers of 128 bits, exact in any order.

    total[g] = Σ value[i]²   over the rows i of group g that count, in 320 bits: 2^63 squares of numbers below 2^127 stay below 2^317

Little-endian limbs of 64 bits; values are two's complement. The sums themselves are kernels.reduce.sum_limbs_by_group.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.compiling import INT64, READ_INTS, READ_MASK, READ_WORDS, kernel

Array = np.ndarray[Any, Any]
LOW_32, BITS_32 = np.uint64(0xFFFFFFFF), np.uint64(32)
SQUARE_LIMBS = 5


@njit(forceinline=True)
def _product(a, b):  # type: ignore[no-untyped-def]
    """(high, low) of a * b, uint64."""
    a1, a0, b1, b0 = a >> BITS_32, a & LOW_32, b >> BITS_32, b & LOW_32
    low, cross = a0 * b0, a1 * b0
    cross += low >> BITS_32
    other = a0 * b1 + (cross & LOW_32)
    return a1 * b1 + (cross >> BITS_32) + (other >> BITS_32), other << BITS_32 | low & LOW_32


@njit(forceinline=True)
def _added(a, b, carry):  # type: ignore[no-untyped-def]
    """(a + b + carry modulo 2^64, carry)."""
    part = a + carry
    out = np.uint64(part < carry)
    total = part + b
    return total, out + np.uint64(total < b)


@kernel((READ_WORDS, READ_MASK, READ_INTS, INT64))
def sum_wide_squares_by_group(values: Array, mask: Array, group: Array, groups: int) -> Array:
    """uint64 (groups, 5): the sums of the squares of `values`, uint64 (n, 2), above -2^127; mask and group as in kernels.reduce."""
    out = np.zeros((groups, SQUARE_LIMBS), np.uint64)
    none = np.uint64(0)
    for i in range(len(group)):
        if not mask[i]:
            continue
        low, high = values[i, 0], values[i, 1]
        if high >> np.uint64(63):
            low = ~low + np.uint64(1)
            high = ~high + np.uint64(low == 0)
        first, zeroth = _product(low, low)
        cross_high, cross_low = _product(low, high)
        third, second = _product(high, high)
        top = cross_high >> np.uint64(63)  # twice the cross product has up to 129 bits
        cross_high = cross_high << np.uint64(1) | cross_low >> np.uint64(63)
        first, carry = _added(first, cross_low << np.uint64(1), none)
        second, carry = _added(second, cross_high, carry)
        third += top + carry
        g = group[i]
        out[g, 0], carry = _added(out[g, 0], zeroth, none)
        out[g, 1], carry = _added(out[g, 1], first, carry)
        out[g, 2], carry = _added(out[g, 2], second, carry)
        out[g, 3], carry = _added(out[g, 3], third, carry)
        out[g, 4] += carry
    return out


@kernel((READ_WORDS,))
def wide_buckets_of(values: Array) -> Array:
    """int64 (n,): the bucket of each integer, uint64 (n, 2), as kernels.sketches.buckets_of has it for 64 bits."""
    out = np.empty(len(values), np.int64)
    for i in range(len(values)):
        low, high = values[i, 0], values[i, 1]
        negative = high >> np.uint64(63) != 0
        if negative:
            low = ~low + np.uint64(1)
            high = ~high + np.uint64(low == 0)
        k = 0
        while high or low >> np.uint64(7):
            low = low >> np.uint64(1) | high << np.uint64(63)
            high >>= np.uint64(1)
            k += 1
        bucket = np.int64(64 * k) + np.int64(low)
        out[i] = -bucket if negative else bucket
    return out


__all__ = ["SQUARE_LIMBS", "sum_wide_squares_by_group", "wide_buckets_of"]
