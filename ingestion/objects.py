"""Python objects as Arrow: what an API, a driver, a topic or a user's function gives, without a value changed on the way.

    as written(arrow(values)) = as written(values)        a column whose values have one type has it; of several types it is text

A whole number that fits has int64; numbers with a fraction stay decimals, so that neither an amount nor a float is rounded here (a float
is had from a decimal by way of its text: pyarrow's own cast to float may be off by one unit). Objects and lists nest, and nothing is null
but None. The types are those of one batch, and the next may have others: a column that is null throughout has the type null.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from ingestion.origin import BATCH_ROWS, BrokenRow, Rows

INT64 = range(-(2**63), 2**63)
EXACT_FLOATS = 2**53  # whole numbers up to here are floats exactly
DIGITS = 76  # of the widest decimal
BATCH_BYTES = 16 * 1024 * 1024  # about, of rows that are given at once
RAW_LIMIT = 10_000  # characters of a broken row that are kept


@dataclass(frozen=True)
class Lost:
    """In the place of an object that could not be had: why, and the text of it that there is."""

    reason: str
    raw: str = ""


def to_rows(items: Sequence[Any], first: int = 1, unit: str = "row") -> Rows:
    """The objects as Rows, numbered from `first`; one that is no object (a mapping with names as keys) is a broken row."""
    broken = []
    for number, item in enumerate(items, first):
        if isinstance(item, Lost):
            broken.append(BrokenRow(number, item.reason, item.raw[:RAW_LIMIT].encode("utf-8", "replace")))
        elif not isinstance(item, Mapping):
            broken.append(BrokenRow(number, f"is no object but {kind(item)}", written(item)[:RAW_LIMIT].encode()))
        elif not all(isinstance(name, str) for name in item):
            raw = repr(dict(item))[:RAW_LIMIT].encode("utf-8", "replace")
            broken.append(BrokenRow(number, "has a name that is no text", raw))
    numbers = np.arange(first, first + len(items), dtype=np.int64)
    if broken:
        whole = np.ones(len(items), bool)
        whole[[one.number - first for one in broken]] = False
        items, numbers = [item for item, good in zip(items, whole, strict=True) if good], numbers[whole]
    return Rows(batch_of(items), numbers, tuple(broken), unit)


def in_batches(items: Iterable[Any], unit: str = "row", limit: int | None = None) -> Iterator[Rows]:
    """The objects as Rows of about BATCH_BYTES and at most BATCH_ROWS, numbered from 1; no more than `limit` of them."""
    chunk: list[Any] = []
    first, size = 1, 256
    iterator = iter(items)
    while limit is None or first + len(chunk) <= limit:
        item = next(iterator, iterator)
        if item is iterator:
            break
        chunk.append(item)
        if len(chunk) == size:
            rows = to_rows(chunk, first, unit)
            yield rows
            first, chunk, size = first + len(chunk), [], next_size(rows.batch, size)
    if chunk:
        yield to_rows(chunk, first, unit)


def next_size(batch: pa.RecordBatch, size: int) -> int:
    """Number of rows to take next, so that a batch has about BATCH_BYTES: at most eight times as many as now."""
    wide = max(1, batch.nbytes // max(1, batch.num_rows))
    return max(1, min(BATCH_ROWS, size * 8, BATCH_BYTES // wide))


def batch_of(items: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """A batch with a row for each object and a column for each name, in the order in which they come first; what is absent is null."""
    names = list(dict.fromkeys(name for item in items for name in item))
    if not names:
        empty: Any = pa.array([{}] * len(items), pa.struct([]))
        return pa.RecordBatch.from_struct_array(empty)
    columns = [column([item.get(name) for item in items]) for name in names]
    return pa.RecordBatch.from_arrays(columns, names=names)


def column(values: Sequence[Any]) -> pa.Array:
    """An array of the values with the type that all of them have, else of their texts."""
    types = set(map(type, values)) - {type(None)}
    if not types:
        return pa.nulls(len(values))
    made: pa.Array | None = None
    if types <= {dict} or all(issubclass(one, Mapping) for one in types):
        made = _structs(values)
    elif types <= {list, tuple}:
        made = _lists(values)
    elif bool not in types and types <= {int, float, Decimal}:
        made = _numbers(values, types)
    elif len(types) == 1 and (build := BUILDERS.get(next(iter(types)))) is not None:
        made = build(values)
    return made if made is not None else pa.array([None if v is None else text(v) for v in values], pa.string())


def text(value: Any) -> str:
    """A value as text: a text as it is, what nests as JSON, everything else as it is written."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # a lone surrogate, which JSON can write, is no text
    if isinstance(value, Mapping | list | tuple):
        return written(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    return str(value)


def kind(value: Any) -> str:
    """The name of a value's type in JSON's words, for messages."""
    names = {
        type(None): "null",
        bool: "true or false",
        str: "a text",
        list: "a list",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "a number" if isinstance(value, Decimal) else type(value).__name__)


def parse_json(body: str | bytes) -> Any:
    """JSON, every number exact (Decimal where it has a fraction or exponent); ValueError for NaN, a name twice, and what is no JSON."""
    return json.loads(body, parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(n for n in names if names.count(n) > 1)!r} stands twice in an object")
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def written(value: Any) -> str:
    """A value as JSON, its numbers as they are (json.dumps takes no Decimal); what JSON does not know is a text."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{written(str(name))}: {written(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, Decimal) and value.is_finite():
        return str(value)
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value)
    return json.dumps(text(value), ensure_ascii=False)


def _structs(values: Sequence[Mapping[str, Any] | None]) -> pa.Array | None:
    names = list(dict.fromkeys(name for one in values if one is not None for name in one))
    if not names or not all(isinstance(name, str) for name in names):
        return None  # an object without names is as good as its text, "{}"; Parquet keeps no struct without fields
    children = [column([None if one is None else one.get(name) for one in values]) for name in names]
    absent = pa.array([one is None for one in values], pa.bool_())
    fields = [pa.field(name, child.type) for name, child in zip(names, children, strict=True)]
    return pa.StructArray.from_arrays(children, fields=fields, mask=absent)


def _lists(values: Sequence[Sequence[Any] | None]) -> pa.Array:
    lengths = [0 if one is None else len(one) for one in values]
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    elements = column([element for one in values if one is not None for element in one])
    absent = pa.array([one is None for one in values], pa.bool_())
    starts: Any = pa.array(offsets)
    made: pa.Array = pa.ListArray.from_arrays(starts, elements, mask=absent)
    return made


def _numbers(values: Sequence[Any], types: set[type]) -> pa.Array | None:
    if types == {int}:
        whole = [v for v in values if v is not None]
        if min(whole) in INT64 and max(whole) in INT64:
            return pa.array(values, pa.int64())
        return _decimals(values)
    if Decimal not in types:
        exact = all(abs(v) <= EXACT_FLOATS for v in values if type(v) is int)
        return pa.array([None if v is None else float(v) for v in values], pa.float64()) if exact else None
    return None if float in types else _decimals(values)


def _decimals(values: Sequence[Any]) -> pa.Array | None:
    """Decimals of the scale that holds them all; None where they do not fit, or one is not finite."""
    scale = whole = 0
    numbers = [None if v is None else Decimal(v) for v in values]
    for number in numbers:
        if number is None:
            continue
        exponent = number.as_tuple().exponent
        if not isinstance(exponent, int):
            return None
        scale, whole = max(scale, -exponent), max(whole, number.adjusted() + 1)
    if scale + whole > DIGITS:
        return None
    wide = scale + whole > 38
    return pa.array(numbers, pa.decimal256(DIGITS, scale) if wide else pa.decimal128(38, scale))


def _times(values: Sequence[datetime | None]) -> pa.Array | None:
    zoned = {v.tzinfo is not None for v in values if v is not None}
    if len(zoned) > 1:
        return None
    if zoned == {False}:
        return pa.array(values, pa.timestamp("us"))
    return pa.array([None if v is None else v.astimezone(UTC) for v in values], pa.timestamp("us", "UTC"))


def _texts(values: Sequence[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([None if v is None else text(v) for v in values], pa.string())


def _clock_times(values: Sequence[time | None]) -> pa.Array | None:
    return None if any(v.tzinfo for v in values if v is not None) else pa.array(values, pa.time64("us"))


def _bytes(values: Sequence[Any]) -> pa.Array:
    return pa.array([None if v is None else bytes(v) for v in values], pa.binary())


BUILDERS: dict[type, Callable[[Sequence[Any]], pa.Array | None]] = {
    str: _texts,
    bool: lambda values: pa.array(values, pa.bool_()),
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
    datetime: _times,
    date: lambda values: pa.array(values, pa.date32()),
    time: _clock_times,
    timedelta: lambda values: pa.array(values, pa.duration("us")),
    UUID: lambda values: pa.array([None if v is None else str(v) for v in values], pa.string()),
}
