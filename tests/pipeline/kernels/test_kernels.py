"""The compiled loops against slow Python: ints without bounds, dicts, and SipHash written out from its paper.

kernel(arrays) = the obvious loop over Python's own objects, for every input
"""

import shutil
import subprocess
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings

from pipeline.base.types import ColumnType
from pipeline.columns.arrays import codes, decimals, from_limbs, limbs, text_buffers, valid
from pipeline.columns.hashing import hash_rows
from pipeline.kernels.hashing import hash_bytes, hash_ints
from pipeline.kernels.reduce import (
    best_by_group,
    count_by_group,
    sum_ints_by_group,
    sum_limbs_by_group,
    sum_squares_by_group,
)

MIN, MAX = -(2**63), 2**63 - 1
WORD = 2**64 - 1
INTS = st.integers(MIN, MAX) | st.sampled_from(
    (MIN, MIN + 1, -(2**32), -1, 0, 1, 2**31, 2**32 - 1, 2**32, MAX - 1, MAX)
)
quick = settings(max_examples=200, deadline=None, database=None)


# --- SipHash-2-4 with 128 bits -------------------------------------------------------------------------------------------


def siphash128(key: bytes, message: bytes) -> bytes:
    """From the paper (Aumasson and Bernstein, 2012) and the 128-bit variant of its reference code, on Python's ints."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D ^ 0xEE, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def turn(x: int, by: int) -> int:
        return (x << by | x >> (64 - by)) & WORD

    def rounds(count: int) -> None:
        for _ in range(count):
            v[0] = (v[0] + v[1]) & WORD
            v[1] = turn(v[1], 13) ^ v[0]
            v[0] = turn(v[0], 32)
            v[2] = (v[2] + v[3]) & WORD
            v[3] = turn(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & WORD
            v[3] = turn(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & WORD
            v[1] = turn(v[1], 17) ^ v[2]
            v[2] = turn(v[2], 32)

    padded = message + bytes(7 - len(message) % 8) + bytes((len(message) % 256,))
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xEE
    rounds(4)
    low = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    rounds(4)
    return low.to_bytes(8, "little") + (v[0] ^ v[1] ^ v[2] ^ v[3]).to_bytes(8, "little")


KEY = bytes(range(16))
# vectors_sip128 of the reference code: key 00 01 .. 0f, message 00 01 .. of length n. (n = 0 .. 15, then 63.)
REFERENCE = {
    0: "a3817f04ba25a8e66df67214c7550293",
    1: "da87c1d86b99af44347659119b22fc45",
    2: "8177228da4a45dc7fca38bdef60affe4",
    3: "9c70b60c5267a94e5f33b6b02985ed51",
    4: "f88164c12d9c8faf7d0f6e7c7bcd5579",
    5: "1368875980776f8854527a07690e9627",
    6: "14eeca338b208613485ea0308fd7a15e",
    7: "a1f1ebbed8dbc153c0b84aa61ff08239",
    8: "3b62a9ba6258f5610f83e264f31497b4",
    9: "264499060ad9baabc47f8b02bb6d71ed",
    10: "00110dc378146956c95447d3f3d0fbba",
    11: "0151c568386b6677a2b4dc6f81e5dc18",
    12: "d626b266905ef35882634df68532c125",
    13: "9869e247e9c08b10d029934fc4b952f7",
    14: "31fcefac66d7de9c7ec7485fe4494902",
    15: "5493e99933b0a8117e08ec0f97cfc3d9",
    63: "5150d1772f50834a503e069a973fbd7c",
}


def sip_kernel(before: bytes, text: bytes) -> bytes:
    """hash_bytes of one row."""
    offsets, data = np.array([0, len(text)]), np.frombuffer(text, np.uint8)
    return hash_bytes(offsets, data, np.frombuffer(before, np.uint64).reshape(1, 2)).tobytes()


@pytest.mark.parametrize("length", REFERENCE)
def test_the_slow_siphash_gives_the_official_vectors(length: int) -> None:
    assert siphash128(KEY, bytes(range(length))).hex() == REFERENCE[length]


def test_hash_bytes_gives_the_official_vector_of_63_bytes() -> None:
    message = bytes(range(63))  # the first 16 enter as `before`
    assert sip_kernel(message[:16], message[16:]).hex() == REFERENCE[63]


@pytest.mark.parametrize("length", [16, 17, 23, 24, 31, 255, 256, 272, 1000])
def test_hash_bytes_agrees_with_openssl(length: int) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine: the slow SipHash and the official vectors stand alone")
    message = bytes(i * 31 % 256 for i in range(length))
    command = ["openssl", "mac", "-macopt", f"hexkey:{KEY.hex()}", "-macopt", "size:16", "-in", "/dev/stdin", "SIPHASH"]
    done = subprocess.run(command, input=message, capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().strip().lower() == sip_kernel(message[:16], message[16:]).hex()


@quick
@given(before=st.binary(min_size=16, max_size=16), text=st.binary(max_size=300))
def test_hash_bytes_is_siphash_of_what_came_before_and_the_bytes(before: bytes, text: bytes) -> None:
    assert sip_kernel(before, text) == siphash128(KEY, before + text)


@quick
@given(before=st.binary(min_size=16, max_size=16), value=INTS)
def test_hash_ints_is_siphash_of_what_came_before_and_eight_bytes(before: bytes, value: int) -> None:
    got = hash_ints(np.array([value], np.int64), np.frombuffer(before, np.uint64).reshape(1, 2)).tobytes()
    assert got == siphash128(KEY, before + value.to_bytes(8, "little", signed=True))


def test_an_integer_hashes_as_its_eight_bytes_do_as_text() -> None:
    before = np.array([[1, 2]], np.uint64)
    text = np.frombuffer((7).to_bytes(8, "little"), np.uint8)
    assert np.array_equal(hash_ints(np.array([7]), before), hash_bytes(np.array([0, 8]), text, before))


def slow_row_hash(row: tuple[Any, ...]) -> bytes:
    """hash(row) over text and int64 codes, as the docstring of the module has it."""
    found = bytes(16)
    for cell in row:
        found = siphash128(
            KEY, found + (cell.encode() if isinstance(cell, str) else cell.to_bytes(8, "little", signed=True))
        )
    return found


@quick
@given(
    rows=st.lists(st.tuples(st.text(max_size=12), INTS, st.text("ab", max_size=2)), max_size=20), skip=st.integers(0, 3)
)
@example(rows=[("", 0, ""), ("a", 0, ""), ("", 0, "a")], skip=0)
def test_hash_rows_chains_its_columns_and_sees_slices_as_themselves(
    rows: list[tuple[str, int, str]], skip: int
) -> None:
    first, second, third = (
        pa.array([r[i] for r in rows], t) for i, t in enumerate((pa.string(), pa.int64(), pa.string()))
    )
    text, whole = ColumnType("str"), ColumnType("int")
    columns = [
        (first.slice(skip), text),
        (second.slice(skip), whole),
        (third.slice(skip).cast(pa.large_string()), text),
    ]
    assert [h.tobytes() for h in hash_rows(columns)] == [slow_row_hash(row) for row in rows[skip:]]


def test_where_one_text_ends_and_the_next_begins_is_in_the_hash() -> None:
    text = ColumnType("str")
    hashes = hash_rows([(pa.array(["ab", "a", ""]), text), (pa.array(["c", "bc", "abc"]), text)])
    assert len({h.tobytes() for h in hashes}) == 3


# --- sums of 128 and 256 bits ----------------------------------------------------------------------------------------------


def to_int(words: np.ndarray[Any, Any]) -> int:
    """A row of limbs as Python's int."""
    return int.from_bytes(words.tobytes(), "little", signed=True)


def to_limbs(values: list[int], width: int) -> np.ndarray[Any, Any]:
    raw = b"".join((v % 2 ** (64 * width)).to_bytes(8 * width, "little") for v in values)
    return np.frombuffer(raw, np.uint64).reshape(-1, width)


ROWS = st.lists(st.tuples(INTS, st.booleans(), st.integers(0, 2)), max_size=40)


def arrays(rows: list[tuple[int, bool, int]]) -> tuple[Any, Any, Any]:
    values, mask, number = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(values, np.int64), np.array(mask, np.bool_), np.array(number, np.int64)


@quick
@given(rows=ROWS)
@example(rows=[(MIN, True, 0)] * 40)
@example(rows=[(MAX, True, 0)] * 40)
@example(rows=[(MIN, True, 0), (MAX, True, 0), (1, True, 0), (-1, False, 0)])
def test_sums_counts_and_squares_are_those_of_unbounded_ints(rows: list[tuple[int, bool, int]]) -> None:
    values, mask, number = arrays(rows)
    counted = [[v for v, counts, g in rows if counts and g == group] for group in range(4)]
    assert [to_int(w) for w in sum_ints_by_group(values, mask, number, 4)] == [sum(vs) for vs in counted]
    assert [to_int(w) for w in sum_squares_by_group(values, mask, number, 4)] == [
        sum(v * v for v in vs) for vs in counted
    ]
    assert count_by_group(mask, number, 4).tolist() == [len(vs) for vs in counted]


def test_sums_do_not_overflow_over_many_extreme_rows() -> None:
    count = 3_000_000
    values, mask, number = np.full(count, MIN, np.int64), np.ones(count, np.bool_), np.zeros(count, np.int64)
    assert to_int(sum_ints_by_group(values, mask, number, 1)[0]) == MIN * count
    assert to_int(sum_squares_by_group(values, mask, number, 1)[0]) == MIN * MIN * count
    assert to_int(sum_ints_by_group(~values, mask, number, 1)[0]) == MAX * count


@quick
@given(width=st.sampled_from((1, 2, 3, 4)), data=st.data())
def test_wide_sums_are_those_of_unbounded_ints_modulo_their_width(width: int, data: st.DataObject) -> None:
    top = 2 ** (64 * width - 1)
    edges = [
        v % (2 * top) - top
        for k in range(1, 2 * width + 1)
        for v in (top + 2 ** (32 * k) - 1, top - 1, top - 2 ** (32 * k))
    ]
    wide = st.integers(-top, top - 1) | st.sampled_from(edges)
    rows = data.draw(st.lists(st.tuples(wide, st.booleans(), st.integers(0, 2)), max_size=30))
    got = sum_limbs_by_group(
        to_limbs([r[0] for r in rows], width),
        np.array([r[1] for r in rows], np.bool_),
        np.array([r[2] for r in rows], np.int64),
        3,
    )
    for g in range(3):
        want = sum(v for v, counts, number in rows if counts and number == g)
        assert to_int(got[g]) == (want + top) % (2 * top) - top


@quick
@given(data=st.data(), groups=st.integers(1, 4))
def test_best_by_group_is_the_least_tuple(data: st.DataObject, groups: int) -> None:
    few = st.sampled_from((MIN, -1, 0, 1, MAX))
    row = st.tuples(few, few, few, few, st.booleans(), st.integers(0, groups - 1))
    rows = data.draw(st.lists(row, max_size=30, unique_by=lambda r: r[:4]))
    columns = [np.array([r[i] for r in rows], np.int64) for i in range(4)]
    mask, number = np.array([r[4] for r in rows], np.bool_), np.array([r[5] for r in rows], np.int64)
    got = best_by_group(*columns, mask, number, groups, data.draw(st.booleans()))
    for g in range(groups):
        own = [(r[:4], i) for i, r in enumerate(rows) if r[4] and r[5] == g]
        assert got[g] == (min(own)[1] if own else -1)


# --- between Arrow and NumPy ------------------------------------------------------------------------------------------


@quick
@given(
    values=st.lists(st.none() | st.integers(-(10**37), 10**37), max_size=20), skip=st.integers(0, 5), wide=st.booleans()
)
def test_limbs_are_the_integers_of_a_decimal_array_and_back(values: list[int | None], skip: int, wide: bool) -> None:
    type = pa.decimal256(76, 0) if wide else pa.decimal128(38, 0)
    array = pa.array([None if v is None else Decimal(v) for v in values], type).slice(skip)
    rows = limbs(array)
    mask = ~valid(array)
    assert [None if null else to_int(w) for w, null in zip(rows, mask, strict=True)] == values[skip:]
    back = from_limbs(rows, type, mask)
    back.validate(full=True)
    assert back.equals(array)


@quick
@given(values=st.lists(st.integers(1 - 10**18, 10**18 - 1), max_size=20), scale=st.integers(0, 12))
def test_decimals_hold_their_unscaled_integers(values: list[int], scale: int) -> None:
    array = decimals(np.array(values, np.int64), scale)
    array.validate(full=True)
    assert array.type == pa.decimal128(18, scale)
    assert [int(d.scaleb(scale)) for d in array.to_pylist()] == values
    assert codes(array, ColumnType("decimal", scale)).tolist() == values


@pytest.mark.parametrize(
    ("kind", "values", "want"),
    [
        ("int", [MIN, None, MAX], [MIN, 0, MAX]),
        ("bool", [True, None, False], [1, 0, 0]),
        ("date", [date(1969, 12, 31), None, date(9999, 12, 31)], [-1, 0, 2932896]),
        (
            "datetime",
            [datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), None, datetime(1970, 1, 1, tzinfo=UTC)],
            [-1, 0, 0],
        ),
        ("decimal", [Decimal(-1), None, Decimal(7)], [-1, 0, 7]),
    ],
)
def test_codes_order_as_values_do_and_nulls_hold_zero(kind: str, values: list[Any], want: list[int]) -> None:
    type = ColumnType(kind)
    array = pa.array(values, type.arrow)
    assert codes(array, type).tolist() == want
    assert codes(array.slice(1), type).tolist() == want[1:]
    assert valid(array).tolist() == [v is not None for v in values]


def test_text_and_floats_have_no_codes() -> None:
    for kind in ("float", "str"):
        with pytest.raises(TypeError, match="has no integer codes"):
            codes(pa.array([], ColumnType(kind).arrow), ColumnType(kind))


@quick
@given(values=st.lists(st.none() | st.binary(max_size=9), max_size=12), skip=st.integers(0, 4))
def test_text_buffers_give_each_rows_bytes_and_nothing_for_null(values: list[bytes | None], skip: int) -> None:
    offsets, data = text_buffers(pa.array(values, pa.binary()).slice(skip))
    rows = [data[a:b].tobytes() for a, b in pairwise(offsets)]
    assert rows == [v or b"" for v in values[skip:]]
