"""Arrow arrays as JSON tokens, one a value: what an event would have at a column's place.

    json.loads(token[i]) = the value i        null stays null        no loop over values, but for nested ones

Of a textual origin every value is text, so a column of numbers is written as its text says where that is a number of JSON, and as text
where not, which the decoder then rejects with its own words.
"""

import base64
import json
import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from pipeline.columns.arrays import fixed_buffers, text_buffers, valid
from pipeline.definition.record import Column

pc: Any = pyarrow.compute  # whose stubs take fewer types than it does
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
NUMBERS = {"int", "float", "decimal", "wide"}
NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
BLANKS = " \t\r\n"
ESCAPES = ((b"\\", b"\\\\"), (b'"', b'\\"'), *((bytes([n]), b"\\u%04x" % n) for n in range(32)))
ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)
HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
DASHED = np.r_[0:8, 9:13, 14:18, 19:23, 24:36]  # places of the digits in a UUID's text


def tokens(array: pa.Array, column: Column, textual: bool) -> pa.Array:
    """JSON tokens (binary) of a column's values as an origin has them; `textual`: text may be a number's. Nested values go by Python."""
    array = _plain(array)
    kind, type = column.type.kind, array.type
    if pa.types.is_null(type):
        return pa.nulls(len(array), pa.binary())
    if _is_text(type):
        return _texts(array.cast(pa.binary()), column) if textual else quoted(array.cast(pa.binary()))
    if pa.types.is_boolean(type) or pa.types.is_integer(type) or pa.types.is_decimal(type):
        return array.cast(pa.string()).cast(pa.binary())
    if pa.types.is_floating(type):
        return _floats(array)
    if pa.types.is_temporal(type) and not (pa.types.is_duration(type) or pa.types.is_interval(type)):
        return quoted(_times(array).cast(pa.binary()))
    if _is_binary(type):
        if kind == "uuid" and pa.types.is_fixed_size_binary(type) and type.byte_width == 16:
            return quoted(_uuids(array))
        # Bytes in a column of text are text, or no event at all: the decoder says which byte is none of UTF-8's.
        return quoted(array.cast(pa.binary()) if kind == "str" else _base64(array.cast(pa.binary())))
    return by_python(array)


def quoted(texts: pa.Array) -> pa.Array:
    """JSON strings of binary UTF-8 texts; what is no UTF-8 stays, for the decoder to refuse."""
    needs: Any = pc.match_substring_regex(texts, r'["\\\x00-\x1f]')
    if pc.any(needs).as_py():
        rows = needs.fill_null(False)
        texts = pc.replace_with_mask(texts, rows, _escaped(texts.filter(rows)))
    return joined(b'"', texts, b'"')


def joined(*parts: pa.Array | bytes) -> pa.Array:
    """Concatenation of binary arrays and constants, row by row; null where one is."""
    given = [pa.scalar(part, pa.binary()) if isinstance(part, bytes) else part for part in parts]
    found: pa.Array = pc.binary_join_element_wise(*given, pa.scalar(b"", pa.binary()))
    return found


def by_python(array: pa.Array) -> pa.Array:
    """JSON tokens of nested values, one after the other."""
    return pa.array([None if one is None else dumped(one) for one in array.to_pylist()], pa.binary())


def dumped(value: Any) -> bytes:
    """One Python value as JSON: the slow equal of tokens()."""
    return _dumped(value).encode("utf-8", "surrogatepass")


def _dumped(value: Any) -> str:
    match value:
        case dict():
            inner = (f"{json.dumps(str(name), ensure_ascii=False)}:{_dumped(one)}" for name, one in value.items())
            return "{" + ",".join(inner) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_dumped, value)) + "]"
        case float() if not math.isfinite(value):
            return json.dumps({math.inf: "inf", -math.inf: "-inf"}.get(value, "nan"))
        case Decimal() if value.is_finite():
            return str(value)
        case datetime():
            return json.dumps(_moment(value))
        case date():
            return json.dumps(value.isoformat())
        case time():
            return json.dumps(value.isoformat("microseconds"))
        case bytes():
            return json.dumps(base64.b64encode(value).decode())
        case None | bool() | int() | float() | str():
            return json.dumps(value, ensure_ascii=False)
    return json.dumps(str(value), ensure_ascii=False)


def _moment(value: datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat(timespec="microseconds")
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _plain(array: pa.Array) -> pa.Array:
    """The array without dictionary, runs, or extension."""
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary_decode()
    if isinstance(array, pa.RunEndEncodedArray):
        array = pc.run_end_decode(array)
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _is_text(type: pa.DataType) -> bool:
    return pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type)


def _is_binary(type: pa.DataType) -> bool:
    return (
        pa.types.is_binary(type)
        or pa.types.is_large_binary(type)
        or pa.types.is_binary_view(type)
        or pa.types.is_fixed_size_binary(type)
    )


def _escaped(texts: pa.Array) -> pa.Array:
    for one, by in ESCAPES:
        if pc.any(pc.match_substring(texts, one)).as_py():
            texts = pc.replace_substring(texts, one, by)
    return texts


def _texts(texts: pa.Array, column: Column) -> pa.Array:
    """Tokens of values that are all written as text."""
    kind = column.type.kind
    if kind == "str":
        found = quoted(texts)
        return _without(found, pc.equal(pc.binary_length(texts), 0)) if column.nullable else found
    trimmed: Any = pc.ascii_trim(_as_string(texts), BLANKS).cast(pa.binary()) if _has_blanks(texts) else texts
    if kind in NUMBERS or kind == "bool":
        pattern = NUMBER if kind in NUMBERS else "^(true|false)$"
        bare: Any = pc.match_substring_regex(trimmed, pattern)
        found = trimmed if not pc.any(pc.invert(bare)).as_py() else pc.if_else(bare, trimmed, quoted(trimmed))
    else:
        if kind == "datetime":  # a sheet has no other midnight
            days: Any = pc.match_substring_regex(trimmed, DAY)
            trimmed = pc.if_else(days, joined(trimmed, b"T00:00:00"), trimmed) if pc.any(days).as_py() else trimmed
        found = quoted(trimmed)
    return _without(found, pc.equal(pc.binary_length(trimmed), 0))


def _as_string(texts: pa.Array) -> pa.Array:
    """The same bytes as text, unchecked."""
    return pa.Array.from_buffers(pa.string(), len(texts), texts.buffers(), offset=texts.offset)


def _has_blanks(texts: pa.Array) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, r"^[ \t\r\n]|[ \t\r\n]$")).as_py())


def _without(values: pa.Array, empty: Any) -> pa.Array:
    if not pc.any(empty).as_py():
        return values
    found: pa.Array = pc.if_else(empty, pa.scalar(None, pa.binary()), values)
    return found


def _floats(array: pa.Array) -> pa.Array:
    """Shortest numbers that are the same double; what is no number is text."""
    array = array.cast(pa.float64())
    texts: Any = array.cast(pa.string()).cast(pa.binary())
    finite: Any = pc.is_finite(array)
    found: pa.Array = texts if pc.all(finite).as_py() in (True, None) else pc.if_else(finite, texts, quoted(texts))
    return found


def _times(array: pa.Array) -> pa.Array:
    """ISO 8601: of a moment in UTC, with Z; of a time without a zone, without."""
    if pa.types.is_date(array.type):
        return array.cast(pa.date32()).cast(pa.string())
    if not pa.types.is_timestamp(array.type):
        return array.cast(pa.string())
    if array.type.tz is not None:
        array = array.cast(pa.timestamp(array.type.unit, "UTC"))
    found: pa.Array = pc.replace_substring(array.cast(pa.string()), " ", "T", max_replacements=1)
    return found


def _uuids(array: pa.Array) -> pa.Array:
    """Texts of UUIDs, from their 16 bytes."""
    _, data = fixed_buffers(array)
    rows = data.reshape(-1, 16)
    digits = HEX[np.stack((rows >> 4, rows & 15), axis=2).reshape(-1, 32)]
    out = np.full((len(rows), 36), ord("-"), np.uint8)
    out[:, DASHED] = digits
    return _binary(np.arange(len(rows) + 1, dtype=np.int64) * 36, out.ravel(), array)


def _base64(array: pa.Array) -> pa.Array:
    """Base64 with padding: each value's bytes are laid out in threes, of which four letters are made at once."""
    offsets, data = text_buffers(array)
    lengths = np.diff(offsets).astype(np.int64)
    threes = -(-lengths // 3)
    firsts = np.r_[0, np.cumsum(threes)]
    laid = np.zeros(int(firsts[-1]) * 3, np.uint8)
    total = int(lengths.sum())
    if total:
        places = np.arange(total) + np.repeat(firsts[:-1] * 3 - np.r_[0, np.cumsum(lengths)[:-1]], lengths)
        laid[places] = data[offsets[0] : offsets[-1]]
    words = laid.reshape(-1, 3).astype(np.uint32)
    whole = words[:, 0] << 16 | words[:, 1] << 8 | words[:, 2]
    letters = ALPHABET[np.stack((whole >> 18, whole >> 12 & 63, whole >> 6 & 63, whole & 63), axis=1)]
    lasts = firsts[1:][threes > 0] - 1
    missing = (threes * 3 - lengths)[threes > 0]
    letters[lasts[missing > 0], 3] = ord("=")
    letters[lasts[missing > 1], 2] = ord("=")
    return _binary(firsts * 4, letters.ravel(), array)


def _binary(offsets: Any, data: Bytes, like: pa.Array) -> pa.Array:
    """A binary array with the nulls of another."""
    there = valid(like)
    validity = None if there.all() else pa.py_buffer(np.packbits(there, bitorder="little").tobytes())
    data = np.ascontiguousarray(data)
    return pa.Array.from_buffers(
        pa.binary(), len(there), [validity, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data.data)]
    )


__all__ = ["by_python", "dumped", "joined", "quoted", "tokens"]
