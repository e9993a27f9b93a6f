"""List of the rows that the loads of a table, or a feed, rejected and nobody has taken through since.

kept rows = open + replayed + superseded        counts are of all open rows that are wanted, whatever the limit
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.rejected.rows import OPEN, REPLAYED, SUPERSEDED, KeptRows, RowsWanted
from pipeline.accept.reasons import shape


@dataclass(frozen=True)
class RejectedRow:
    """One open row; `maker` is the version that rejected it (0: a feed), `at` when that was."""

    maker: int
    at: datetime
    part: str
    version: str
    number: int
    unit: str
    reason: str
    raw: bytes


@dataclass
class RowListing:
    """Open rows, the newest file's first, as many as the limit lets; counts of all of them by the shape of the reason.

    `replayed` rows were taken by a replay, `superseded` ones read again by a later load; `lost` were too many to be kept.
    """

    kind: str
    name: str
    rows: list[RejectedRow] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    replayed: int = 0
    superseded: int = 0
    lost: int = 0

    @property
    def total(self) -> int:
        return self.counts.total()


def listing_of(kind: str, name: str, kept: Iterable[KeptRows], wanted: RowsWanted, limit: int) -> RowListing:
    """The open rows that are wanted, of files that come newest first."""
    found = RowListing(kind, name)
    for one in kept:
        found.replayed += int((one.state == REPLAYED).sum())
        found.superseded += int((one.state == SUPERSEDED).sum())
        found.lost += one.lost if (one.state == OPEN).any() else 0
        rows = one.rows.take(pa.array(np.flatnonzero(wanted.mask(one)), pa.int64()))
        told: Any = rows.column("reason").value_counts()
        for pair in told.to_pylist():
            found.counts[shape(pair["values"])] += pair["counts"]
        for row in rows.slice(0, max(0, limit - len(found.rows))).to_pylist():
            row.pop("event")
            found.rows.append(RejectedRow(one.maker, one.at, **row))
    return found


__all__ = ["RejectedRow", "RowListing", "listing_of"]
