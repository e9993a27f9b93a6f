"""Parquet: columns with their types, read a stretch at a time.

rows = the rows of the file, in its order
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq

from ingestion.origin import BATCH_ROWS, Reading, Rows
from ingestion.origins.format import FileFormat, Input, check_columns

STRETCH_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Parquet(FileFormat):
    """A Parquet file; its types are the columns'."""

    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")

    def rows(self, given: Input, reading: Reading) -> Iterator[Rows]:
        with given.seekable() as opened:
            any_file: Any = opened
            with pq.ParquetFile(any_file, pre_buffer=False) as file:
                check_columns(file.metadata.num_columns)
                number = 1
                for batch in file.iter_batches(batch_size=_batch_rows(file.metadata), use_threads=False):
                    yield Rows(batch, np.arange(number, number + batch.num_rows), unit="row")
                    number += batch.num_rows


def _batch_rows(metadata: Any) -> int:
    """Rows that are read at once: fewer where they are wide."""
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    widest = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=1)
    return int(max(1, min(BATCH_ROWS, STRETCH_BYTES / max(1, widest))))


__all__ = ["Parquet"]
