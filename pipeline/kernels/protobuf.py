"""Protobuf messages to columns: an interpreter of the fields that a record's columns are bound to, for what can be told for certain.

    state[i] = DECODED  =>  every declared column of message i has its value, or is null
    state[i] = BROKEN   =>  the record-by-record parser rejects message i
    state[i] = UNSURE   :   ask it (a value that is given twice, two members of a oneof)

A message is a node, whose entries are its declared fields by their tags; what is no entry is skipped by its wire type. A repeated field is
a node too, whose entries are the declared places. Each entry is a row of WIDTH int64: see the places TAG to ONEOF.
"""

from typing import Any

import numpy as np
from numba import njit, types

from pipeline.kernels.bytes import byte, int_at, set_byte, set_int
from pipeline.kernels.compiling import INT64, INTS, READ_BYTES, READ_INTS, READ_INTS32, READ_MASK, kernel
from pipeline.kernels.protobuf_values import (
    IGNORED,
    MESSAGE,
    MORE,
    ONEOF,
    PACKED,
    REPEATED,
    SINT64,
    SOURCE,
    TARGET,
    UNKNOWN,
    WIDTH,
    leaf,
    signed,
)
from pipeline.kernels.scalars import BROKEN, DECODED, UNSURE
from pipeline.kernels.wire import DEPTH_LIMIT, NOWHERE, size, skip, tag, varint

Array = np.ndarray[Any, Any]

BYTES = types.Array(types.uint8, 1, "C")
REALS = types.Array(types.float64, 1, "C")
STATES = types.Array(types.int8, 1, "C")
STACK = 4 * (DEPTH_LIMIT + 2)
KEY_BYTES = 7  # of message indexes, that fit one int64 with their number


@njit(forceinline=True)
def _entry(table, low, high, likely, wanted):  # type: ignore[no-untyped-def]
    """The entry of [low, high) whose TAG is `wanted`, UNKNOWN when none is; fields mostly come in the order of their numbers."""
    if likely < high:
        found = int_at(table, likely * WIDTH)
        if found == wanted:
            return likely
        if wanted < found and (likely == low or wanted > int_at(table, (likely - 1) * WIDTH)):
            return UNKNOWN
    while low < high:
        middle = (low + high) >> 1
        found = int_at(table, middle * WIDTH)
        if found == wanted:
            return middle
        if found < wanted:
            low = middle + 1
        else:
            high = middle
    return UNKNOWN


@njit(nogil=True)
def _defaults(node, i, n, first, defaults, seen, values, ends, nulls):  # type: ignore[no-untyped-def]
    """Write what message i's node has where nothing is written, once in a record: rows (column, value, end)."""
    if int_at(seen, node) == i:
        return
    set_int(seen, node, i)
    for k in range(int_at(first, node), int_at(first, node + 1)):
        cell = int_at(defaults, 3 * k) * n + i
        set_int(values, cell, int_at(defaults, 3 * k + 1))
        set_int(ends, cell, int_at(defaults, 3 * k + 2))
        set_byte(nulls, cell, 0)


@njit(forceinline=True)
def _place(counts, node, i):  # type: ignore[no-untyped-def]
    """The place of the next element of message i's repeated field `node`; counts: rows (message, next place)."""
    at = 2 * node
    place = int_at(counts, at + 1) if int_at(counts, at) == i else np.int64(0)
    set_int(counts, at, i)
    set_int(counts, at + 1, place + 1)
    return place


@njit(forceinline=True)
def _element(table, first, node, counts, i):  # type: ignore[no-untyped-def]
    """The entry of the next element of message i's repeated field `node`; UNKNOWN when nobody asks for it."""
    low = int_at(first, node)
    return _entry(table, low, int_at(first, node + 1), low, _place(counts, node, i))


@njit(forceinline=True)
def _push(stack, level, end, likely, low, high):  # type: ignore[no-untyped-def]
    """Keep where reading goes on, behind a message that is inside of one at `level`."""
    set_int(stack, 4 * level, end)
    set_int(stack, 4 * level + 1, likely)
    set_int(stack, 4 * level + 2, low)
    set_int(stack, 4 * level + 3, high)


@njit(forceinline=True)
def _pop(stack, level):  # type: ignore[no-untyped-def]
    """(end, likely, low, high), as they were kept."""
    at = 4 * level
    return int_at(stack, at), int_at(stack, at + 1), int_at(stack, at + 2), int_at(stack, at + 3)


@njit(nogil=True)
def _packed(  # type: ignore[no-untyped-def]
    data, at, end, row, i, n, table, first, counts, depth, stack, enums, least, most, values, ends, reals, nulls, breaches
):  # fmt: skip
    """(at, all are values of their columns) of the elements of a packed field."""
    at, stop = size(data, at, end)
    if at < 0:
        return NOWHERE, False
    node, wire, good = int_at(row, TARGET), int_at(row, MORE), True
    while at < stop:
        element = _element(table, first, node, counts, i)
        if element == UNKNOWN:
            at = skip(data, at, stop, wire, depth, stack)
        else:
            own = table + element * WIDTH * 8
            at, fits = leaf(
                data, at, stop, own, int_at(own, TARGET) * n + i, depth, stack, enums, least, most,
                values, ends, reals, nulls, breaches,
            )  # fmt: skip
            good = good and fits
        if at < 0:
            return NOWHERE, False
    return stop, good


@njit(forceinline=True)
def _other_member(row, entry, i, oneofs):  # type: ignore[no-untyped-def]
    """True when message i had another member of this entry's oneof before; oneofs: rows (message, entry)."""
    at = 2 * (int_at(row, ONEOF) - 1)
    if at < 0:
        return False
    other = int_at(oneofs, at) == i and int_at(oneofs, at + 1) != entry
    set_int(oneofs, at, i)
    set_int(oneofs, at + 1, entry)
    return other


@njit(nogil=True)
def _message(  # type: ignore[no-untyped-def]
    data, at, end, i, n, table, first, firsts, defaults, enums, least, most, entered, counts, oneofs, given, stack,
    values, ends, reals, nulls, breaches,
):  # fmt: skip
    """The state of message i of n, whose bytes are data[at:end]; arrays are addresses, `given[e]` is the last message that had entry e."""
    node, level, unsure, good = np.int64(0), np.int64(1), False, True
    groups = stack + 8 * STACK
    low, high = int_at(first, node), int_at(first, node + 1)
    likely = low
    _defaults(node, i, n, firsts, defaults, entered, values, ends, nulls)
    while True:
        if at == end:
            level -= 1
            if level == 0:
                return UNSURE if unsure else DECODED if good else BROKEN
            end, likely, low, high = _pop(stack, level)
            continue
        at, wanted = tag(data, at, end)
        if at < 0:
            return BROKEN
        entry = _entry(table, low, high, likely, wanted)
        row = table + entry * WIDTH * 8
        source = np.int64(IGNORED)
        if entry != UNKNOWN:
            likely = entry + 1
            source = int_at(row, SOURCE)
            unsure |= _other_member(row, entry, i, oneofs)
        if source == REPEATED:
            entry = _element(table, first, int_at(row, TARGET), counts, i)
            row = table + entry * WIDTH * 8
            source = int_at(row, SOURCE) if entry != UNKNOWN else np.int64(IGNORED)
        if source < MESSAGE:
            unsure |= int_at(given, entry) == i
            set_int(given, entry, i)
            at, fits = leaf(
                data, at, end, row, int_at(row, TARGET) * n + i, level, groups, enums, least, most,
                values, ends, reals, nulls, breaches,
            )  # fmt: skip
            good = good and fits
        elif source == MESSAGE:
            at, stop = size(data, at, end)
            if at < 0:
                return BROKEN
            _push(stack, level, end, likely, low, high)
            node, end, level = int_at(row, TARGET), stop, level + 1
            low, high = int_at(first, node), int_at(first, node + 1)
            likely = low
            _defaults(node, i, n, firsts, defaults, entered, values, ends, nulls)
        elif source == PACKED:
            at, fits = _packed(
                data, at, end, row, i, n, table, first, counts, level, groups, enums, least, most,
                values, ends, reals, nulls, breaches,
            )  # fmt: skip
            good = good and fits
        else:
            at = skip(data, at, end, wanted, level, groups)
        if at < 0:
            return BROKEN


@kernel(
    (READ_BYTES, INTS, INTS, INTS, *[READ_INTS] * 6, INT64, INT64, STATES, *[INTS] * 2, REALS, *[BYTES] * 2)
)  # fmt: skip
def parse_messages(
    data: Array,
    begins: Array,
    stops: Array,
    rows: Array,
    table: Array,
    first: Array,
    firsts: Array,
    defaults: Array,
    enums: Array,
    sizes: Array,
    least: int,
    most: int,
    state: Array,
    values: Array,
    ends: Array,
    reals: Array,
    nulls: Array,
    breaches: Array,
) -> None:
    """Parse the messages data[begins[i]:stops[i]] for i in `rows`; row i of the outputs is theirs.

    Node k has the entries [first[k], first[k + 1]) of `table`, by TAG, and the defaults [firsts[k], firsts[k + 1]) of `defaults`, rows
    (column, value, end); node 0 is the message itself. `enums`: rows (number, begin, end). `sizes`: how many nodes, oneofs and entries.
    Outputs of n messages: state int8 (n,); values, ends int64 (columns * n): the value, or a text's first byte and end; reals float64
    for floats; nulls (1 before), breaches uint8. Values of a row that is not DECODED mean nothing.
    """
    n = len(begins)
    entered, counts = np.full(sizes[0], -1, np.int64), np.full(2 * sizes[0], -1, np.int64)
    oneofs, given = np.full(2 * sizes[1], -1, np.int64), np.full(sizes[2], -1, np.int64)
    stack = np.zeros(STACK + DEPTH_LIMIT + 1, np.int64)  # of messages, and behind them of groups
    for k in range(len(rows)):
        i = rows[k]
        state[i] = _message(
            data.ctypes.data, begins[i], stops[i], i, n, table.ctypes.data, first.ctypes.data, firsts.ctypes.data,
            defaults.ctypes.data, enums.ctypes.data, least, most, entered.ctypes.data, counts.ctypes.data, oneofs.ctypes.data,
            given.ctypes.data, stack.ctypes.data, values.ctypes.data, ends.ctypes.data, reals.ctypes.data, nulls.ctypes.data,
            breaches.ctypes.data,
        )  # fmt: skip


@kernel((READ_INTS32, READ_BYTES, READ_MASK))
def frames(offsets: Array, data: Array, present: Array) -> tuple[Array, Array, Array, Array]:
    """Registry's frames of data[offsets[i]:offsets[i + 1]] where present[i] -> (state, ids, keys, begins).

    state int8: DECODED, BROKEN (no frame), or UNSURE (more indexes than a key holds). keys int64: how many bytes the message indexes have
    << 56 | those bytes, little-endian; begins int64: where the message begins in `data`.
    """
    n = len(offsets) - 1
    state, ids = np.zeros(n, np.int8), np.zeros(n, np.int64)
    keys, begins = np.zeros(n, np.int64), np.zeros(n, np.int64)
    address = data.ctypes.data
    for i in range(n):
        if not present[i]:
            continue
        at, end = np.int64(offsets[i]), np.int64(offsets[i + 1])
        state[i] = BROKEN
        if end - at < 6 or byte(address, at) != 0:
            continue
        for k in range(1, 5):
            ids[i] = ids[i] << 8 | np.int64(byte(address, at + k))
        start = at + 5
        at, raw = varint(address, start, end)
        count, _ = signed(raw, SINT64)
        if ids[i] == 0 or at < 0 or count < 0:
            continue
        while count > 0 and at >= 0:
            at, _ = varint(address, at, end)
            count -= 1
        if at < 0:
            continue
        begins[i] = at
        state[i] = DECODED if at - start <= KEY_BYTES else UNSURE
        if state[i] == DECODED:
            keys[i] = (at - start) << 56
            for k in range(at - start):
                keys[i] |= np.int64(byte(address, start + k)) << (8 * k)
    return state, ids, keys, begins


__all__ = ["IGNORED", "MESSAGE", "PACKED", "REPEATED", "frames", "parse_messages"]
