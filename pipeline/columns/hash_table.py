"""A table from 128-bit hash to int64, growing in place.

find(put(table, h, v), h) == v        entries lie nearly in the order of their hashes
"""

import numpy as np

from pipeline.columns.arrays import Ints
from pipeline.columns.hashing import Hashes
from pipeline.kernels import tables

LEAST = -(2**63)
ROOM, LARGE = 4, 1 << 18  # a table of that many slots has memory for four times as many


def capacity_for(entries: int) -> int:
    """The power of two that keeps a table at most three quarters full: 32 to 64 bytes an entry, once there are some."""
    return max(16, 1 << (entries + -(-entries // 3) - 1).bit_length())


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
        # Not np.zeros: that leaves a large table to the kernel in small pages, a fault and a lookup for each
        self.keys.fill(0)
        self.filled = 0

    def __len__(self) -> int:
        return self.filled

    def reserve(self, more: int, least: int = LEAST) -> None:
        """Make room for `more` new entries; entries with a value below `least` may be dropped on the way."""
        if capacity_for(self.filled + more) <= len(self.keys):
            return
        old, capacity = len(self.keys), capacity_for(tables.count_since(self.keys, self.values, least) + more)
        if old < capacity <= len(self._all_keys):  # in place: no copy beside it, and no page but the new ones
            self.keys, self.values = self._all_keys[:capacity], self._all_values[:capacity]
            self.keys[old:].fill(0)
            self.filled = tables.spread(self.keys, self.values, old, least)
        else:
            keys, values = self.keys, self.values
            self._renew(capacity)
            self.filled = tables.move(keys, values, least, self.keys, self.values)

    def find(self, hashes: Hashes) -> Ints:
        """Each hash's value, -1 where absent."""
        return tables.find(self.keys, self.values, hashes)

    def put(self, hashes: Hashes, values: Ints) -> None:
        """Set values; distinct hashes."""
        self.reserve(len(hashes))
        self.filled += tables.put(self.keys, self.values, hashes, values)

    def entries(self, least: int = LEAST) -> tuple[Hashes, Ints]:
        """All (hash, value) with value >= least, nearly in the order of the hashes."""
        return tables.entries_since(self.keys, self.values, least)
