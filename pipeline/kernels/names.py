"""Names of a JSON object's fields: which declared one each is, and whether it was given before.

    note(...) = UNSURE  <=  the object had the name before        (equal hashes, so hardly ever without a reason)

`held` is a scratch of int64 that goes from field to field: how many names and objects the event had so far, where the texts that were
written without escapes end, a stack for `skip`, and one of the declared objects that are open. All arrays are addresses (kernels.bytes).
"""

import numpy as np
from numba import njit

from pipeline.kernels.bytes import byte, int_at, set_int, word
from pipeline.kernels.scalars import DECODED, UNSURE, unescape

UNKNOWN = -1
DEPTH_LIMIT = 64
NAMES, OBJECTS, TAIL, STACK = 0, 1, 2, 8  # places in `held`
# And there four for each declared object or array that is open: node, place, likely edge, number
AROUND = STACK + DEPTH_LIMIT
HELD = AROUND + 4 * DEPTH_LIMIT
SLOTS = 1024  # of the table of names: (event, hash)
MOST_NAMES = 700  # of one event that are held apart
ODD, SALT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


@njit(forceinline=True)
def _is_name(data, start, size, names, first):  # type: ignore[no-untyped-def]
    for k in range(size):  # noqa: SIM110 -- a generator is no loop to the compiler
        if byte(data, start + k) != byte(names, first + k):
            return False
    return True


@njit(forceinline=True)
def edge_of(data, start, end, names, starts, low, high, likely):  # type: ignore[no-untyped-def]
    """The declared one of the names [low, high) that stands at [start, end), UNKNOWN when none does; `likely` is tried first."""
    size = end - start
    edge = likely
    for _ in range(high - low):
        first = int_at(starts, edge)
        if int_at(starts, edge + 1) - first == size and _is_name(data, start, size, names, first):
            return edge
        edge = edge + 1 if edge + 1 < high else low
    return np.int64(UNKNOWN)


@njit(forceinline=True)
def _hash(data, at, stop, end):  # type: ignore[no-untyped-def]
    """64 bits of the bytes [at, stop); up to `end` there is memory of ours."""
    found = np.uint64(stop - at) * SALT
    while at + 8 <= stop:
        found = (found ^ word(data, at)) * ODD
        found ^= found >> np.uint64(32)
        at += 8
    if at < stop:
        rest = np.uint64(0)
        if at + 8 <= end:
            rest = word(data, at) & ((np.uint64(1) << np.uint64(8 * (stop - at))) - np.uint64(1))
        else:
            for k in range(stop - at):
                rest |= np.uint64(byte(data, at + k)) << np.uint64(8 * k)
        found = (found ^ rest) * ODD
        found ^= found >> np.uint64(32)
    return found


@njit(nogil=True)
def _hash_unescaped(data, start, stop, texts, held):  # type: ignore[no-untyped-def]
    tail = int_at(held, TAIL)
    end, _ = unescape(data, start, stop, texts, tail)
    return _hash(texts, tail, end, end)


@njit(forceinline=True)
def note(data, start, stop, end, escaped, owner, event, table, texts, held):  # type: ignore[no-untyped-def]
    """State of the name [start, stop) of the object `owner` of the event: UNSURE when it may have been given before."""
    found = _hash_unescaped(data, start, stop, texts, held) if escaped else _hash(data, start, stop, end)
    mark = np.int64(found ^ np.uint64(owner) * SALT)
    known = int_at(held, NAMES) + 1
    if known > MOST_NAMES:
        return UNSURE
    set_int(held, NAMES, known)
    slot = np.int64(found >> np.uint64(7)) & (SLOTS - 1)
    while int_at(table, 2 * slot) == event:
        if int_at(table, 2 * slot + 1) == mark:
            return UNSURE
        slot = slot + 1 & SLOTS - 1
    set_int(table, 2 * slot, event)
    set_int(table, 2 * slot + 1, mark)
    return DECODED
