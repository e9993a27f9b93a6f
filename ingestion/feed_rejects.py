"""Rejected rows of feeds, in the lake: what they were, why, and where they stood.

    rejected rows of a feed = Σ over the chain of files, from the one that its committed cursor names to the first

A file is written before the transaction that names it; one of a transaction that was not committed is named by none.
"""

from collections.abc import Iterator
from uuid import uuid4

import pyarrow as pa

from pipeline.lake import layout
from pipeline.lake.lake import Lake

FIELDS: list[pa.Field] = [
    pa.field("part", pa.string(), False),
    pa.field("version", pa.string(), False),
    pa.field("number", pa.int64(), False),
    pa.field("unit", pa.string(), False),
    pa.field("reason", pa.string(), False),
    pa.field("raw", pa.binary(), False),
]
SCHEMA = pa.schema(FIELDS)
BEFORE = b"before"


def write_rejects(lake: Lake, feed: str, rows: pa.Table, before: str) -> str:
    """The path of a new file with these rows (SCHEMA), which names the one `before` it ("" where there is none)."""
    path = layout.feed_rejects(feed, uuid4().hex)
    lake.write_table(path, SCHEMA.with_metadata({BEFORE: before.encode()}), [rows])
    return path


def read_rejects(lake: Lake, newest: str) -> Iterator[pa.Table]:
    """The feed's files of rejected rows, newest first, from the one that its cursor names."""
    while newest:
        table = lake.read_table(newest)
        yield table
        newest = (table.schema.metadata or {}).get(BEFORE, b"").decode()


__all__ = ["SCHEMA", "read_rejects", "write_rejects"]
