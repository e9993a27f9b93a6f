"""Avro files: records of one schema, with it at their head; each becomes a JSON document, whatever its unions hold.

rows = the records of the file, in its order
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np
import pyarrow as pa

from ingestion.json_tokens import dumped
from ingestion.origin import Reading, Rows
from ingestion.origins.format import FileFormat, Input, need
from pipeline.base.errors import OriginError

STRETCH_ROWS = 10_000
STRETCH_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class AvroFile(FileFormat):
    """An object container file of Avro; with its records' logical types: decimals, times, UUIDs."""

    suffixes: ClassVar[tuple[str, ...]] = (".avro",)

    def rows(self, given: Input, reading: Reading) -> Iterator[Rows]:
        fastavro = need("fastavro", "AvroFile()")
        number = 1
        try:
            records = fastavro.reader(given.stream)
            schema = records.writer_schema
            if not isinstance(schema, dict) or schema.get("type") != "record":
                raise OriginError(f"its values are no records, but {schema!r:.80}")
            while stretch := list(_stretch(records)):
                yield Rows.of_documents(pa.array(stretch, pa.binary()), np.arange(number, number + len(stretch)))
                number += len(stretch)
        except (OriginError, OSError):
            raise
        except Exception as error:  # fastavro has errors of any kind for bytes that are none
            said = " ".join(str(error).split()) or type(error).__name__
            raise OriginError(
                f"it is no Avro file behind row {number - 1:,}, or it ends too early: {said[:200]}"
            ) from None


def _stretch(records: Iterator[object]) -> Iterator[bytes]:
    size = 0
    for record in islice(records, STRETCH_ROWS):
        document = dumped(record)
        size += len(document)
        yield document
        if size > STRETCH_BYTES:
            return


__all__ = ["AvroFile"]
