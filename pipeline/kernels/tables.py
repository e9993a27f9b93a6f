"""Open-addressing tables from 128-bit hashes to int64: linear probing over powers of two, at most three quarters full.

    slot(h) = the first slot from home(h) on that holds h or is free        home(h) = the first log2(capacity) bits of h.low

So a table lies nearly in the order of its hashes: what is copied out of it is sorted in one pass, and put back from front to back.
A free slot holds the hash (0, 0); a row whose hash is (0, 0) is looked up as (0, 1).

Arguments of all: a table is `keys`, uint64 (capacity, 2), and `values`, int64 (capacity,), capacity a power of two; `hashes` is uint64
(n, 2), low half first. The usual mistake: to fill a table to its last slot; the search for a hash that is not in it then never ends.
"""

from typing import Any

import numpy as np
from numba import njit

from pipeline.kernels.bytes import prefetch
from pipeline.kernels.compiling import INT64, INTS, READ_INTS, READ_WORDS, WORDS, kernel

Array = np.ndarray[Any, Any]
ZERO, ONE = np.uint64(0), np.uint64(1)
GONE = np.int64(-1)  # the value of an entry that was undone; no time is below 0
AHEAD = 16  # rows: about as many loads as a core has under way


@njit(inline="always")
def _shift(keys):  # type: ignore[no-untyped-def]
    """Shift that leaves of 64 bits as many as number the slots."""
    shift, slots = np.uint64(64), len(keys)
    while slots > 1:
        shift, slots = shift - ONE, slots >> 1
    return shift


@njit(inline="always")
def _slot(keys, shift, low, high):  # type: ignore[no-untyped-def]
    mask = np.uint64(len(keys) - 1)
    at = low >> shift
    while not (keys[at, 0] == low and keys[at, 1] == high) and not (keys[at, 0] == ZERO and keys[at, 1] == ZERO):
        at = (at + ONE) & mask
    return at


@njit(inline="always")
def _split(hashes, i):  # type: ignore[no-untyped-def]
    low, high = hashes[i, 0], hashes[i, 1]
    if low == ZERO and high == ZERO:
        high = ONE
    return low, high


@njit(inline="always")
def _announce(keys, values, shift, hashes, i):  # type: ignore[no-untyped-def]
    """Have the slot of the row that comes AHEAD rows later fetched meanwhile: a large table lies in memory, not in the cache."""
    if i + AHEAD < len(hashes):
        at = np.int64(hashes[i + AHEAD, 0] >> shift)
        prefetch(keys, 16 * at)  # type: ignore[call-arg]
        prefetch(values, 8 * at)


@kernel((WORDS, INTS, READ_WORDS))
def group_rows(keys: Array, values: Array, hashes: Array) -> tuple[Array, Array]:
    """Number rows by hash: (group int64 (n,), first row of each group int64). `keys`/`values` must be empty, capacity > n."""
    n = len(hashes)
    group = np.empty(n, np.int64)
    first = np.empty(n, np.int64)
    groups, shift = 0, _shift(keys)
    for i in range(n):
        low, high = _split(hashes, i)
        at = _slot(keys, shift, low, high)
        if keys[at, 0] == ZERO and keys[at, 1] == ZERO:
            keys[at, 0], keys[at, 1] = low, high
            values[at] = groups
            first[groups] = i
            groups += 1
        group[i] = values[at]
    return group, first[:groups]


@kernel((READ_INTS, INT64))
def number_codes(codes: Array, size: int) -> tuple[Array, Array]:
    """(group int64 (n,), first row of each group int64): codes int64 (n,) in [0, size), numbered in the order of their first rows."""
    n = len(codes)
    known = np.full(size, -1, np.int64)
    group = np.empty(n, np.int64)
    first = np.empty(min(n, size), np.int64)
    groups = 0
    for i in range(n):
        code = codes[i]
        if known[code] < 0:
            known[code] = groups
            first[groups] = i
            groups += 1
        group[i] = known[code]
    return group, first[:groups]


@kernel((READ_WORDS, READ_INTS, READ_WORDS))
def find(keys: Array, values: Array, hashes: Array) -> Array:
    """int64 (n,): the value of each hash, -1 where it is absent; a value of -1 cannot be told from that."""
    out = np.empty(len(hashes), np.int64)
    shift = _shift(keys)
    for i in range(len(hashes)):
        low, high = _split(hashes, i)
        at = _slot(keys, shift, low, high)
        out[i] = -1 if keys[at, 0] == ZERO and keys[at, 1] == ZERO else values[at]
    return out


@kernel((WORDS, INTS, READ_WORDS, READ_INTS))
def put(keys: Array, values: Array, hashes: Array, new: Array) -> int:
    """Set the value of each hash, `new` int64 (n,), the last of equal ones; how many were absent. Keep capacity > filled + n."""
    added = 0
    shift, key_memory, value_memory = _shift(keys), keys.ctypes.data, values.ctypes.data
    for i in range(len(hashes)):
        _announce(key_memory, value_memory, shift, hashes, i)
        low, high = _split(hashes, i)
        at = _slot(keys, shift, low, high)
        if keys[at, 0] == ZERO and keys[at, 1] == ZERO:
            keys[at, 0], keys[at, 1] = low, high
            added += 1
        values[at] = new[i]
    return added


@kernel((WORDS, INTS, READ_WORDS, READ_INTS, INT64, INTS))
def mark_duplicates(
    keys: Array, values: Array, hashes: Array, times: Array, horizon: int, before: Array
) -> tuple[Array, int]:
    """In row order: duplicate[i] = an earlier row or entry has this hash and times[i] - its latest time <= horizon.

    Every row then becomes its hash's latest. Returns (bool (n,), entries added). times int64, >= 0, not decreasing. An entry with the
    value GONE is as good as none. before[i], when there are rows of it, becomes what the hash's value was, GONE if there was none.
    """
    duplicate = np.zeros(len(hashes), np.bool_)
    added = 0
    shift, key_memory, value_memory = _shift(keys), keys.ctypes.data, values.ctypes.data
    for i in range(len(hashes)):
        _announce(key_memory, value_memory, shift, hashes, i)
        low, high = _split(hashes, i)
        at = _slot(keys, shift, low, high)
        seen = values[at]
        if keys[at, 0] == ZERO and keys[at, 1] == ZERO:
            keys[at, 0], keys[at, 1] = low, high
            seen = GONE
            added += 1
        duplicate[i] = seen != GONE and times[i] - seen <= horizon
        values[at] = times[i]
        if len(before):
            before[i] = seen
    return duplicate, added


@kernel((WORDS, INTS, READ_WORDS, READ_INTS))
def restore(keys: Array, values: Array, hashes: Array, before: Array) -> None:
    """Undo one mark_duplicates: the last row first, each hash's value is what it was before; its slot stays its own."""
    shift = _shift(keys)
    for i in range(len(hashes) - 1, -1, -1):
        low, high = _split(hashes, i)
        values[_slot(keys, shift, low, high)] = before[i]


@kernel((READ_WORDS, READ_INTS, INT64, WORDS, INTS))
def move(keys: Array, values: Array, least: int, to_keys: Array, to_values: Array) -> int:
    """Put the entries with value >= least into an empty table; how many they are. The caller keeps its capacity > n."""
    moved, shift = 0, _shift(to_keys)
    for at in range(len(keys)):
        if not (keys[at, 0] == ZERO and keys[at, 1] == ZERO) and values[at] >= least:
            to = _slot(to_keys, shift, keys[at, 0], keys[at, 1])
            to_keys[to, 0], to_keys[to, 1], to_values[to] = keys[at, 0], keys[at, 1], values[at]
            moved += 1
    return moved


@kernel((WORDS, INTS, INT64, INT64))
def spread(keys: Array, values: Array, old: int, least: int) -> int:
    """Make a table of the slots [0, old) one of all slots, in place; entries with value < least are dropped. How many are left.

    From the last to the first, so that an entry moves to where all has moved away: its home is then at least as far as it stands now.
    Those few for which that is not so, since they stood far behind their homes, come last.
    """
    shift, old_shift, capacity = _shift(keys), _shift(keys[:old]), len(keys)
    aside, aside_values, waiting = np.empty((64, 2), np.uint64), np.empty(64, np.int64), 0
    left = 0
    for at in range(old - 1, -1, -1):
        low, high, value = keys[at, 0], keys[at, 1], values[at]
        if low == ZERO and high == ZERO:
            continue
        keys[at, 0], keys[at, 1] = ZERO, ZERO
        if value < least:
            continue
        left += 1
        to = np.int64(low >> shift)
        fits = to >= at and np.int64(low >> old_shift) <= at
        while fits and to < capacity and not (keys[to, 0] == ZERO and keys[to, 1] == ZERO):
            to += 1
        if fits and to < capacity:
            keys[to, 0], keys[to, 1], values[to] = low, high, value
            continue
        if waiting == len(aside):
            aside, aside_values = np.concatenate((aside, aside)), np.concatenate((aside_values, aside_values))
        aside[waiting, 0], aside[waiting, 1], aside_values[waiting] = low, high, value
        waiting += 1
    put(keys, values, aside[:waiting], aside_values[:waiting])
    return left


@kernel((READ_WORDS, READ_INTS, INT64))
def count_since(keys: Array, values: Array, least: int) -> int:
    """Number of entries that have value >= least."""
    count = 0
    for at in range(len(keys)):
        if not (keys[at, 0] == ZERO and keys[at, 1] == ZERO) and values[at] >= least:
            count += 1
    return count


@kernel((READ_WORDS, READ_INTS, INT64))
def entries_since(keys: Array, values: Array, least: int) -> tuple[Array, Array]:
    """The hashes and values of all entries with value >= least, nearly in the order of their hashes: by their homes."""
    count = count_since(keys, values, least)
    hashes = np.empty((count, 2), np.uint64)
    kept = np.empty(count, np.int64)
    shift = _shift(keys)
    count = 0
    for wrapped in (False, True):  # those that found no room at the table's end stand at its start, and come last
        for at in range(len(keys)):
            if keys[at, 0] == ZERO and keys[at, 1] == ZERO:
                if wrapped:
                    break
            elif values[at] >= least and (np.int64(keys[at, 0] >> shift) > at) == wrapped:
                hashes[count, 0], hashes[count, 1] = keys[at, 0], keys[at, 1]
                kept[count] = values[at]
                count += 1
    return hashes, kept


@kernel((WORDS, INTS))
def sort_entries(hashes: Array, values: Array) -> None:
    """Sort by hash, in place, by insertion: one pass over what entries_since gives, and quadratic for what is in no order."""
    for i in range(1, len(hashes)):
        low, high, value = hashes[i, 0], hashes[i, 1], values[i]
        to = i
        while to > 0 and (hashes[to - 1, 0] > low or (hashes[to - 1, 0] == low and hashes[to - 1, 1] > high)):
            hashes[to, 0], hashes[to, 1], values[to] = hashes[to - 1, 0], hashes[to - 1, 1], values[to - 1]
            to -= 1
        hashes[to, 0], hashes[to, 1], values[to] = low, high, value
