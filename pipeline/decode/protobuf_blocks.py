"""Protobuf messages to columns, block by block: compiled where it is certain, record by record where not.

    decode(values) = decode_records(values)        in = decoded + rejected + tombstones, for every block

Records are parsed together that name the same schema and message; what a schema lacks is null in all of its records.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.columns.arrays import Ints, Mask, decimals, valid
from pipeline.decode.decoded import BROKEN, DECODED, UNSURE, Compiled, Decoded, assembled
from pipeline.decode.protobuf_frames import bare, format_of, framed, key_of
from pipeline.decode.protobuf_layouts import Layout, layout
from pipeline.decode.protobuf_records import decode_records
from pipeline.decode.schemas import Schemas
from pipeline.decode.values import TIME_MAX_US, TIME_MIN_US
from pipeline.definition.protobuf_binding import Bound
from pipeline.definition.record import Column, in_event
from pipeline.definition.source import Source
from pipeline.kernels import json, protobuf


@dataclass(frozen=True)
class _Block:
    """A block's bytes, and the kernel's answers: one row a record, of n; see kernels.protobuf.parse_messages."""

    data: np.ndarray[Any, Any]
    begins: Ints
    stops: Ints
    state: np.ndarray[Any, Any]
    values: Ints
    ends: Ints
    reals: np.ndarray[Any, Any]
    nulls: np.ndarray[Any, Any]
    breaches: np.ndarray[Any, Any]

    def parse(self, rows: Ints, one: Layout, base: int) -> None:
        """Parse these rows by a layout, whose names begin at `base`."""
        if one.asked:
            self.state[rows] = UNSURE
            return
        protobuf.parse_messages(
            self.data, self.begins, self.stops, rows, one.table, one.first, one.firsts, one.defaults(base), one.enums(base), one.sizes,
            TIME_MIN_US, TIME_MAX_US, self.state, self.values, self.ends, self.reals, self.nulls, self.breaches,
        )  # fmt: skip

    def column(
        self, number: int, column: Column, rows: Ints, names: np.ndarray[Any, Any]
    ) -> tuple[pa.Array, Mask | None]:
        """The values of a column in these rows, and where its Scale is breached, if anywhere."""
        own = slice(number * len(self.state), (number + 1) * len(self.state))
        whole = len(rows) == len(self.state)
        null = self.nulls[own].view(np.bool_) if whole else self.nulls[own][rows].view(np.bool_)
        mask = null if null.any() else None
        kind = column.type.kind
        if kind == "str":
            offsets: Any
            text: Any
            offsets, text = json.gather_texts(self.data, names, self.values[own], self._shown(own), rows)
            validity = None if mask is None else pa.py_buffer(np.packbits(~null, bitorder="little").tobytes())
            array = pa.Array.from_buffers(pa.string(), len(rows), [validity, pa.py_buffer(offsets), pa.py_buffer(text)])
            return array, None
        if kind == "float":
            return pa.array(self.reals[own] if whole else self.reals[own][rows], mask=mask), None
        values = self.values[own] if whole else self.values[own][rows]
        if kind == "decimal":
            breach = self.breaches[own].view(np.bool_) if whole else self.breaches[own][rows].view(np.bool_)
            return decimals(values, column.type.scale, null), breach if breach.any() else None
        if kind == "bool":
            return pa.array(values.astype(np.bool_), mask=mask), None
        if kind == "date":
            return pa.array(values.astype(np.int32), mask=mask).view(column.type.arrow), None
        if kind in ("int", "datetime"):
            return pa.array(values, mask=mask).view(column.type.arrow), None
        return pa.array([None] * len(rows), column.type.arrow), None  # none, or the other parser had read them

    def _shown(self, own: slice) -> Ints:
        """Ends of a column's texts; a null has no bytes."""
        return np.where(self.nulls[own].view(np.bool_), self.values[own], self.ends[own])


def decode(source: Source, values: pa.Array, schemas: Schemas) -> Decoded:
    """Decode a binary array of messages (null: tombstone); the columns that an event has."""
    declared = in_event(source.columns)
    block = _block(values, declared)
    present = valid(values)
    names: list[bytes] = []
    base = len(block.data)
    for rows, bound in _groups(source, block, values, present, schemas):
        if isinstance(bound, str):
            block.state[rows] = BROKEN
            continue
        one = layout(bound)
        block.parse(rows, one, base)
        names.append(one.names)
        base += len(one.names)
    found = np.frombuffer(b"".join(names), np.uint8)
    rows = np.flatnonzero((block.state == DECODED) & present)
    columns, breaches = dict[str, pa.Array](), dict[str, Mask]()
    for number, column in enumerate(declared):
        columns[column.name], breach = block.column(number, column, rows, found)
        if breach is not None:
            breaches[column.name] = breach
    compiled = Compiled(block.state, rows, columns, breaches)
    return assembled(values, compiled, lambda chosen: decode_records(source, chosen, schemas))


def _block(values: pa.Array, declared: tuple[Column, ...]) -> _Block:
    buffers: Any = values.buffers()
    _, offsets, data = buffers
    n, cells = len(values), len(declared) * len(values)
    held = np.frombuffer(data, np.uint8) if data is not None and data.size else np.empty(0, np.uint8)
    bounds = np.zeros(n + 1, np.int32)
    if offsets is not None and n:
        bounds = np.frombuffer(offsets, np.int32)[values.offset : values.offset + n + 1]
    wide = bounds.astype(np.int64)
    reals = np.zeros(cells if any(c.type.kind == "float" for c in declared) else 0, np.float64)
    return _Block(
        held, wide[:-1], wide[1:].copy(), np.zeros(n, np.int8), np.zeros(cells, np.int64), np.zeros(cells, np.int64),
        reals, np.ones(cells, np.uint8), np.zeros(cells, np.uint8),
    )  # fmt: skip


def _groups(
    source: Source, block: _Block, values: pa.Array, present: Mask, schemas: Schemas
) -> Iterator[tuple[Ints, Bound | str]]:
    """The rows of each message type of a block, with what it is bound to, or why it is rejected; and put where their messages begin."""
    if format_of(source).schema is not None:
        yield np.flatnonzero(present), bare(source)
        return
    bounds = np.append(block.begins, block.stops[-1:]).astype(np.int32) if len(values) else np.zeros(1, np.int32)
    state, ids, keys, begins = protobuf.frames(bounds, block.data, present)
    block.state[:] = state
    block.begins[:] = begins
    rows = np.flatnonzero((state == DECODED) & present)
    if not len(rows):
        return
    own, which = ids[rows], keys[rows]
    order = np.lexsort((which, own)) if (own != own[0]).any() or (which != which[0]).any() else np.arange(len(rows))
    own, which = own[order], which[order]
    starts = np.flatnonzero(np.append(True, (own[1:] != own[:-1]) | (which[1:] != which[:-1])))
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        key = int(which[start])
        indexes = (key & (1 << 56) - 1).to_bytes(7, "little")[: key >> 56]
        yield rows[order[start:stop]], framed(source, int(own[start]), key_of(indexes), schemas)
