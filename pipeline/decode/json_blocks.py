"""From raw JSON values to columns of the declared types, block by block: compiled where it is certain, record by record where not.

    decode(values) = decode_records(values)        in = decoded + rejected + tombstones, for every block

Strict RFC 8259: one object, UTF-8, no NaN, at most DEPTH_LIMIT levels. Unknown fields are ignored; a missing field is null; a name that a
declared path goes through is given once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.columns.arrays import Ints, Mask, decimals, valid
from pipeline.decode.decoded import Compiled, Decoded, Recorded, assembled, element_names
from pipeline.decode.json_layout import Layout, of_element, of_event
from pipeline.decode.json_records import DEPTH_LIMIT, LITERAL_LIMIT, decode_records
from pipeline.decode.schemas import Schemas
from pipeline.decode.tokens import Read, Tokens, is_token, read
from pipeline.decode.values import TIME_MAX_US, TIME_MIN_US
from pipeline.definition.marks import Zone
from pipeline.definition.record import Column
from pipeline.kernels import elements, json

EXPLODED_BYTES = 4 * 1024 * 1024  # of texts whose elements are parsed at once


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
    second: dict[int, Read] = field(default_factory=dict)  # the columns of TOKENs, by number

    def columns(self, declared: Sequence[Column], rows: Ints) -> tuple[dict[str, pa.Array], dict[str, Mask]]:
        """The declared columns in these rows, and where those breach their Scale that do."""
        found = {c.name: self.column(n, c, rows) for n, c in enumerate(declared)}
        breaches = {name: breach for name, (_, breach) in found.items() if breach is not None}
        return {name: array for name, (array, _) in found.items()}, breaches

    def column(self, number: int, column: Column, rows: Ints) -> tuple[pa.Array, Mask | None]:
        """The values of a column in these rows, and where its Scale is breached, if anywhere."""
        whole = len(rows) == len(self.state)
        if number in self.second:
            return self.second[number].of(None if whole else rows)
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

    def set_clock(self, number: int, zone: Zone) -> None:
        """Make moments of what a clock on the wall shows, which the kernel has left as a breach."""
        rows = np.flatnonzero((self.breaches[number] != 0) & (self.state == json.DECODED))
        if not len(rows):
            return
        moments, known = zone.clock.utc(self.values[number, rows])
        self.values[number, rows] = moments
        self.nulls[number, rows] = self.breaches[number, rows] = 0
        self.state[rows[~known | (moments < TIME_MIN_US) | (moments > TIME_MAX_US)]] = json.BROKEN

    def read_tokens(self, number: int, column: Column) -> None:
        """The second pass over a column of TOKENs; a row that its type cannot hold is no longer DECODED."""
        null = self.nulls[number] | (self.state != json.DECODED)
        places = (self.values[number], self.ends[number], self.breaches[number])
        found = self.second[number] = read(column, Tokens(self.data, self.texts, *places, null))
        lost = np.flatnonzero(found.state)
        self.state[lost] = found.state[lost]

    def _texts(self, number: int, rows: Ints, mask: Mask | None) -> pa.Array:
        offsets: Any
        data: Any
        offsets, data = json.gather_texts(self.data, self.texts, self.values[number], self.ends[number], rows)
        validity = None if mask is None else pa.py_buffer(np.packbits(~mask, bitorder="little").tobytes())
        return pa.Array.from_buffers(pa.string(), len(rows), [validity, pa.py_buffer(offsets), pa.py_buffer(data)])


def decode(source: Recorded, values: pa.Array, schemas: Schemas | None = None) -> Decoded:
    """Decode a binary array of JSON events (null: tombstone); the columns that an event has."""
    layout = of_event(source.record, source.exploded)
    begins, stops, data = _texts_of(values)
    if source.exploded and len(values) > 1 and stops[-1] - begins[0] > EXPLODED_BYTES:
        return _in_halves(source, values)
    outer = _parse(layout, begins, stops, data, valid(values))
    inner = _elements(source, layout, outer) if source.exploded else None
    rows = np.flatnonzero(outer.state == json.DECODED)
    if values.null_count:
        rows = rows[valid(values)[rows]]
    columns, breaches = outer.columns(layout.columns, rows)
    elements: Ints | None = None
    if inner is not None:
        elements, more, more_breaches = inner.of(rows)
        columns, breaches = columns | more, breaches | more_breaches
    found = Compiled(outer.state, rows, columns, breaches, elements)
    return assembled(values, found, lambda chosen: decode_records(source, chosen), element_names(source))


def _in_halves(source: Recorded, values: pa.Array) -> Decoded:
    """The same, of one half and then the other: an element of three bytes has 26 for each column while it is parsed."""
    half = len(values) // 2
    one, other = decode(source, values[:half]), decode(source, values[half:])
    return one.joined(other.at(np.arange(half, len(values))), element_names(source))


@dataclass(frozen=True)
class _Elements:
    """The elements of the arrays of a block that decode, in order: `row` int64, the event of each."""

    row: Ints
    layout: Layout
    parsed: Parsed

    def of(self, rows: Ints) -> tuple[Ints, dict[str, pa.Array], dict[str, Mask]]:
        """(event, columns, breaches) of the elements of these events."""
        chosen = np.flatnonzero(np.isin(self.row, rows, kind="table" if len(rows) else None))
        return self.row[chosen], *self.parsed.columns(self.layout.columns, chosen)


def _elements(source: Recorded, layout: Layout, outer: Parsed) -> _Elements:
    """The elements of all events; an event of which one does not decode becomes BROKEN, or UNSURE, itself."""
    span, data = layout.exploded, outer.data
    there = (outer.state == json.DECODED) & (outer.nulls[span] == 0)
    row, begins, stops = elements.elements(data, outer.values[span], outer.ends[span], there)
    inner = of_element(source.record, source.exploded)
    is_null = data[begins] == ord("n")  # RFC 8259 allows no other value that begins so
    parsed = _parse(inner, begins, stops, data, ~is_null)
    outer.state[row[parsed.state == json.UNSURE]] = json.UNSURE
    outer.state[row[parsed.state == json.BROKEN]] = json.BROKEN
    return _Elements(row, inner, parsed)


def _texts_of(values: pa.Array) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(first byte, place behind the last, data) of the texts; int32."""
    buffers: Any = values.buffers()
    _, offsets, data = buffers
    held = np.frombuffer(data, np.uint8) if data is not None and data.size else np.empty(0, np.uint8)
    if offsets is None or len(values) == 0:
        bounds = np.zeros(len(values) + 1, np.int32)
    else:
        bounds = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    return bounds[:-1], bounds[1:], held


def _parse(layout: Layout, begins: Any, stops: Any, data: np.ndarray[Any, Any], present: Mask) -> Parsed:
    found = json.parse_events(begins, stops, data, present, *layout.arrays, TIME_MIN_US, TIME_MAX_US)
    parsed = Parsed(data, *found)
    for number, column in enumerate(layout.columns):
        zone = column.mark(Zone)
        if zone is not None:
            parsed.set_clock(number, zone)
        if is_token(column):
            parsed.read_tokens(number, column)
    return parsed


__all__ = ["DEPTH_LIMIT", "LITERAL_LIMIT", "decode"]
