"""Reductions by group, exact in any order.

    total[g] = Σ value[i], best[g] = argmin (rank[i], time[i], partition[i], offset[i])   over the rows i of group g that count

Wide integers are little-endian two's complement limbs of 64 bits; adding them is associative and commutative, so neither the order
of rows nor the cut into batches can show.

Arguments of all: one row each in `mask` (bool, True where the row counts), `group` (int64, in [0, groups), not checked: another number
writes into memory that is not the result's) and the values, contiguous. The usual mistake: to leave nulls counted; they must be masked.
"""

from typing import Any

import numpy as np
from numba import types

from pipeline.kernels.compiling import INT64, READ_INTS, READ_MASK, READ_WORDS, kernel

Array = np.ndarray[Any, Any]


@kernel((READ_MASK, READ_INTS, INT64))
def count_by_group(mask: Array, group: Array, groups: int) -> Array:
    """int64 (groups,): number of rows with mask True in each group."""
    out = np.zeros(groups, np.int64)
    for i in range(len(group)):
        if mask[i]:
            out[group[i]] += 1
    return out


@kernel((READ_INTS, READ_MASK, READ_INTS, INT64))
def sum_ints_by_group(values: Array, mask: Array, group: Array, groups: int) -> Array:
    """uint64 (groups, 2), low limb first: the 128-bit sums, two's complement, of int64 values (n,); exact for any n."""
    out = np.zeros((groups, 2), np.uint64)
    for i in range(len(group)):
        if mask[i]:
            g = group[i]
            low = np.uint64(values[i])
            high = np.uint64(values[i] >> np.int64(63))
            total = out[g, 0] + low
            out[g, 1] += high + np.uint64(total < low)
            out[g, 0] = total
    return out


@kernel((READ_WORDS, READ_MASK, READ_INTS, INT64))
def sum_limbs_by_group(values: Array, mask: Array, group: Array, groups: int) -> Array:
    """uint64 (groups, k): the sums of the wide integers `values`, uint64 (n, k), modulo 2**(64 k).

    The caller knows that no sum leaves 64 k bits: nothing tells that one did.
    """
    width = values.shape[1]
    out = np.zeros((groups, width), np.uint64)
    for i in range(len(group)):
        if mask[i]:
            g = group[i]
            carry = np.uint64(0)
            for k in range(width):
                part = out[g, k] + carry
                carry = np.uint64(part < carry)
                total = part + values[i, k]
                carry += np.uint64(total < part)
                out[g, k] = total
    return out


@kernel((READ_INTS, READ_MASK, READ_INTS, INT64))
def sum_squares_by_group(values: Array, mask: Array, group: Array, groups: int) -> Array:
    """uint64 (groups, 4): the 256-bit sums of the squares of int64 values (2**63 squares of 2**126 stay below 2**190)."""
    out = np.zeros((groups, 4), np.uint64)
    low32 = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    for i in range(len(group)):
        if not mask[i]:
            continue
        v = values[i]
        a = np.uint64(v) if v >= 0 else np.uint64(~v) + np.uint64(1)
        hi, lo = a >> shift, a & low32
        cross = hi * lo
        low = lo * lo
        first = low + ((cross & low32) << np.uint64(33))
        carry = np.uint64(first < low)
        second = hi * hi + (cross >> np.uint64(31)) + carry
        g = group[i]
        total = out[g, 0] + first
        carry = np.uint64(total < first)
        out[g, 0] = total
        part = second + carry  # second <= 2**62, no overflow
        total = out[g, 1] + part
        carry = np.uint64(total < part)
        out[g, 1] = total
        total = out[g, 2] + carry
        out[g, 3] += np.uint64(total < carry)
        out[g, 2] = total
    return out


@kernel((READ_INTS, READ_INTS, READ_INTS, READ_INTS, READ_MASK, READ_INTS, INT64, types.boolean))
def best_by_group(
    rank: Array, time: Array, partition: Array, offset: Array, mask: Array, group: Array, groups: int, last: bool
) -> Array:
    """int64 (groups,): the row least by (rank, time, partition, offset), all int64 (n,), of each group, -1 where none counts.

    For the greatest value pass ranks that fall as it rises. Of rows that are equal in all four, those of one record that was exploded,
    the first wins, or the last.
    """
    out = np.full(groups, -1, np.int64)
    for i in range(len(group)):
        if not mask[i]:
            continue
        g = group[i]
        j = out[g]
        if (
            j < 0
            or rank[i] < rank[j]
            or (
                rank[i] == rank[j]
                and (
                    time[i] < time[j]
                    or (
                        time[i] == time[j]
                        and (
                            partition[i] < partition[j]
                            or (
                                partition[i] == partition[j]
                                and (offset[i] < offset[j] or (last and offset[i] == offset[j]))
                            )
                        )
                    )
                )
            )
        ):
            out[g] = i
    return out
