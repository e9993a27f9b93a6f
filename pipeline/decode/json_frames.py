"""JSON events with the registry's framing before them, or without: the id of a JSON Schema is no more than stepped over.

decode(frame + event) = decode(event)        a frame that is broken rejects its record
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.decode import json_blocks
from pipeline.decode.decoded import Decoded, merged
from pipeline.decode.frames import framed, opened
from pipeline.decode.schemas import Schemas
from pipeline.decode.values import Broken
from pipeline.definition.formats import Json
from pipeline.definition.source import Source
from pipeline.kernels import json


def decode(source: Source, values: pa.Array, schemas: Schemas) -> Decoded:
    """Decode a binary array of JSON events (null: tombstone), framed as the source's format says."""
    if source.format == Json():
        return json_blocks.decode(source, values)
    found = framed(values)
    rows = np.flatnonzero(found.ids)
    offsets: Any
    data: Any
    offsets, data = json.gather_texts(found.data, found.data[:0], found.begin, found.end, rows)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    inner = json_blocks.decode(source, pa.Array.from_buffers(pa.binary(), len(rows), buffers)).at(rows)
    unframed = np.flatnonzero(found.present & (found.ids == 0))
    rejected, order = merged(unframed, inner.rejected)

    def reasons() -> list[str]:
        told = [_reason(values[int(row)].as_py()) for row in unframed] + inner.reasons
        return [told[place] for place in order]

    return replace(inner, rejected=rejected, tombstones=values.null_count, _reasons=reasons)


def _reason(value: bytes) -> str:
    try:
        opened(value)
    except Broken as broken:
        return str(broken)
    raise AssertionError("a frame that is not broken was rejected")
