"""Records to columns, whatever their format: what an event has by its format's decoder, what the record has around it by this module's.

in = decoded + rejected + tombstones, for every block        decode(block) = decode(its records, one by one)
"""

from collections.abc import Callable

import pyarrow as pa

from pipeline.decode import json_blocks, protobuf_blocks
from pipeline.decode.decoded import Decoded
from pipeline.decode.schemas import NoSchemas, Schemas
from pipeline.definition.formats import Format, Json, Protobuf
from pipeline.definition.source import Source

Decoder = Callable[[Source, pa.Array, Schemas], Decoded]  # of a binary array of values, null: tombstone
DECODERS: dict[type[Format], Decoder] = {Json: json_blocks.decode, Protobuf: protobuf_blocks.decode}
NO_SCHEMAS = NoSchemas()


def decode(source: Source, raw: pa.RecordBatch, schemas: Schemas = NO_SCHEMAS) -> Decoded:
    """Decode a batch of records (pipeline.log.log.RAW_SCHEMA); `schemas` for formats whose records name theirs by id."""
    return DECODERS[type(source.format)](source, raw.column("value"), schemas)
