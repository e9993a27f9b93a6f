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

from pipeline.kernels.bytes import byte, int_at, set_byte, set_int, set_real
from pipeline.kernels.compiling import INT64, INTS, READ_BYTES, READ_INTS, READ_INTS32, READ_MASK, kernel
from pipeline.kernels.json import DATETIME, DECIMAL, EPOCH, FLOAT, MAX_MS, STR, from_text
from pipeline.kernels.scalars import BROKEN, DECODED, POWERS, UNSURE
from pipeline.kernels.wire import BROKEN_TEXT, NOWHERE, VALID, size, skip, tag, text, varint

Array = np.ndarray[Any, Any]

WIDTH = 8
TAG, SOURCE, KIND, TARGET, SCALE, MORE, LAST, ONEOF = range(WIDTH)
# MORE and LAST: of an enumeration its rows, of a text MORE is 1 where an empty one is as good as missing, of a PACKED its wire type.
# Sources: how a value is written. Those up to ENUM are varints.
INT32, INT64_, UINT32, UINT64, SINT32, SINT64, BOOLEAN, ENUM = range(8)
FIXED_32, SFIXED_32, REAL_32, FIXED_64, SFIXED_64, REAL_64, TEXT, TIMESTAMP = range(8, 16)
MESSAGE, REPEATED, PACKED, IGNORED = range(16, 20)
UNKNOWN = np.int64(-1)
LOW_32, SIGN_32 = np.uint64(2**32 - 1), 2**31
SECONDS_MIN, SECONDS_MAX, SECOND_US, SECOND_NS = -62_135_596_800, 253_402_300_799, 1_000_000, 1_000_000_000
SECONDS_TAG, NANOS_TAG = 8, 16
BYTES = types.Array(types.uint8, 1, "C")
REALS = types.Array(types.float64, 1, "C")
STATES = types.Array(types.int8, 1, "C")
KEY_BYTES = 7  # of message indexes, that fit one int64 with their number


@njit(forceinline=True)
def _signed(raw, source):  # type: ignore[no-untyped-def]
    """(value, fits int64) of 64 bits that were a varint or fixed; int64."""
    low = np.int64(raw & LOW_32)
    if source == INT32 or source == ENUM or source == SFIXED_32:  # noqa: SIM109 -- no tuple in a compiled loop
        return (low ^ SIGN_32) - SIGN_32, True
    if source == UINT32 or source == FIXED_32:  # noqa: SIM109
        return low, True
    if source == SINT32:
        return low >> 1 ^ -(low & 1), True
    if source == SINT64:
        return np.int64(raw >> np.uint64(1)) ^ -np.int64(raw & np.uint64(1)), True
    if source == BOOLEAN:
        return np.int64(raw != np.uint64(0)), True
    value = np.int64(raw)
    return value, value >= 0 or not (source == UINT64 or source == FIXED_64)


@njit(forceinline=True)
def _from_int(value, kind, scale, least, most):  # type: ignore[no-untyped-def]
    """(value, fits) of an integer in a column of `kind`, none of text or floats."""
    if kind == DECIMAL:
        limit = POWERS[18 - scale]
        return (value * POWERS[scale], True) if -limit < value < limit else (value, False)
    if kind == DATETIME:
        fits = -MAX_MS <= value <= MAX_MS
        value = value * 1000 if fits else value
        return value, fits and least <= value <= most
    if kind == EPOCH:
        if scale < 0:
            value = value // POWERS[-scale]
            return value, least <= value <= most
        limit = POWERS[18 - scale]
        fits = -limit < value < limit
        value = value * POWERS[scale] if fits else value
        return value, fits and least <= value <= most
    return value, True


@njit(forceinline=True)
def _enum(enums, low, high, value):  # type: ignore[no-untyped-def]
    """The row of a number among the rows [low, high) of (number, begin, end), by number; UNKNOWN when it has no name."""
    guess = low + value
    if low <= guess < high and int_at(enums, 3 * guess) == value:
        return guess
    while low < high:
        middle = (low + high) >> 1
        found = int_at(enums, 3 * middle)
        if found == value:
            return middle
        if found < value:
            low = middle + 1
        else:
            high = middle
    return UNKNOWN


@njit(nogil=True)
def _timestamp(data: Any, at: Any, end: Any, depth: Any, stack: Any, least: Any, most: Any) -> Any:
    """(is a message, microseconds, fits) of the google.protobuf.Timestamp [at, end); nanoseconds are floored."""
    seconds, nanos = np.int64(0), np.int64(0)
    while at < end:
        at, found = tag(data, at, end)
        if at < 0:
            return False, seconds, False
        if found == SECONDS_TAG or found == NANOS_TAG:  # noqa: SIM109
            at, raw = varint(data, at, end)
            if found == SECONDS_TAG:
                seconds = np.int64(raw)
            else:
                nanos, _ = _signed(raw, INT32)
        else:
            at = skip(data, at, end, found, depth, stack)
        if at < 0:
            return False, seconds, False
    if not (SECONDS_MIN <= seconds <= SECONDS_MAX and 0 <= nanos < SECOND_NS):
        return True, seconds, False
    found = seconds * SECOND_US + nanos // 1000
    return True, found, least <= found <= most


@njit(forceinline=True)
def _number(data, at, end, source):  # type: ignore[no-untyped-def]
    """(at, 64 bits) of a value that is a varint or fixed."""
    if source <= ENUM:
        return varint(data, at, end)
    wide = 4 if source <= REAL_32 else 8
    if end - at < wide:
        return NOWHERE, np.uint64(0)
    raw = np.uint64(0)
    for k in range(wide):
        raw |= np.uint64(byte(data, at + k)) << np.uint64(8 * k)
    return at + wide, raw


@njit(forceinline=True)
def _float(raw, source):  # type: ignore[no-untyped-def]
    """The value of the bits of a float or double; -0.0 as 0.0."""
    if source == REAL_32:
        return np.float64(np.uint32(raw).view(np.float32)) + 0.0
    return np.uint64(raw).view(np.float64) + 0.0


@njit(forceinline=True)
def _leaf(  # type: ignore[no-untyped-def]
    data, at, end, row, cell, depth, stack, enums, least, most, values, ends, reals, nulls, breaches
):  # fmt: skip
    """(at, is a value of its column) of the value at `at`, which is written into the outputs' `cell`; `row` is the address of its entry."""
    source, kind, scale = int_at(row, SOURCE), int_at(row, KIND), int_at(row, SCALE)
    set_byte(nulls, cell, 0)
    if source >= TEXT:
        at, stop = size(data, at, end)
        if at < 0:
            return NOWHERE, False
        if source == TIMESTAMP:
            is_message, value, fits = _timestamp(data, at, stop, depth + 1, stack, least, most)
            set_int(values, cell, value)
            return (stop if is_message else NOWHERE), fits
        state = text(data, at, stop)
        if state == BROKEN_TEXT:
            return NOWHERE, False
        if kind == STR:
            set_int(values, cell, at)
            set_int(ends, cell, stop)
            return stop, state == VALID
        if at == stop and int_at(row, MORE):
            set_byte(nulls, cell, 1)
            return stop, True
        value, breach, state = from_text(data, at, stop, kind, scale, least, most)
        set_int(values, cell, value)
        set_byte(nulls, cell, breach)
        set_byte(breaches, cell, breach)
        return stop, state == DECODED
    at, raw = _number(data, at, end, source)
    if source == REAL_32 or source == REAL_64:  # noqa: SIM109
        real = _float(raw, source)
        set_real(reals, cell, real)
        return at, np.isfinite(real)
    value, fits = _signed(raw, source)
    if kind == FLOAT:
        set_real(reals, cell, np.float64(value))
    elif kind == STR:
        found = _enum(enums, int_at(row, MORE), int_at(row, LAST), value)
        if found == UNKNOWN:
            return at, False
        set_int(values, cell, int_at(enums, 3 * found + 1))
        set_int(ends, cell, int_at(enums, 3 * found + 2))
    else:
        value, inside = _from_int(value, kind, scale, least, most)
        set_int(values, cell, value)
        fits = fits and inside
    return at, fits


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
def _defaults(node: Any, i: Any, n: Any, first: Any, defaults: Any, seen: Any, values: Any, ends: Any, reals: Any, nulls: Any) -> None:  # noqa: E501
    """What message i's node has where nothing is written: rows (column, value, end); once in a record."""
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


@njit(nogil=True)
def _packed(  # type: ignore[no-untyped-def]
    data, at, end, row, i, n, table, first, counts, depth, stack, enums, least, most, values, ends, reals, nulls, breaches
):  # fmt: skip
    """(at, all are values of their columns) of the elements of a packed field."""
    at, stop = size(data, at, end)
    if at < 0:
        return NOWHERE, False
    node, wire, good = int_at(row, TARGET), int_at(row, MORE), True
    low, high = int_at(first, node), int_at(first, node + 1)
    while at < stop:
        element = _entry(table, low, high, low, _place(counts, node, i))
        if element == UNKNOWN:
            at = skip(data, at, stop, wire, depth, stack)
        else:
            own = table + element * WIDTH * 8
            at, fits = _leaf(
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
    groups = stack + 4 * 8 * 66
    low, high = int_at(first, node), int_at(first, node + 1)
    likely = low
    _defaults(node, i, n, firsts, defaults, entered, values, ends, reals, nulls)
    while True:
        if at == end:
            level -= 1
            if level == 0:
                return UNSURE if unsure else DECODED if good else BROKEN
            end, likely = int_at(stack, 4 * level), int_at(stack, 4 * level + 1)
            low, high = int_at(stack, 4 * level + 2), int_at(stack, 4 * level + 3)
            continue
        at, wanted = tag(data, at, end)
        entry = _entry(table, low, high, likely, wanted)
        row = table + entry * WIDTH * 8
        source = np.int64(IGNORED)
        if at >= 0 and entry != UNKNOWN:
            likely = entry + 1
            source = int_at(row, SOURCE)
            unsure |= _other_member(row, entry, i, oneofs)
        if source == REPEATED:
            inside = int_at(row, TARGET)
            entry = _entry(table, int_at(first, inside), int_at(first, inside + 1), int_at(first, inside), _place(counts, inside, i))
            row = table + entry * WIDTH * 8
            source = int_at(row, SOURCE) if entry != UNKNOWN else np.int64(IGNORED)
        if at < 0:
            return BROKEN
        if source < MESSAGE:
            unsure |= int_at(given, entry) == i
            set_int(given, entry, i)
            at, fits = _leaf(
                data, at, end, row, int_at(row, TARGET) * n + i, level, groups, enums, least, most,
                values, ends, reals, nulls, breaches,
            )  # fmt: skip
            good = good and fits
        elif source == MESSAGE:
            at, stop = size(data, at, end)
            if at >= 0:
                set_int(stack, 4 * level, end)
                set_int(stack, 4 * level + 1, likely)
                set_int(stack, 4 * level + 2, low)
                set_int(stack, 4 * level + 3, high)
                node, end, level = int_at(row, TARGET), stop, level + 1
                low, high = int_at(first, node), int_at(first, node + 1)
                likely = low
                _defaults(node, i, n, firsts, defaults, entered, values, ends, reals, nulls)
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
    stack = np.zeros(4 * 66 + 66, np.int64)
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
        count, _ = _signed(raw, SINT64)
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
