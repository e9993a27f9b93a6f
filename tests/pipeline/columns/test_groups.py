"""Rows are numbered by direct tables as they are by their hashes, and in the same order."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
from hypothesis import given, settings

from pipeline.base.types import ColumnType
from pipeline.columns.groups import group, number_rows
from pipeline.columns.hashing import hash_rows

KEYS = st.tuples(
    st.sampled_from(["a", "b", "", "é", "ab"]),
    st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3),
    st.integers(-5, 5),
)


@settings(deadline=None)
@given(rows=st.lists(KEYS, max_size=40), encoded=st.booleans())
def test_rows_are_numbered_by_tables_as_by_their_hashes(rows: list[tuple[str, int, int]], encoded: bool) -> None:
    texts, numbers = pa.array([r[0] for r in rows], pa.string()), pa.array([r[1] for r in rows], pa.int64())
    windows = np.array([r[2] for r in rows], np.int64)
    wanted = group(
        hash_rows([(texts, ColumnType("str")), (numbers, ColumnType("int")), (pa.array(windows), ColumnType("int"))])
    )
    first = texts.dictionary_encode() if encoded else texts
    found = number_rows([(first, ColumnType("str")), (numbers, ColumnType("int"))], windows)
    assert [a.tolist() for a in found] == [a.tolist() for a in wanted]


def test_a_dictionary_that_names_a_value_twice_is_one_group() -> None:
    array = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 1]), pa.array(["a", "b", "a"]))
    number, first = number_rows([(array, ColumnType("str"))], np.zeros(4, np.int64))
    assert (number.tolist(), first.tolist()) == ([0, 1, 0, 1], [0, 1])


def test_few_and_many_codes_give_the_same_numbers() -> None:
    rng = np.random.default_rng(4)
    for spread in (3, 10**4, 2**62):
        values, windows = rng.integers(-spread, spread, 5000), rng.integers(0, 400, 5000)
        hashed = group(hash_rows([(pa.array(values), ColumnType("int")), (pa.array(windows), ColumnType("int"))]))
        found = number_rows([(pa.array(values), ColumnType("int"))], windows)
        assert all((a == b).all() for a, b in zip(found, hashed, strict=True))
