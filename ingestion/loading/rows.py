"""Rows of a table as hashes: which are of one key, and which say the same.

same_key(i, j) <=> keys[i] == keys[j]        same(i, j) <=> contents[i] == contents[j]        (but for a collision among 2**128)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.base.types import INT, ColumnType
from pipeline.columns.arrays import Ints, Mask, chunk, valid
from pipeline.columns.groups import group
from pipeline.columns.hash_table import HashTable
from pipeline.columns.hashing import Hashes, hash_rows
from pipeline.definition.table import Table

START_ROWS = 4096


def hashed(rows: pa.Table | pa.RecordBatch, table: Table, names: Sequence[str]) -> Hashes:
    """The hash of each row over these columns; floats by their bits."""
    return hash_rows([_hashable(chunk(rows.column(name)), table.types[name]) for name in names])


def _hashable(column: pa.Array, type: ColumnType) -> tuple[pa.Array, ColumnType]:
    if type.kind != "float":
        return column, type
    bits = np.asarray(column.fill_null(0.0).to_numpy(zero_copy_only=False), np.float64).view(np.int64)
    return pa.array(bits, mask=~valid(column)), INT


def keys_of(table: Table) -> list[str]:
    """The columns in which no two rows of a version are equal: the key, and with history the start."""
    return [*table.key, *([table.history.start] if table.history is not None else [])]


@dataclass(frozen=True)
class Matched:
    """New rows held against old ones, no two of one key: `place` is the number of the old row of each new row's key (-1: none)."""

    place: Ints
    there: Mask
    same: Mask


def matched(new: pa.Table, old: pa.Table, table: Table, key: Sequence[str], names: Sequence[str]) -> Matched:
    """Match rows by `key`; `same` are those that say the same in all of `names`."""
    index = HashTable()
    index.put(hashed(old, table, key), np.arange(old.num_rows, dtype=np.int64))
    place: Ints = index.find(hashed(new, table, key))
    there = place >= 0
    same = np.zeros(len(place), np.bool_)
    same[there] = (hashed(new, table, names)[there] == hashed(old, table, names)[place[there]]).all(axis=1)
    return Matched(place, there, same)


@dataclass(frozen=True)
class Sorted:
    """Rows of one batch, by number: fresh ones, those that repeat an earlier row, and those that contradict one."""

    fresh: Ints
    same: Ints
    other: Ints


class Seen:
    """The rows of a load so far, by key: where each came first, and what it said. Memory: 80 bytes a row, about."""

    def __init__(self) -> None:
        self._index = HashTable()
        self._contents: Hashes = np.empty((START_ROWS, 2), np.uint64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def sort(self, keys: Hashes, contents: Hashes) -> Sorted:
        """Sort the rows of the next batch, and remember the fresh ones."""
        if not len(keys):
            nothing = np.empty(0, np.int64)
            return Sorted(nothing, nothing, nothing)
        number, first = group(keys)
        leader = first[number]  # of each row, the first of its key in the batch
        known = self._index.find(np.ascontiguousarray(keys[first]))[number]
        before = np.where((known >= 0)[:, None], self._contents[np.maximum(known, 0)], contents[leader])
        equal = (before == contents).all(axis=1)
        fresh = (known < 0) & (leader == np.arange(len(keys)))
        self._remember(keys, contents, np.flatnonzero(fresh))
        return Sorted(np.flatnonzero(fresh), np.flatnonzero(~fresh & equal), np.flatnonzero(~fresh & ~equal))

    def _remember(self, keys: Hashes, contents: Hashes, rows: Ints) -> None:
        end = self._count + len(rows)
        if end > len(self._contents):
            larger = np.empty((max(end, 2 * len(self._contents)), 2), np.uint64)
            larger[: self._count] = self._contents[: self._count]
            self._contents = larger
        self._contents[self._count : end] = contents[rows]
        self._index.put(np.ascontiguousarray(keys[rows]), np.arange(self._count, end, dtype=np.int64))
        self._count = end
