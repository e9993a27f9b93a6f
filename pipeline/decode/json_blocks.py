"""From raw JSON values to columns of the declared types, block by block: compiled where it is certain, record by record where not.

    decode(values) = decode_records(values)        in = decoded + rejected + tombstones, for every block

Strict RFC 8259: one object, UTF-8, no NaN, at most DEPTH_LIMIT levels. Unknown fields are ignored; a missing field is null; a name that a
declared path goes through is given once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.base.stages import stage
from pipeline.columns.arrays import Ints, Mask, decimals, valid
from pipeline.decode.decoded import Decoded
from pipeline.decode.json_records import DEPTH_LIMIT, LITERAL_LIMIT, DecodedRecords, decode_records
from pipeline.decode.schemas import Schemas
from pipeline.decode.values import TIME_MAX_US, TIME_MIN_US
from pipeline.definition.marks import UNITS, Epoch, Lenient, Zone
from pipeline.definition.paths import tree
from pipeline.definition.record import Column, in_event
from pipeline.definition.record import columns as columns_of
from pipeline.definition.source import Source
from pipeline.kernels import json, times

KINDS = {
    "int": json.INT,
    "decimal": json.DECIMAL,
    "float": json.FLOAT,
    "str": json.STR,
    "bool": json.BOOL,
    "datetime": json.DATETIME,
    "date": json.DATE,
}


@dataclass(frozen=True)
class Parsed:
    """Answer of a kernel about a block, one row an event; see kernels.json.parse_events."""

    data: np.ndarray[Any, Any]
    state: np.ndarray[Any, Any]
    values: np.ndarray[Any, Any]
    ends: np.ndarray[Any, Any]
    reals: np.ndarray[Any, Any]
    nulls: np.ndarray[Any, Any]
    breaches: np.ndarray[Any, Any]
    texts: np.ndarray[Any, Any]

    def column(self, number: int, column: Column, rows: Ints) -> tuple[pa.Array, Mask | None]:
        """The values of a column in these rows, and where its Scale is breached, if anywhere."""
        whole = len(rows) == len(self.state)
        null = self.nulls[number].view(np.bool_) if whole else self.nulls[number][rows].view(np.bool_)
        mask = null if null.any() else None
        if column.type.kind == "str":
            return self._texts(number, rows, mask), None
        if column.type.kind == "float":
            return pa.array(self.reals[number] if whole else self.reals[number][rows], mask=mask), None
        values = self.values[number] if whole else self.values[number][rows]
        if column.type.kind == "decimal":
            breach = self.breaches[number].view(np.bool_) if whole else self.breaches[number][rows].view(np.bool_)
            return decimals(values, column.type.scale, null), breach if breach.any() else None
        if column.type.kind == "bool":
            return pa.array(values.astype(np.bool_), mask=mask), None
        if column.type.kind == "date":
            return pa.array(values.astype(np.int32), mask=mask).view(column.type.arrow), None
        return pa.array(values, mask=mask).view(column.type.arrow), None

    def set_clocks(self, columns: Sequence[Column]) -> None:
        """Make moments of the times of columns with a zone, as far as they have none of their own."""
        for number, column in enumerate(columns):
            zone = column.mark(Zone)
            if zone is not None:
                self._set_clock(number, zone)

    def _set_clock(self, number: int, zone: Zone) -> None:
        """Make moments of what a clock on the wall shows, which the kernel has left as a breach."""
        rows = np.flatnonzero((self.breaches[number] != 0) & (self.state == json.DECODED))
        if not len(rows):
            return
        moments, known = zone.clock.utc(self.values[number, rows])
        self.values[number, rows] = moments
        self.nulls[number, rows] = self.breaches[number, rows] = 0
        self.state[rows[~known | (moments < TIME_MIN_US) | (moments > TIME_MAX_US)]] = json.BROKEN

    def _texts(self, number: int, rows: Ints, mask: Mask | None) -> pa.Array:
        offsets: Any
        data: Any
        offsets, data = json.gather_texts(self.data, self.texts, self.values[number], self.ends[number], rows)
        validity = None if mask is None else pa.py_buffer(np.packbits(~mask, bitorder="little").tobytes())
        return pa.Array.from_buffers(pa.string(), len(rows), [validity, pa.py_buffer(offsets), pa.py_buffer(data)])


def decode(source: Source, values: pa.Array, schemas: Schemas | None = None) -> Decoded:
    """Decode a binary array of JSON events (null: tombstone); the columns that an event has."""
    return assembled(source, values, _parse(source, values), lambda chosen: decode_records(source, chosen))


def assembled(
    source: Source, values: pa.Array, parsed: Parsed, by_record: Callable[[pa.Array], DecodedRecords]
) -> Decoded:
    """The values that a kernel decoded, with what the record-by-record parser makes of those that it leaves to that one."""
    unsure = np.flatnonzero(parsed.state == json.UNSURE)
    rows = np.flatnonzero(parsed.state == json.DECODED)
    if values.null_count:
        rows = rows[valid(values)[rows]]
    rejected = np.flatnonzero(parsed.state == json.BROKEN)
    found = {c.name: parsed.column(n, c, rows) for n, c in enumerate(in_event(source.columns))}
    columns = {name: array for name, (array, _) in found.items()}
    breaches = {name: breach for name, (_, breach) in found.items() if breach is not None}
    if len(unsure):
        with stage("parse_singly", len(unsure)):
            told = by_record(values.take(pa.array(unsure, pa.int64())))
        rejected = np.sort(np.concatenate((rejected, unsure[told.rejected])))
        both = np.concatenate((rows, unsure[told.rows]))
        order = np.argsort(both, kind="stable")
        take = pa.array(order, pa.int64())
        columns = {name: pa.concat_arrays([array, told.columns[name]]).take(take) for name, array in columns.items()}
        breaches = {name: _joined(breaches.get(name), told.breaches.get(name), rows, told.rows)[order] for name in columns
                    if name in breaches or name in told.breaches}  # fmt: skip
        rows = both[order]

    def reasons() -> list[str]:
        again = by_record(values.take(pa.array(rejected, pa.int64())))
        assert len(again.reasons) == len(rejected), "the compiled parser rejected a record that the other one takes"
        return again.reasons

    return Decoded(rows, columns, breaches, rejected, values.null_count, len(unsure), reasons)


def _joined(one: Mask | None, other: Mask | None, rows: Ints, told: Ints) -> Mask:
    first, second = np.zeros(len(rows), np.bool_), np.zeros(len(told), np.bool_)
    return np.concatenate((first if one is None else one, second if other is None else other))


@lru_cache(maxsize=64)
def _layout(record: type) -> Any:
    """The seven arrays names, starts, first, targets, places, kinds and scales of a record, as kernels.json.parse_events takes them."""
    columns = in_event(columns_of(record))
    nodes = [tree({c.name: c.path for c in columns})]
    first, targets, places, names = [0], list[int](), list[int](), list[bytes]()
    for node in nodes:  # grows while it is read: each object's entries come together, the event's own first
        for part, child in node.children.items():
            names.append(b"" if isinstance(part, int) else part.encode())
            places.append(part if isinstance(part, int) else -1)
            if isinstance(child, int):
                targets.append(child)
            else:
                targets.append(-len(nodes))
                nodes.append(child)
        first.append(len(targets))
    kinds = [json.EPOCH if c.mark(Epoch) else KINDS[c.type.kind] for c in columns]
    scales = [written(c) if c.type.kind == "datetime" else c.type.scale for c in columns]
    starts = np.cumsum([0, *map(len, names)])
    packed = np.frombuffer(b"".join(names), np.uint8)
    return packed, *(np.array(found, np.int64) for found in (starts, first, targets, places, kinds, scales))


def written(column: Column) -> int:
    """How the times of a column may be written, as kernels.times has it."""
    epoch = column.mark(Epoch)
    return times.written(
        UNITS[epoch.unit] if epoch else 0, lenient=column.mark(Lenient) is not None, zoned=column.mark(Zone) is not None
    )


def _parse(source: Source, values: pa.Array) -> Parsed:
    buffers: Any = values.buffers()
    _, offsets, data = buffers
    held = np.frombuffer(data, np.uint8) if data is not None and data.size else np.empty(0, np.uint8)
    if offsets is None or len(values) == 0:
        bounds = np.zeros(len(values) + 1, np.int32)
    else:
        bounds = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    names, starts, first, targets, places, kinds, scales = _layout(source.record)
    state, *found = json.parse_events(
        bounds, held, valid(values), names, starts, first, targets, places, kinds, scales, TIME_MIN_US, TIME_MAX_US
    )
    parsed = Parsed(held, state, *found)
    parsed.set_clocks(in_event(source.columns))
    return parsed


__all__ = ["DEPTH_LIMIT", "LITERAL_LIMIT", "decode"]
