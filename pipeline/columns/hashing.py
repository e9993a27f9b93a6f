"""Rows as 128-bit hashes of their columns.

hash(i) == hash(j)  <=>  the columns of rows i and j are equal        (but for a collision among 2**128)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.base.types import ColumnType
from pipeline.columns.arrays import codes, fixed_buffers, text_buffers
from pipeline.kernels import hashing as kernels

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


def hash_rows(columns: Sequence[tuple[pa.Array, ColumnType]]) -> Hashes:
    """uint64 (n, 2): the hash of each row over columns without nulls (bytes of whatever type, or integer codes; no floats)."""
    rows = len(columns[0][0])
    hashes: Hashes = np.zeros((rows, 2), np.uint64)
    for array, type in columns:
        if not type.coded and type.kind != "float":
            offsets, data = text_buffers(array) if type.kind in ("str", "bytes") else fixed_buffers(array)
            hashes = kernels.hash_bytes(offsets, data, hashes)
        else:
            hashes = kernels.hash_ints(codes(array, type), hashes)
    return hashes
