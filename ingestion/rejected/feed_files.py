"""Rejected rows of feeds, in the lake: a chain of files, and in each what became of rows of those before it.

    rejected rows of a feed = Σ over the chain of files, from the one that its committed cursor names to the first
    replayed = Σ over the chain of what a file says was taken        so a replay is its records, its file and its cursor: one transaction

A file is written before the transaction that names it; one of a transaction that was not committed is named by none.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from uuid import uuid4

import numpy as np
import pyarrow as pa

from ingestion.rejected.rows import OPEN, REPLAYED, SCHEMA, KeptRows, Ranges, mask_of
from pipeline.definition.source import Source
from pipeline.lake import layout
from pipeline.lake.lake import Lake

BEFORE, TAKEN, AT, RECORD = b"before", b"taken", b"at", b"record"


def write_rejects(
    lake: Lake, feed: str, rows: pa.Table, before: str, source: Source, taken: Mapping[str, Ranges] | None = None
) -> str:
    """The path of a new file with these rows (SCHEMA), which names the one `before` it ("" where there is none).

    `taken` are the rows of files before that a replay takes: path -> places.
    """
    path = layout.feed_rejects(feed, uuid4().hex)
    about = {
        BEFORE: before.encode(),
        TAKEN: json.dumps(dict(taken or {})).encode(),
        AT: datetime.now(UTC).isoformat().encode(),
        RECORD: record_mark(source).encode(),
    }
    lake.write_table(path, SCHEMA.with_metadata(about), [rows])
    return path


def read_rejects(lake: Lake, newest: str) -> Iterator[KeptRows]:
    """The feed's files of rejected rows, newest first, from the one that its cursor names."""
    taken: dict[str, Ranges] = {}
    while newest:
        table = lake.read_table(newest)
        about = table.schema.metadata or {}
        for path, ranges in json.loads(about[TAKEN]).items():
            taken.setdefault(path, []).extend(ranges)
        gone = mask_of(taken.get(newest, []), table.num_rows)
        state = np.where(gone, REPLAYED, OPEN).astype(np.int8)
        yield KeptRows(newest, 0, datetime.fromisoformat(about[AT].decode()), table, state)
        newest = about[BEFORE].decode()


def record_mark(source: Source) -> str:
    """Names, paths and types of the columns: where it is the same, a row that an origin gives again has the same JSON as before."""
    told = repr([(column.name, column.path, str(column.type)) for column in source.columns])
    return blake2b(told.encode(), digest_size=8).hexdigest()


def recorded_mark(kept: KeptRows) -> str:
    """The record_mark of the source as it was when the file was written."""
    return (kept.rows.schema.metadata or {})[RECORD].decode()


__all__ = ["read_rejects", "record_mark", "recorded_mark", "write_rejects"]
