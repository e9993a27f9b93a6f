"""Rejected rows as the lake keeps them, of loads and feeds alike: where a row stood, why it was rejected, and what there is of it.

    rows of a file = open + replayed + superseded        ranges_of(mask) names the true places, mask_of(ranges_of(mask)) = mask

A file never changes. What became of its rows later is told by who took them: a replay's version of a table, a later file of a feed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.origin import Part
from ingestion.typed import RejectedRows
from pipeline.columns.arrays import Mask

FIELDS: list[pa.Field] = [
    pa.field("part", pa.string(), False),
    pa.field("version", pa.string(), False),  # of the part: "" where nobody knows
    pa.field("number", pa.int64(), False),
    pa.field("unit", pa.string(), False),
    pa.field("reason", pa.string(), False),
    pa.field("raw", pa.binary(), False),
    pa.field("event", pa.bool_(), False),  # `raw` is the row as a JSON event, which can be judged again
]
SCHEMA = pa.schema(FIELDS)
OPEN, REPLAYED, SUPERSEDED = 0, 1, 2
Ranges = list[list[int]]  # half-open, rising


@dataclass(frozen=True)
class KeptRows:
    """One file of rejected rows; `state` is OPEN, REPLAYED or SUPERSEDED. `maker` is the version that rejected them; 0: a feed.

    `lost` are rows that were rejected beside them and not kept, for they were too many.
    """

    path: str
    maker: int
    at: datetime
    rows: pa.Table
    state: "np.ndarray[Any, np.dtype[np.int8]]"
    lost: int = 0


def rejected_table(rejected: RejectedRows, part: Part, unit: str) -> pa.Table:
    """The rejected rows of a stretch of a part, with their places."""
    count = len(rejected)
    columns: list[Any] = [[part.name] * count, [part.version] * count, rejected.numbers, [unit] * count]
    columns += [list(rejected.reasons), list(rejected.raw), list(rejected.events)]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def ranges_of(mask: Mask) -> Ranges:
    """The places that are true, as ranges."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    found: Ranges = edges.reshape(-1, 2).tolist()
    return found


def mask_of(ranges: Sequence[Sequence[int]], count: int) -> Mask:
    """Mask of `count` places: true for those in one of the ranges."""
    found = np.zeros(count, np.bool_)
    for start, end in ranges:
        found[start:end] = True
    return found


@dataclass(frozen=True)
class RowsWanted:
    """Filter: a part of the reason, whatever its case; when they were rejected, at the earliest; places, each a part and a number in it."""

    reason: str = ""
    since_ms: int | None = None
    places: frozenset[tuple[str, int]] = frozenset()

    def mask(self, kept: KeptRows) -> Mask:
        """Mask of the rows of the file that are open, and wanted."""
        found = np.asarray(kept.state == OPEN, np.bool_)
        if self.since_ms is not None and kept.at.timestamp() * 1000 < self.since_ms:
            found[:] = False
        if self.reason:
            has = pc.match_substring(kept.rows.column("reason"), self.reason, ignore_case=True)
            found &= np.asarray(has.to_numpy(), np.bool_)
        if self.places:
            pairs = zip(kept.rows.column("part").to_pylist(), kept.rows.column("number").to_pylist(), strict=True)
            found &= np.fromiter((pair in self.places for pair in pairs), np.bool_, len(found))
        return found


__all__ = [
    "OPEN",
    "REPLAYED",
    "SCHEMA",
    "SUPERSEDED",
    "KeptRows",
    "Ranges",
    "RowsWanted",
    "mask_of",
    "ranges_of",
    "rejected_table",
]
