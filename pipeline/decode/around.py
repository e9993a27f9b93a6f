"""Columns whose values are not in an event, but in the record around it: its key, its timestamp, its headers.

column[i] = what record i has there, or null; a record whose bytes are no such value is broken
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.base.types import TIME_MAX, TIME_MIN
from pipeline.columns.arrays import Ints, Mask, text_buffers, valid
from pipeline.decode.tokens import keeps_nul
from pipeline.definition.marks import FromRecord, Header, RecordKey, RecordTime
from pipeline.definition.record import Column
from pipeline.kernels import texts

SHOWN = 40  # bytes of a value in a reason
Found = tuple[pa.Array, Mask]  # the values, and where they are broken


def read_around(column: Column, raw: pa.RecordBatch) -> Found:
    """A column with a mark FromRecord, for every record of a batch (RAW_SCHEMA); what is broken is null."""
    mark = column.mark(FromRecord)
    match mark:
        case RecordTime():
            return _times(column, raw)
        case RecordKey():
            return READERS[column.type.kind](column, raw.column("key"))
        case Header(name):
            return READERS[column.type.kind](column, _header(raw, name))
    raise TypeError(f"{column.name}: nothing reads {mark}")


def why_broken(column: Column, raw: pa.RecordBatch, row: int) -> str:
    """Reason for which that record's value is broken."""
    match column.mark(FromRecord):
        case RecordTime():
            at = raw.column("timestamp_ms")[row]
            return f"{column.name}: the record's timestamp {at} is out of range: allowed are the years 2 to 9999"
        case Header(name):
            what, value = f"header {name!r}", _header(raw, name)[row].as_py()
        case _:
            what, value = "the record's key", raw.column("key")[row].as_py()
    shown = repr(value if len(value) <= SHOWN else value[: SHOWN - 3] + b"...")[1:]
    wanted = {"str": "UTF-8 text without U+0000", "int": "a whole number of 64 bits"}[column.type.kind]
    return f"{column.name}: {what} is {shown}, where {wanted} is declared"


def _times(column: Column, raw: pa.RecordBatch) -> Found:
    milliseconds = np.asarray(raw.column("timestamp_ms").to_numpy(), np.int64)
    least, most = (int(moment.timestamp()) * 1000 for moment in (TIME_MIN, TIME_MAX))
    broken = (milliseconds >= 0) & ((milliseconds < least) | (milliseconds > most + 999))
    none = (milliseconds < 0) | broken
    return pa.array(np.where(none, 0, milliseconds) * 1000, mask=none).view(column.type.arrow), broken


def _header(raw: pa.RecordBatch, name: str) -> pa.Array:
    """The value of each record's last header of that name, null without one; binary."""
    headers = raw.column("headers")
    records: Ints = np.asarray(pc.call_function("list_parent_indices", [headers]).to_numpy(), np.int64)
    entries: Any = pc.call_function("list_flatten", [headers])
    places = np.flatnonzero(
        np.asarray(pc.equal(entries.field("key"), pa.scalar(name)).to_numpy(zero_copy_only=False), np.bool_)
    )
    last = np.full(raw.num_rows, -1, np.int64)
    np.maximum.at(last, records[places], places)
    found: pa.Array = entries.field("value").take(pa.array(last, mask=last < 0))
    return found


def _text(column: Column, values: pa.Array) -> Found:
    offsets, data = text_buffers(values)
    there = valid(values)
    broken = ~texts.are_texts(offsets, data, there, 0 if keeps_nul(column) else 1)
    if not broken.any():
        return values.cast(pa.string()), broken
    kept = pc.if_else(pa.array(broken), pa.scalar(None, pa.binary()), values)
    return kept.cast(pa.string()), broken


def _integer(column: Column, values: pa.Array) -> Found:
    offsets, data = text_buffers(values)
    there = valid(values)
    found, known = texts.integers(offsets, data, there)
    return pa.array(found, mask=~(there & known)), ~known


READERS: dict[str, Callable[[Column, pa.Array], Found]] = {"str": _text, "int": _integer}
