"""Records to columns, whatever their format: what an event has by its format's decoder, what the record has around it by this module's.

in = decoded + rejected + tombstones, for every block        decode(block) = decode(its records, one by one)
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from pipeline.decode import avro_blocks, json_frames
from pipeline.decode.decoded import Decoded
from pipeline.decode.frames import framed
from pipeline.decode.schemas import NO_SCHEMAS, Schemas
from pipeline.definition.formats import Avro, Format, Json
from pipeline.definition.source import Source

Decoder = Callable[[Source, pa.Array, Schemas], Decoded]  # of a binary array of values, null: tombstone
DECODERS: dict[type[Format], Decoder] = {Json: json_frames.decode, Avro: avro_blocks.decode}


def decode(source: Source, raw: pa.RecordBatch, schemas: Schemas = NO_SCHEMAS) -> Decoded:
    """Decode a batch of records (pipeline.log.log.RAW_SCHEMA); `schemas` for formats whose records name theirs by id."""
    return DECODERS[type(source.format)](source, raw.column("value"), schemas)


def unknown_ids(source: Source, raw: pa.RecordBatch, schemas: Schemas) -> list[int]:
    """The ids of schemas that decode() would have to ask for, which may take as long as a registry is away."""
    if not source.format.registered:
        return []
    ids = np.unique(framed(raw.column("value")).ids)
    return [int(id) for id in ids if id and not schemas.knows(int(id))]
