"""From Debezium's envelopes to the columns of the rows that they show: the inner format's decoder, one step further inside.

    decode(envelopes) = decode(their `after`, where op is c, r or u)        in = decoded + rejected + tombstones, for every block

A JSON event that begins with {"schema": is in Kafka Connect's wrapper: the schema, then the payload, and nothing more. Records of one
schema, byte for byte, are decoded together; its text is read once.
"""

import json as python_json
import re
from collections.abc import Iterator, Mapping
from dataclasses import make_dataclass, replace
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache, partial
from typing import Annotated, Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.columns.arrays import Ints, Mask, decimals, text_buffers, valid
from pipeline.decode import avro_blocks, json_frames
from pipeline.decode.avro_records import DAY_US, DAYS, decimal_cell
from pipeline.decode.decoded import Decoded, merged
from pipeline.decode.frames import Framed, plain
from pipeline.decode.json_records import _array
from pipeline.decode.schemas import Schemas
from pipeline.decode.values import Broken
from pipeline.definition.connect import Encoding, encoding
from pipeline.definition.constraints import Precision, Scale
from pipeline.definition.debezium import AFTER, IMAGES, OP, WITHOUT, Debezium
from pipeline.definition.formats import Avro, Json
from pipeline.definition.marks import At, Epoch, RecordTime
from pipeline.definition.paths import shown
from pipeline.definition.record import Column, in_event
from pipeline.definition.source import Source
from pipeline.kernels import avro, json

WRAPPER, MOST_SCHEMAS = b'{"schema":', 64  # of a block; further ones are decoded one by one
HINTS = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "bytes": bytes,
    "uuid": UUID,
    "time": time,
    "date": date,
    "datetime": datetime,
}
READ_AS = {"decimal": "bytes", "real": "float", "days": "int", "time": "int", "moment": "datetime"}
OP_NAME, TIME_NAME = "debezium_op", "debezium_time"
BARE = "null"  # the schema of events without one
PAYLOAD = re.compile(r'[ \t\r\n]*,[ \t\r\n]*"payload"[ \t\r\n]*:[ \t\r\n]*')
_scan = python_json.JSONDecoder().raw_decode


def decode(source: Source, values: pa.Array, schemas: Schemas) -> Decoded:
    """Decode a binary array of envelopes (null: tombstone); the columns that an image has."""
    form = source.format
    assert isinstance(form, Debezium)
    if isinstance(form.inner, Avro):
        return _images(source, avro_blocks.decode(_of_envelope(source, None), values, schemas), {}, len(values))
    if form.inner != Json():
        whole = json_frames.decode(_of_envelope(source, BARE), values, schemas)
        return _images(source, whole, _encodings(source, BARE), len(values))
    found = _nothing(source, values.null_count)
    for schema, rows, payloads, why in _groups(values):
        if why:
            part = replace(
                _nothing(source, 0), rejected=np.arange(len(rows)), _reasons=partial(list, [why] * len(rows))
            )
        else:
            inner = json_frames.decode(_of_envelope(source, schema), payloads, schemas)
            part = _images(source, inner, _encodings(source, schema), len(rows))
        found = found.joined(part.at(rows), set())
    return found


def _nothing(source: Source, tombstones: int) -> Decoded:
    """The answer about no record."""
    none = np.empty(0, np.int64)
    columns = {c.name: pa.array([], c.type.arrow) for c in in_event(source.columns)}
    return Decoded(none, columns, {}, none, tombstones, 0, None, list)


def _groups(values: pa.Array) -> Iterator[tuple[str, Ints, pa.Array, str]]:
    """(schema, rows, payloads, "") of the events of one schema at a time; a reason in the place of "" where a wrapper is broken."""
    held = plain(values)
    wrapped = _begins(values, WRAPPER)
    bare = np.flatnonzero(~wrapped & held.present)
    if len(bare):
        yield BARE, bare, values.take(pa.array(bare, pa.int64())), ""
    left, schemas = np.flatnonzero(wrapped), 0
    while len(left):
        schemas += 1
        first: bytes = values[int(left[0])].as_py()
        try:
            schema, start = _wrapper(first)
        except Broken as broken:
            yield BARE, left[:1], values[:0], str(broken)
            left = left[1:]
            continue
        same = np.arange(len(left)) == 0
        if schemas <= MOST_SCHEMAS:
            same = _begins(values.take(pa.array(left, pa.int64())), first[:start])
        rows, left = left[same], left[~same]
        yield schema, rows, _payloads(held, rows, start), ""


def _payloads(held: Framed, rows: Ints, start: int) -> pa.Array:
    """The payloads from `start` to the bracket that closes the wrapper; null where they are, "{", no JSON, where none closes it."""
    begin, end = held.begin + start, held.end - 1
    closed = (held.data[end[rows]] == ord("}")) & (end[rows] > begin[rows])
    if not closed.all():  # white space behind it, or cut off
        return pa.array(
            [_payload(held.data[held.begin[row] : held.end[row]].tobytes(), start) for row in rows], pa.binary()
        )
    offsets: Any
    data: Any
    offsets, data = json.gather_texts(held.data, held.data[:0], begin, end, rows)
    found = pa.Array.from_buffers(pa.binary(), len(rows), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    null = _mask(pc.equal(found, pa.scalar(b"null")))
    return pc.if_else(pa.array(~null), found, pa.scalar(None, pa.binary())) if null.any() else found


def _payload(value: bytes, start: int) -> bytes | None:
    whole = value.rstrip(b" \t\r\n")
    payload = whole[start:-1] if whole.endswith(b"}") and len(whole) > start else b"{"
    return None if payload == b"null" else payload


def _begins(values: pa.Array, prefix: bytes) -> Mask:
    """True where a value begins with the prefix; a null does not."""
    starts: Any = pc.starts_with
    return _mask(starts(values, prefix))


def _wrapper(value: bytes) -> tuple[str, int]:
    """(the schema's text, where the payload begins) of an event that begins with WRAPPER; Broken where no payload follows."""
    text = value.decode("latin-1")  # a character a byte
    begin = len(WRAPPER)
    while begin < len(text) and text[begin] in " \t\r\n":
        begin += 1
    try:
        _, end = _scan(text, begin)
        schema = value[begin:end].decode()
    except (ValueError, RecursionError):
        raise Broken("broken JSON in the schema before the payload") from None
    behind = PAYLOAD.match(text, end)
    if behind is None:
        raise Broken("a schema that no payload follows")
    return schema, behind.end()


def _mask(found: Any) -> Mask:
    return np.asarray(found.fill_null(False).to_numpy(zero_copy_only=False), np.bool_)


@lru_cache(maxsize=1024)
def _encodings(source: Source, schema: str) -> dict[str, Encoding]:
    """Column -> how events of that schema write it, where that is not as JSON does."""
    told = python_json.loads(schema)
    found = {c.name: encoding(told, (AFTER, *c.path), c) for c in in_event(source.columns)}
    return {name: one for name, one in found.items() if one is not None}


@lru_cache(maxsize=1024)
def _of_envelope(source: Source, schema: str | None) -> Source:
    """A source whose events are the envelopes, with each column as the inner format can read it; None: Avro, whose schema says it."""
    assert isinstance(source.format, Debezium)
    taken = {c.name for c in source.columns}
    op, at = (next(n for n in (name, f"{name}_of_envelope") if n not in taken) for name in (OP_NAME, TIME_NAME))
    encodings = _encodings(source, schema) if schema is not None else {}
    fields: list[tuple[str, Any]] = [(op, Annotated[str, At(OP)]), (at, Annotated[datetime, RecordTime()])]
    for column in in_event(source.columns):
        told = encodings.get(column.name)
        marks: list[Any] = [At(shown((AFTER, *column.path))), *column.marks]
        kind = column.type.kind
        if told is not None:
            kind = READ_AS[told.kind]
            marks = (
                marks[:1]
                if told.kind != "moment"
                else [m for m in marks if not isinstance(m, Epoch)] + [Epoch(told.unit)]
            )
        if kind == "decimal":
            marks.append(Scale(column.type.scale))
        elif kind == "wide":
            marks.append(Precision(column.type.digits, column.type.scale))
        fields.append((column.name, Annotated[(HINTS.get(kind, Decimal), *marks)] | None))
    record = make_dataclass("Envelope", fields, frozen=True)
    return Source(source.topic, record, key=op, event_time=at, identity=None, format=source.format.inner)


def _images(source: Source, envelopes: Decoded, encodings: Mapping[str, Encoding], records: int) -> Decoded:
    """The images that envelopes show, of a block of so many records."""
    declared = {c.name: c for c in in_event(source.columns)}
    (op,) = (array for name, array in envelopes.columns.items() if name not in declared)
    columns, breaches = dict[str, pa.Array](), dict(envelopes.breaches)
    why: dict[int, str] = {}
    for name, column in declared.items():
        columns[name] = envelopes.columns[name]
        if name in encodings and encodings[name].kind != "moment":
            columns[name], breach = _converted(column, encodings[name], columns[name], why)
            if breach is not None:
                breaches[name] = breach
    shows, without = (_mask(pc.is_in(op, pa.array(ops))) for ops in (IMAGES, WITHOUT))
    for row in np.flatnonzero(~(shows | without)):
        why.setdefault(
            int(row), f"op: {op[int(row)].as_py()!r} is no operation; allowed are {', '.join((*IMAGES, *WITHOUT))}"
        )
    bad = np.zeros(len(op), np.bool_)
    bad[list(why)] = True
    lost = np.zeros(records, np.bool_)
    lost[envelopes.rows[bad | without]] = True
    names = {name: breach for name, breach in breaches.items() if name in declared}
    found = replace(envelopes, columns=columns, breaches=names).without(lost, set())
    rejected, order = merged(envelopes.rejected, envelopes.rows[bad])

    def reasons() -> list[str]:
        both = envelopes.reasons + [why[int(row)] for row in np.flatnonzero(bad)]
        return [both[n] for n in order]

    skipped = int((without & ~bad).sum())
    return replace(found, rejected=rejected, tombstones=envelopes.tombstones + skipped, _reasons=reasons)


def _converted(column: Column, told: Encoding, array: pa.Array, why: dict[int, str]) -> tuple[pa.Array, Mask | None]:
    """The column from what was read in its place, and where it breaches its Scale; `why` gets the rows that cannot be."""
    if told.kind == "decimal":
        return _decimals(column, told.scale, array, why)
    null = ~valid(array)
    if told.kind == "real":
        for row in np.flatnonzero(~null):
            why.setdefault(
                int(row),
                f"{column.name}: a double where a decimal is declared; decimal.handling.mode=precise sends decimals",
            )
        return pa.array([None] * len(array), column.type.arrow), None
    values = np.asarray(array.fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    low, high, unit = (*DAYS, 1) if told.kind == "days" else (0, (DAY_US - 1) // told.scale, told.scale)
    for row in np.flatnonzero((values < low) | (values > high)):
        what = "day" if told.kind == "days" else "time of day"
        why.setdefault(int(row), f"{column.name}: {what} {values[row]} is out of range")
    whole = np.where((values < low) | (values > high), 0, values) * unit
    return pa.array(whole.astype(np.int32 if told.kind == "days" else np.int64), mask=null).view(
        column.type.arrow
    ), None


def _decimals(column: Column, scale: int, array: pa.Array, why: dict[int, str]) -> tuple[pa.Array, Mask | None]:
    """Decimals of big-endian integers: compiled where they fit 64 bits, one by one where not."""
    if column.type.kind == "decimal" and len(array):
        offsets, data = text_buffers(array)
        null = ~valid(array)
        values, breach, state = avro.read_decimals(offsets, data, null, column.type.scale - scale)
        if not (state != json.DECODED).any():
            mask = breach.view(np.bool_)
            return decimals(values, column.type.scale, null | mask), mask if mask.any() else None
    cells: list[Any] = []
    for row, held in enumerate(array.to_pylist()):
        try:
            cells.append(None if held is None else decimal_cell(held, scale, column))
        except Broken as broken:
            why.setdefault(row, f"{column.name}: {broken}")
            cells.append(None)
    return _array(column.type, cells)
