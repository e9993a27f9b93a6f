"""Null keys of the types whose values all have one width: one group, whatever bytes stand where a null is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.base.types import ColumnType
from pipeline.columns.groups import group, number_rows
from pipeline.columns.hashing import hash_rows

TYPES = [ColumnType("uuid"), ColumnType("wide", 18, 38), ColumnType("wide", 0, 5)]


def column(type: ColumnType, words: list[bytes], present: list[bool]) -> pa.Array:
    """Values of these 16 bytes each; those of nulls are there too."""
    validity = pa.py_buffer(np.packbits(present, bitorder="little").tobytes())
    found: Any = pa.Array.from_buffers(type.arrow, len(words), [validity, pa.py_buffer(b"".join(words))])
    return found


@pytest.mark.parametrize("type", TYPES, ids=str)
@pytest.mark.parametrize("start", [0, 1])
def test_nulls_are_one_group_whatever_bytes_stand_there(type: ColumnType, start: int) -> None:
    words = [(n + 1).to_bytes(16, "little") for n in range(6)]
    array = column(type, [*words, *words], [True, False, True, False, False, True] * 2).slice(start)
    hashes = hash_rows([(array, type)])
    number, _ = group(hashes)
    null = np.flatnonzero([not value.is_valid for value in array])
    assert len(set(number[null])) == 1
    assert len(set(number.tolist())) == 4
    same, _ = number_rows([(array, type)], np.zeros(len(array), np.int64))
    assert same.tolist() == number.tolist()
    zero = column(type, [bytes(16)], [True])
    assert not (hash_rows([(zero, type)])[0] == hashes[null[0]]).all(), "a null is not zero"
