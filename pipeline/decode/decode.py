"""Records to columns, whatever their format: what an event has by its format's decoder, what the record has around it by this module's.

in = decoded + rejected + tombstones, for every block        decode(block) = decode(its records, one by one)
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from pipeline.decode import avro_blocks, debezium, json_frames, protobuf_blocks
from pipeline.decode.around import read_around, why_broken
from pipeline.decode.decoded import Decoded, element_names, merged
from pipeline.decode.frames import framed
from pipeline.decode.schemas import NO_SCHEMAS, Schemas
from pipeline.definition.debezium import Debezium
from pipeline.definition.formats import Avro, Format, Json, Protobuf
from pipeline.definition.record import Column
from pipeline.definition.source import Source

Decoder = Callable[[Source, pa.Array, Schemas], Decoded]  # of a binary array of values, null: tombstone
DECODERS: dict[type[Format], Decoder] = {
    Json: json_frames.decode,
    Avro: avro_blocks.decode,
    Debezium: debezium.decode,
    Protobuf: protobuf_blocks.decode,
}


def decode(source: Source, raw: pa.RecordBatch, schemas: Schemas = NO_SCHEMAS) -> Decoded:
    """Decode a batch of records (pipeline.log.log.RAW_SCHEMA); `schemas` for formats whose records name theirs by id."""
    found = DECODERS[type(source.format)](source, raw.column("value"), schemas)
    around = [column for column in source.columns if not column.path]
    return _with_what_is_around(source, around, raw, found) if around else found


def unknown_ids(source: Source, raw: pa.RecordBatch, schemas: Schemas) -> list[int]:
    """The ids of schemas that decode() would have to ask for, which may take as long as a registry is away."""
    if not source.format.registered:
        return []
    ids = np.unique(framed(raw.column("value")).ids)
    return [int(id) for id in ids if id and not schemas.knows(int(id))]


def _with_what_is_around(source: Source, around: list[Column], raw: pa.RecordBatch, found: Decoded) -> Decoded:
    """The same with the columns of the records around the events; a record with a broken one is rejected, a tombstone has none."""
    read = {column.name: read_around(column, raw) for column in around}
    bad = np.zeros(raw.num_rows, np.bool_)
    for _, broken in read.values():
        bad |= broken
    lost = found.rows[bad[found.rows]]
    if len(lost):
        found = found.without(bad, element_names(source))
    take = pa.array(found.rows, pa.int64())
    columns = found.columns | {name: values.take(take) for name, (values, _) in read.items()}
    if not len(lost):
        return replace(found, columns=columns)
    rejected, order = merged(found.rejected, lost)

    def reasons() -> list[str]:
        first = [next(c for c in around if read[c.name][1][row]) for row in lost]
        both = found.reasons + [why_broken(c, raw, int(row)) for c, row in zip(first, lost, strict=True)]
        return [both[n] for n in order]

    return replace(found, columns=columns, rejected=rejected, _reasons=reasons)
