"""From Avro values to columns of the declared types, block by block: one kernel over all records, whichever schemas wrote them.

    decode(values) = decode_records(values)        in = decoded + rejected + tombstones, for every block

The writer's schema is the one that the id in a record's frame names, or the one of the format. A declared column is resolved against it
by its path: what the writer lacks is null, what it has and the column cannot read rejects the record.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.columns.arrays import Ints
from pipeline.decode.avro_programs import Program, program
from pipeline.decode.avro_records import reader
from pipeline.decode.by_record import decoded_by_record
from pipeline.decode.decoded import Compiled, Decoded, assembled
from pipeline.decode.frames import Framed, framed, opened, plain
from pipeline.decode.json_blocks import Parsed
from pipeline.decode.schemas import Schema, Schemas
from pipeline.decode.tokens import Read, is_token
from pipeline.decode.values import TIME_MAX_US, TIME_MIN_US, Broken
from pipeline.definition import avro
from pipeline.definition.avro import SchemaError, Type
from pipeline.definition.formats import Avro
from pipeline.definition.marks import Zone
from pipeline.definition.record import Column, in_event
from pipeline.definition.source import Source
from pipeline.kernels import avro as kernel
from pipeline.kernels import json

AVRO = "AVRO"


def decode(source: Source, values: pa.Array, schemas: Schemas) -> Decoded:
    """Decode a binary array of Avro events (null: tombstone); the columns that an event has. It may wait for a registry."""
    assert isinstance(source.format, Avro)
    own, columns = source.format.text, in_event(source.columns)
    found = framed(values) if own is None else plain(values)
    writers: list[Schema | None] = [Schema(AVRO, own)] if own is not None else []
    which = np.where(found.present & (found.end > found.begin), 0, -1)  # an empty value is no event
    if own is None:
        ids, places = np.unique(found.ids, return_inverse=True)
        writers = [schemas.schema(int(id)) if id else None for id in ids]
        which = np.where(found.ids > 0, places, -1)
    made = [_program(writer, columns) for writer in writers]
    usable = np.array([isinstance(one, Program) for one in made] + [False])  # -1: none
    lost = found.present & ~usable[which]
    which = np.where(usable[which], which, -1)
    parsed = _run(found, which, [one if isinstance(one, Program) else NOTHING for one in made], columns)
    parsed.state[lost] = json.BROKEN
    rows = np.flatnonzero((parsed.state == json.DECODED) & found.present)
    compiled = Compiled(parsed.state, rows, *parsed.columns(columns, rows))
    return assembled(values, compiled, lambda chosen: decode_records(source, chosen, schemas))


def decode_records(source: Source, values: pa.Array, schemas: Schemas) -> Decoded:
    """Decode them record by record."""
    assert isinstance(source.format, Avro)
    own, columns = source.format.text, in_event(source.columns)

    def read(value: bytes) -> list[Any]:
        if own is not None:
            if not value:
                raise Broken("empty value")
            return reader(type_of(Schema(AVRO, own)), columns)(value)
        id, body = opened(value)
        writer = schemas.schema(id)
        if writer is None:
            raise Broken(f"schema id {id}, which the registry does not know")
        if writer.kind != AVRO:
            raise Broken(f"schema id {id} is of kind {writer.kind}, and Avro is declared")
        try:
            type = type_of(writer)
        except SchemaError as error:
            raise Broken(f"schema id {id} cannot be read: {error}") from None
        return reader(type, columns)(body)

    return decoded_by_record(columns, values, read)


@lru_cache(maxsize=1024)
def type_of(schema: Schema) -> Type:
    """The type that a writer's schema declares; SchemaError where it is none."""
    return avro.parse(schema.text, schema.references)


@lru_cache(maxsize=1024)
def _program(schema: Schema | None, columns: tuple[Column, ...]) -> Program | None:
    """The program for a writer's schema; None where there is no schema, or none that can be read."""
    if schema is None or schema.kind != AVRO:
        return None
    try:
        return program(type_of(schema), columns)
    except SchemaError:
        return None


NOTHING = Program(np.empty(0, np.int64), b"", 0, 0)


def _run(found: Framed, which: Ints, programs: list[Program], columns: tuple[Column, ...]) -> Parsed:
    row, name, starts = 0, 0, []
    for one in programs:
        starts += [row, name]
        row, name = row + len(one.rows) // kernel.WIDTH, name + len(one.names)
    ops = np.concatenate([one.rows for one in programs] or [NOTHING.rows])
    names = np.frombuffer(b"".join(one.names for one in programs), np.uint8)
    floats = sum(column.type.kind == "float" for column in columns)
    entries = max((one.entries for one in programs), default=0)
    uuids = max((one.uuids for one in programs), default=0)
    rest: list[Any]
    state, *rest = kernel.read_bodies(
        *(found.begin, found.end, found.data, which.astype(np.int64), np.array(starts or [0, 0], np.int64), ops, names),
        *(len(columns), floats, entries, uuids, TIME_MIN_US, TIME_MAX_US),
    )
    parsed = Parsed(found.data, state, *rest)
    for number, column in enumerate(columns):
        zone = column.mark(Zone)
        if zone is not None:
            parsed.set_clock(number, zone)
        if is_token(column):  # wherever it is not null, the kernel has left the record to the other reader
            parsed.second[number] = Read(pa.array([None] * len(state), column.type.arrow), None, state)
    return parsed
