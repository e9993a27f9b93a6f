"""Sketches as bytes, one canonical form for each state: equal states have equal bytes.

    buckets    (b + 4096 in 2 bytes, n > 0 in 8 bytes) for each bucket b with n values, by b         integers are big-endian
    registers  (r in 2 bytes, rank in 1 byte) for each of at most 1365 registers r that are set, by r; else 4096 bytes of ranks

All of it is integer arithmetic: no logarithm, no power, so nothing that a libm could round in another way.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.bytes import zeros_behind
from pipeline.kernels.compiling import INT64, READ_BYTES, READ_INTS, READ_INTS32, READ_MASK, READ_WORDS, kernel

Array = np.ndarray[Any, Any]

BUCKETS, BUCKET_BIAS, BUCKET_BYTES = 1 << 14, 1 << 12, 10  # |bucket| <= 3712; of wide decimals 7808, given from 4096 on
REGISTER_BITS, REGISTER_BYTES = 12, 3
REGISTERS = 1 << REGISTER_BITS
SPARSE = REGISTERS // REGISTER_BYTES  # so many registers of 3 bytes are shorter than all of 1 byte
MAX_RANK = 64 - REGISTER_BITS + 1
FEW = 8  # so many numbers are sooner sorted by insertion than through a set


@kernel((READ_INTS, INT64))
def rows_by_group(group: Array, groups: int) -> tuple[Array, Array]:
    """(rows int64 (n,), starts int64 (groups + 1,)): the rows of group g, in order, are rows[starts[g]:starts[g + 1]].

    `group` is int64 (n,), each in [0, groups): not checked. All other kernels here take its result.
    """
    starts = np.zeros(groups + 1, np.int64)
    for g in group:
        starts[g + 1] += 1
    starts = np.cumsum(starts)
    at, rows = starts[:-1].copy(), np.empty(len(group), np.int64)
    for i in range(len(group)):
        rows[at[group[i]]] = i
        at[group[i]] += 1
    return rows, starts


@njit(nogil=True)
def room(offsets: Array, rows: Array, starts: Array, most: int) -> int:
    """Number of bytes that the merged states of all groups take at most, each at most `most`."""
    total = 0
    for g in range(len(starts) - 1):
        size = 0
        for i in rows[starts[g] : starts[g + 1]]:
            size += offsets[i + 1] - offsets[i]
        total += min(size, most)
    return total


@njit(inline="always")
def _ascending(touched, count, bits):  # type: ignore[no-untyped-def]
    """The first `count` numbers of `touched`, sorted in place: a few by insertion, more through the set `bits`, left empty."""
    if count <= FEW:
        for k in range(1, count):
            number, at = touched[k], k
            while at > 0 and touched[at - 1] > number:
                touched[at] = touched[at - 1]
                at -= 1
            touched[at] = number
        return touched[:count]
    for k in range(count):
        bits[touched[k] >> 6] |= np.uint64(1) << np.uint64(touched[k] & 63)
    k = 0
    for w in range(len(bits)):
        rest: Any = bits[w]
        while rest:
            touched[k] = 64 * w + zeros_behind(rest)
            rest &= rest - np.uint64(1)
            k += 1
        bits[w] = np.uint64(0)
    return touched[:count]


@kernel((READ_INTS,))
def buckets_of(values: Array) -> Array:
    """int64 (n,): the bucket of each int64: sign(x) (64 k + (|x| >> k)), k >= 0 the least with |x| >> k < 128. Monotone, 0 for 0."""
    out = np.empty(len(values), np.int64)
    for i in range(len(values)):
        v = values[i]
        magnitude = np.uint64(v) if v >= 0 else np.uint64(~v) + np.uint64(1)
        rest, k = magnitude >> np.uint64(7), 0
        while rest:
            rest >>= np.uint64(1)
            k += 1
        bucket = np.int64(64 * k) + np.int64(magnitude >> np.uint64(k))
        out[i] = bucket if v >= 0 else -bucket
    return out


@njit(inline="always")
def _write_buckets(slots, touched, bits, count, data, at):  # type: ignore[no-untyped-def]
    """Write the counts in `slots` from data[at] on and clear them; where the next group begins."""
    for code in _ascending(touched, count, bits):
        data[at], data[at + 1] = code >> 8, code & 255
        for k in range(8):
            data[at + 2 + k] = (slots[code] >> (56 - 8 * k)) & 255
        slots[code] = 0
        at += BUCKET_BYTES
    return at


@njit(inline="always")
def _read_count(data, at):  # type: ignore[no-untyped-def]
    count = np.int64(0)
    for k in range(8):
        count = count << 8 | np.int64(data[at + 2 + k])
    return count


@kernel((READ_INTS, READ_MASK, READ_INTS, READ_INTS))
def lift_buckets(buckets: Array, mask: Array, rows: Array, starts: Array) -> tuple[Array, Array]:
    """(offsets int64 (groups + 1,), bytes): how many of each group's rows, of those that count, are in each bucket.

    `buckets` int64 (n,), as buckets_of gives them, and `mask` bool (n,); a group without a row that counts has an empty state.
    """
    offsets = np.zeros(len(starts), np.int64)
    data = np.empty(BUCKET_BYTES * len(rows), np.uint8)
    slots, touched, bits = np.zeros(BUCKETS, np.int64), np.empty(BUCKETS, np.int64), np.zeros(BUCKETS // 64, np.uint64)
    for g in range(len(starts) - 1):
        count = 0
        for i in rows[starts[g] : starts[g + 1]]:
            if mask[i]:
                code = buckets[i] + BUCKET_BIAS
                if slots[code] == 0:
                    touched[count] = code
                    count += 1
                slots[code] += 1
        offsets[g + 1] = _write_buckets(slots, touched, bits, count, data, offsets[g])
    return offsets, data[: offsets[-1]].copy()


@kernel((READ_INTS32, READ_BYTES, READ_INTS, READ_INTS))
def merge_buckets(before: Array, states: Array, rows: Array, starts: Array) -> tuple[Array, Array]:
    """(offsets int64 (groups + 1,), bytes) of each group's added states; state i is states[before[i]:before[i + 1]].

    `before` is int32 (n + 1,) and `states` uint8. Only states of buckets may be given: those of registers are read as other numbers.
    """
    offsets = np.zeros(len(starts), np.int64)
    data = np.empty(room(before, rows, starts, BUCKETS * BUCKET_BYTES), np.uint8)
    slots, touched, bits = np.zeros(BUCKETS, np.int64), np.empty(BUCKETS, np.int64), np.zeros(BUCKETS // 64, np.uint64)
    for g in range(len(starts) - 1):
        count = 0
        for i in rows[starts[g] : starts[g + 1]]:
            for at in range(before[i], before[i + 1], BUCKET_BYTES):
                code = np.int64(states[at]) << 8 | np.int64(states[at + 1])
                if slots[code] == 0:
                    touched[count] = code
                    count += 1
                slots[code] += _read_count(states, at)
        offsets[g + 1] = _write_buckets(slots, touched, bits, count, data, offsets[g])
    return offsets, data[: offsets[-1]].copy()


@kernel((READ_INTS32, READ_BYTES))
def count_buckets(offsets: Array, data: Array) -> Array:
    """int64 (n,): number of values in the buckets of each row, data[offsets[i]:offsets[i + 1]]; offsets int32 (n + 1,), data uint8."""
    out = np.zeros(len(offsets) - 1, np.int64)
    for i in range(len(out)):
        for at in range(offsets[i], offsets[i + 1], BUCKET_BYTES):
            out[i] += _read_count(data, at)
    return out


@kernel((READ_INTS32, READ_BYTES, READ_INTS))
def bucket_at_rank(offsets: Array, data: Array, ranks: Array) -> Array:
    """int64 (n,): the bucket of each row's value number ranks[i], from 0, in ascending order; 0 for a row without values.

    `ranks` is int64 (n,); a rank at or above the row's count_buckets is the caller's mistake.
    """
    out = np.zeros(len(ranks), np.int64)
    for i in range(len(ranks)):
        seen = np.int64(0)
        for at in range(offsets[i], offsets[i + 1], BUCKET_BYTES):
            seen += _read_count(data, at)
            if seen > ranks[i]:
                out[i] = (np.int64(data[at]) << 8 | np.int64(data[at + 1])) - BUCKET_BIAS
                break
    return out


@njit(inline="always")
def _write_registers(slots, touched, bits, count, data, at):  # type: ignore[no-untyped-def]
    """Write the ranks in `slots` from data[at] on and clear them; where the next group begins."""
    if count > SPARSE:
        data[at : at + REGISTERS] = slots
        slots[:] = 0
        return at + REGISTERS
    for register in _ascending(touched, count, bits):
        data[at], data[at + 1], data[at + 2] = register >> 8, register & 255, slots[register]
        slots[register] = 0
        at += REGISTER_BYTES
    return at


@kernel((READ_WORDS, READ_MASK, READ_INTS, READ_INTS))
def lift_registers(hashes: Array, mask: Array, rows: Array, starts: Array) -> tuple[Array, Array]:
    """(offsets int64 (groups + 1,), bytes): each register's greatest rank among those of each group's rows that count.

    By the low 64 bits of hashes, uint64 (n, 2): register = the low 12; rank = 1 + the zeros that the other 52 end in, 53 when all are 0.
    """
    offsets = np.zeros(len(starts), np.int64)
    size = 0
    for g in range(len(starts) - 1):
        size += min(REGISTER_BYTES * (starts[g + 1] - starts[g]), REGISTERS)
    data = np.empty(size, np.uint8)
    slots, touched, bits = (
        np.zeros(REGISTERS, np.uint8),
        np.empty(REGISTERS, np.int64),
        np.zeros(REGISTERS // 64, np.uint64),
    )
    for g in range(len(starts) - 1):
        count = 0
        for i in rows[starts[g] : starts[g + 1]]:
            if mask[i]:
                rest, rank = hashes[i, 0] >> np.uint64(REGISTER_BITS), 1
                while rank < MAX_RANK and not rest & np.uint64(1):
                    rest >>= np.uint64(1)
                    rank += 1
                register = np.int64(hashes[i, 0] & np.uint64(REGISTERS - 1))
                if slots[register] == 0:
                    touched[count] = register
                    count += 1
                slots[register] = max(slots[register], np.uint8(rank))
        offsets[g + 1] = _write_registers(slots, touched, bits, count, data, offsets[g])
    return offsets, data[: offsets[-1]].copy()


@kernel((READ_INTS32, READ_BYTES, READ_INTS, READ_INTS))
def merge_registers(before: Array, states: Array, rows: Array, starts: Array) -> tuple[Array, Array]:
    """(offsets int64 (groups + 1,), bytes) of the greatest ranks among each group's states; state i is states[before[i]:before[i + 1]].

    `before` is int32 (n + 1,) and `states` uint8. Only states of registers may be given: those of buckets are read as other numbers.
    """
    offsets = np.zeros(len(starts), np.int64)
    data = np.empty(room(before, rows, starts, REGISTERS), np.uint8)
    slots, touched, bits = (
        np.zeros(REGISTERS, np.uint8),
        np.empty(REGISTERS, np.int64),
        np.zeros(REGISTERS // 64, np.uint64),
    )
    for g in range(len(starts) - 1):
        count = 0
        for i in rows[starts[g] : starts[g + 1]]:
            dense = before[i + 1] - before[i] == REGISTERS
            for at in range(before[i], before[i + 1], 1 if dense else REGISTER_BYTES):
                register = at - before[i] if dense else np.int64(states[at]) << 8 | np.int64(states[at + 1])
                rank = states[at] if dense else states[at + 2]
                if slots[register] == 0 and rank > 0:
                    touched[count] = register
                    count += 1
                slots[register] = max(slots[register], rank)
        offsets[g + 1] = _write_registers(slots, touched, bits, count, data, offsets[g])
    return offsets, data[: offsets[-1]].copy()


@kernel((READ_INTS32, READ_BYTES))
def count_ranks(offsets: Array, data: Array) -> Array:
    """int64 (n, 54): number of the 4096 registers of each row, data[offsets[i]:offsets[i + 1]], at each rank; column 0: those not set."""
    out = np.zeros((len(offsets) - 1, MAX_RANK + 1), np.int64)
    for i in range(len(out)):
        start, end = offsets[i], offsets[i + 1]
        dense = end - start == REGISTERS
        for at in range(start if dense else start + REGISTER_BYTES - 1, end, 1 if dense else REGISTER_BYTES):
            out[i, data[at]] += 1
        if not dense:
            out[i, 0] = REGISTERS - (end - start) // REGISTER_BYTES
    return out
