"""Rows as 128-bit hashes of their columns.

hash(i) == hash(j)  <=>  the columns of rows i and j are equal        (but for a collision among 2**128)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.base.types import ColumnType
from pipeline.columns.arrays import codes, fixed_buffers, text_buffers, valid
from pipeline.kernels import hashing as kernels

NULL = 0x6E756C6C
Hashes = np.ndarray[Any, np.dtype[np.uint64]]


def hash_rows(columns: Sequence[tuple[pa.Array, ColumnType]]) -> Hashes:
    """uint64 (n, 2): the hash of each row over columns (bytes of whatever type, or integer codes; no floats); a null is a value."""
    rows = len(columns[0][0])
    hashes: Hashes = np.zeros((rows, 2), np.uint64)
    for array, type in columns:
        if not type.coded and type.kind != "float":
            offsets, data = text_buffers(array) if type.kind in ("str", "bytes") else fixed_buffers(array)
            hashes = kernels.hash_bytes(offsets, data, hashes)
        else:
            hashes = kernels.hash_ints(codes(array, type), hashes)
        if array.null_count:  # one step more, which no value has: the hash of other rows does not depend on theirs
            null = np.flatnonzero(~valid(array))
            hashes[null] = kernels.hash_ints(np.full(len(null), NULL, np.int64), np.ascontiguousarray(hashes[null]))
    return hashes
