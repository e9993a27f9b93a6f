"""Between Arrow arrays and the NumPy arrays that kernels take: the same bits, no copy where none is needed.

from_limbs(limbs(a), a.type) == a        integers(from_integers(u, type)) == u        codes(decimals(u, s), its type) == u
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.base.types import DECIMAL_DIGITS, ColumnType

Ints = np.ndarray[Any, np.dtype[np.int64]]
Limbs = np.ndarray[Any, np.dtype[np.uint64]]  # shape (n, k): little-endian two's complement integers of 64 * k bits
Mask = np.ndarray[Any, np.dtype[np.bool_]]


def valid(array: pa.Array) -> Mask:
    """True where the array is not null."""
    if array.null_count == 0:
        return np.ones(len(array), np.bool_)
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False), np.bool_)


def limbs(array: pa.Array) -> Limbs:
    """The (n, width/64) limbs of a decimal array; nulls hold whatever the buffer holds."""
    words = array.type.byte_width // 8
    data: Any = array.buffers()[1]
    whole = np.frombuffer(data, np.uint64).reshape(-1, words) if len(array) else np.empty((0, words), np.uint64)
    return whole[array.offset : array.offset + len(array)]


def from_limbs(values: Limbs, type: pa.DataType, mask: Mask | None = None) -> pa.Array:
    """A decimal array from its limbs; `mask` is True where the result is null."""
    words: Any = np.ascontiguousarray(values, np.uint64)
    validity = None if mask is None or not mask.any() else pa.py_buffer(np.packbits(~mask, bitorder="little").tobytes())
    return pa.Array.from_buffers(type, len(values), [validity, pa.py_buffer(words)])


def decimals(unscaled: Ints, scale: int, mask: Mask | None = None) -> pa.Array:
    """decimal128(18, scale) from unscaled int64."""
    wide = np.empty((len(unscaled), 2), np.uint64)
    wide[:, 0] = unscaled.view(np.uint64)
    wide[:, 1] = (unscaled >> 63).view(np.uint64)
    return from_limbs(wide, pa.decimal128(DECIMAL_DIGITS, scale), mask)


def integers(array: pa.Array) -> list[int]:
    """The unscaled integers of a decimal array without nulls."""
    words = limbs(array)
    found: list[int] = words[:, -1].view(np.int64).tolist()
    for word in range(words.shape[1] - 2, -1, -1):
        found = [high << 64 | low for high, low in zip(found, words[:, word].tolist(), strict=True)]
    return found


def from_integers(unscaled: Sequence[int | None], type: pa.DataType) -> pa.Array:
    """A decimal array from unscaled integers that fit its type."""
    width = type.byte_width
    data = b"".join([(value or 0).to_bytes(width, "little", signed=True) for value in unscaled])
    null = np.fromiter((value is None for value in unscaled), np.bool_, len(unscaled))
    return from_limbs(np.frombuffer(data, np.uint64).reshape(-1, width // 8), type, null)


def codes(array: pa.Array, type: ColumnType) -> Ints:
    """int64 that order and compare as the values do (int, decimal, bool, datetime and time in us, date in days); nulls hold 0.

    Not for the others (type.coded): those have no such int64 of their own.
    """
    if type.kind == "decimal":
        found = limbs(array)[:, 0].view(np.int64)
        return np.where(valid(array), found, 0) if array.null_count else np.ascontiguousarray(found)
    if type.kind in ("int", "datetime", "time") and not array.null_count and len(array) and array.type.bit_width == 64:
        data: Any = array.buffers()[1]
        return np.frombuffer(data, np.int64)[array.offset : array.offset + len(array)]
    if type.kind == "date":
        array = array.cast(pa.int32())
    if type.coded:
        array = array.cast(pa.int64())
        return np.asarray((array.fill_null(0) if array.null_count else array).to_numpy(zero_copy_only=False), np.int64)
    raise TypeError(f"a column of type {type} has no integer codes")


def plain(array: pa.Array) -> pa.Array:
    """The array without a dictionary."""
    return array.dictionary_decode() if isinstance(array, pa.DictionaryArray) else array


def indices_of(array: pa.DictionaryArray) -> Ints:
    """The place of each row's value in the dictionary, int64; of a null 0."""
    indices: Any = array.indices
    indices = indices.fill_null(0) if indices.null_count else indices
    return np.asarray(indices.to_numpy(zero_copy_only=False), np.int64)


def chunk(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One contiguous array."""
    if isinstance(column, pa.ChunkedArray):
        found: pa.Array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)  # type: ignore[assignment]
        return found
    return column


def fixed_buffers(array: pa.Array) -> tuple[Ints, np.ndarray[Any, Any]]:
    """The same as text_buffers of an array whose values all have one width: UUIDs, wide decimals; a null is zeros."""
    width = array.type.byte_width
    offsets = np.arange(0, len(array) + 1, dtype=np.int64) * width
    if not len(array):
        return offsets, np.empty(0, np.uint8)
    buffer: Any = array.buffers()[1]
    data = np.frombuffer(buffer, np.uint8)[array.offset * width : (array.offset + len(array)) * width]
    if array.null_count:  # whatever the buffer holds there
        data = np.where(valid(array)[:, None], data.reshape(-1, width), np.uint8(0)).ravel()
    return offsets, data


def text_buffers(array: pa.Array) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(offsets of length n + 1, bytes uint8) of a string or binary array; a null is empty. Offsets int32, or int64 of a large array."""
    if array.null_count:
        array = array.fill_null(b"" if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type) else "")
    wide = pa.types.is_large_binary(array.type) or pa.types.is_large_string(array.type)
    buffers: Any = array.buffers()
    _, offsets, data = buffers
    if offsets is None or len(array) == 0:
        return np.zeros(1, np.int64 if wide else np.int32), np.empty(0, np.uint8)
    found = np.frombuffer(offsets, np.int64 if wide else np.int32)[array.offset : array.offset + len(array) + 1]
    return found, np.frombuffer(data, np.uint8) if data is not None and data.size else np.empty(0, np.uint8)
