"""Groups of rows, and a table from group to number, by 128-bit hashes of the key columns.

    group(i) == group(j)  <=>  the key columns of rows i and j are equal
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.base.types import ColumnType
from pipeline.columns.arrays import Ints, codes, text_buffers
from pipeline.kernels.hashing import hash_bytes, hash_ints
from pipeline.kernels.tables import count_since, entries_since, find, group_rows, move, number_codes, put, spread

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
LEAST = -(2**63)
ROOM, LARGE = 4, 1 << 18  # a table of that many slots has memory for four times as many
FEW_CODES = 65_536  # a table of so many numbers is always worth it


def hash_rows(columns: Sequence[tuple[pa.Array, ColumnType]]) -> Hashes:
    """uint64 (n, 2): the hash of each row over columns without nulls (text, or anything with integer codes)."""
    rows = len(columns[0][0])
    hashes: Hashes = np.zeros((rows, 2), np.uint64)
    for array, type in columns:
        if type.kind == "str":
            offsets, data = text_buffers(array)
            hashes = hash_bytes(offsets, data, hashes)
        else:
            hashes = hash_ints(codes(array, type), hashes)
    return hashes


def capacity_for(entries: int) -> int:
    """The power of two that keeps a table at most three quarters full: 32 to 64 bytes an entry, once there are some."""
    return max(16, 1 << (entries + -(-entries // 3) - 1).bit_length())


def group(hashes: Hashes) -> tuple[Ints, Ints]:
    """(group of each row, first row of each group): groups are numbered in the order of their first rows."""
    capacity = capacity_for(len(hashes))
    return group_rows(np.zeros((capacity, 2), np.uint64), np.empty(capacity, np.int64), hashes)


def number_rows(columns: Sequence[tuple[pa.Array, ColumnType]], integers: Ints) -> tuple[Ints, Ints]:
    """group(hash_rows(columns and integers)), by direct tables where few values are possible: a window's number, a day, a dictionary.

    Columns without nulls; one that is dictionary-encoded is never decoded. `integers` is one more column, int64 of the same length.
    """
    limit = max(4 * len(integers), FEW_CODES)
    number, size = _few_codes(integers, limit)
    for array, type in columns:
        own, count = _codes_of(array, type, limit)
        if size * count > limit:  # each is at most `limit` by itself, so that the product fits
            number, first = _by_hash(number)
            size = max(1, len(first))
        number, size = number * count + own, size * count
    if size <= limit:
        return number_codes(number, size)
    return _by_hash(number)


def _by_hash(values: Ints) -> tuple[Ints, Ints]:
    return group(hash_ints(values, np.zeros((len(values), 2), np.uint64)))


def _codes_of(array: pa.Array, type: ColumnType, limit: int) -> tuple[Ints, int]:
    """(a number of each value in [0, n), n)."""
    if isinstance(array, pa.DictionaryArray):
        distinct, first = group(hash_rows([(array.dictionary, type)]))  # a dictionary may name a value twice
        return distinct[np.asarray(array.indices.to_numpy(zero_copy_only=False), np.int64)], max(1, len(first))
    if type.kind == "str":
        number, first = group(hash_rows([(array, type)]))
        return number, max(1, len(first))
    return _few_codes(codes(array, type), limit)


def _few_codes(values: Ints, limit: int) -> tuple[Ints, int]:
    """The same for integers: by their distance from the least, or by their hashes where they spread too far."""
    if not len(values):
        return values, 1
    least = int(values.min())
    size = int(values.max()) - least + 1
    if size <= limit:
        return values - least, size
    number, first = _by_hash(values)
    return number, len(first)


def _slots(capacity: int) -> tuple[Hashes, Ints]:
    """Memory for so many slots, and of a large table for ROOM times as many: the kernel gives a page when it is touched, not before."""
    room = ROOM if capacity >= LARGE else 1
    try:
        return np.empty((room * capacity, 2), np.uint64), np.empty(room * capacity, np.int64)
    except MemoryError:  # this kernel gives no more than there is
        return np.empty((capacity, 2), np.uint64), np.empty(capacity, np.int64)


class HashTable:
    """hash -> int64, growing as needed."""

    def __init__(self, entries: int = 0) -> None:
        self._renew(capacity_for(entries))

    def _renew(self, capacity: int) -> None:
        self._all_keys, self._all_values = _slots(capacity)
        self.keys, self.values = self._all_keys[:capacity], self._all_values[:capacity]
        self.keys.fill(0)  # not np.zeros: that leaves a large table to the kernel in small pages, a fault and a lookup for each
        self.filled = 0

    def __len__(self) -> int:
        return self.filled

    def reserve(self, more: int, least: int = LEAST) -> None:
        """Make room for `more` new entries; entries with a value below `least` may be dropped on the way."""
        if capacity_for(self.filled + more) <= len(self.keys):
            return
        old, capacity = len(self.keys), capacity_for(count_since(self.keys, self.values, least) + more)
        if old < capacity <= len(self._all_keys):  # in place: no copy beside it, and no page but the new ones
            self.keys, self.values = self._all_keys[:capacity], self._all_values[:capacity]
            self.keys[old:].fill(0)
            self.filled = spread(self.keys, self.values, old, least)
        else:
            keys, values = self.keys, self.values
            self._renew(capacity)
            self.filled = move(keys, values, least, self.keys, self.values)

    def find(self, hashes: Hashes) -> Ints:
        """Each hash's value, -1 where absent."""
        return find(self.keys, self.values, hashes)

    def put(self, hashes: Hashes, values: Ints) -> None:
        """Set values; distinct hashes."""
        self.reserve(len(hashes))
        self.filled += put(self.keys, self.values, hashes, values)

    def entries(self, least: int = LEAST) -> tuple[Hashes, Ints]:
        """All (hash, value) with value >= least, nearly in the order of the hashes."""
        return entries_since(self.keys, self.values, least)
