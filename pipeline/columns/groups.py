"""Groups of rows, and a table from group to number, by 128-bit hashes of the key columns.

group(i) == group(j)  <=>  the key columns of rows i and j are equal
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.base.types import ColumnType
from pipeline.columns.arrays import Ints, codes, indices_of, valid
from pipeline.columns.hash_table import capacity_for
from pipeline.columns.hashing import Hashes, hash_rows
from pipeline.kernels import hashing, tables

FEW_CODES = 65_536  # a table of so many numbers is always worth it


def group(hashes: Hashes) -> tuple[Ints, Ints]:
    """(group of each row, first row of each group): groups are numbered in the order of their first rows."""
    capacity = capacity_for(len(hashes))
    return tables.group_rows(np.zeros((capacity, 2), np.uint64), np.empty(capacity, np.int64), hashes)


def number_rows(columns: Sequence[tuple[pa.Array, ColumnType]], integers: Ints) -> tuple[Ints, Ints]:
    """group(hash_rows(columns and integers)), by direct tables where few values are possible: a window's number, a day, a dictionary.

    A null is a value of its own; a column that is dictionary-encoded is never decoded. `integers` is one more column, of the same length.
    """
    limit = max(4 * len(integers), FEW_CODES)
    number, size = _few_codes(integers, limit)
    for array, type in columns:
        own, count = _codes_of(array, type, limit)
        if array.null_count:
            own, count = np.where(valid(array), own, count), count + 1
        if size * count > limit:  # each is at most `limit` by itself, so that the product fits
            number, first = _by_hash(number)
            size = max(1, len(first))
        number, size = number * count + own, size * count
    if size <= limit:
        return tables.number_codes(number, size)
    return _by_hash(number)


def _by_hash(values: Ints) -> tuple[Ints, Ints]:
    return group(hashing.hash_ints(values, np.zeros((len(values), 2), np.uint64)))


def _codes_of(array: pa.Array, type: ColumnType, limit: int) -> tuple[Ints, int]:
    """(a number of each value in [0, n), n)."""
    if isinstance(array, pa.DictionaryArray):
        if not len(array.dictionary):  # of nulls alone
            return np.zeros(len(array), np.int64), 1
        distinct, first = group(hash_rows([(array.dictionary, type)]))  # a dictionary may name a value twice
        return distinct[indices_of(array)], max(1, len(first))
    if not type.coded:
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
