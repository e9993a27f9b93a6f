"""The new rows of a reading, of a feed with a cursor column.

new = rows above `since`, and those at it that were not sent, without those that were rejected before
a rejected row counts once, in whatever readings it comes        accepted by a mended rule, a replay sends it, and this does not

So each rejected row of a reading is remembered: a reading with more of them than MOST_TIES is refused, and nothing of it is sent or kept.
"""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.cursor_values import as_text, from_text
from ingestion.feed_cursor import MOST_TIES, Cursor, mark
from ingestion.feed_spool import Spooled
from pipeline.base.errors import Refused
from pipeline.base.types import ColumnType


class Sieve:
    """One reading of a feed, against its cursor; `advance` moves that. Refused where more rows are rejected than can be remembered."""

    def __init__(self, cursor: Cursor, type: ColumnType, feed: str) -> None:
        self._cursor, self._feed = cursor, feed
        self.since = None if cursor.since is None else from_text(cursor.since, type.kind)
        self._least = pa.scalar(self.since, type.arrow)
        self._ties, self._before = Counter(cursor.ties), set(cursor.refused)
        self._refused: dict[str, None] = {}  # a set that keeps its order, so that the same reading is the same cursor

    @property
    def refused(self) -> list[str]:
        """Marks of the rejected rows of this reading."""
        return [*self._refused]

    def new(self, rows: Spooled) -> Spooled:
        """Rows among these that were not sent."""
        rows = self._never_rejected(rows)
        if self.since is None:
            return rows
        kept = np.array(pc.greater(rows.cursors, self._least).to_numpy(zero_copy_only=False), bool)
        for at in np.flatnonzero(pc.equal(rows.cursors, self._least).to_numpy(zero_copy_only=False)).tolist():
            known = mark(_bytes(rows.values[at]))
            kept[at] = self._ties[known] <= 0
            self._ties[known] -= 1
        chosen = pa.array(kept)
        return Spooled(*(column.filter(chosen) for column in rows))

    def _never_rejected(self, rows: Spooled) -> Spooled:
        """Rows without those that the reading before had rejected, which are told by their bytes; they stay remembered."""
        if not self._before:
            return rows
        marks = [mark(_bytes(value)) for value in rows.values]
        known = [one for one in marks if one in self._before]
        if not known:
            return rows
        self._refused |= dict.fromkeys(known)
        chosen = pa.array([one not in self._before for one in marks], pa.bool_())
        return Spooled(*(column.filter(chosen) for column in rows))

    def newly_rejected(self, rejected: pa.Table) -> pa.Table:
        """Rejected rows that the reading before had not; Refused where there are too many to be remembered."""
        marks = [mark(_bytes(raw)) for raw in rejected.column("raw")]
        self._refused |= dict.fromkeys(marks)
        if len(self._refused) > MOST_TIES:
            last = rejected.slice(rejected.num_rows - 1).to_pylist()[0]
            command = f"watershed feed {self._feed}"
            raise Refused(
                f"feed {self._feed}: more than {MOST_TIES:,} different rows of one reading are rejected, and each would have to be"
                f" remembered, so that nothing of it was sent; one is {last['part']}, {last['unit']} {last['number']}: {last['reason']}."
                f" Allowed are {MOST_TIES:,}: mend the record's rules, or the rows where they come from, and run `{command}` again",
                repair=command,
            )
        return rejected.filter(pa.array([one not in self._before for one in marks], pa.bool_()))

    def advance(self, chunk: Spooled) -> None:
        """Count the rows, in the order of the cursor, as sent; Refused where too many have one value."""
        last = chunk.cursors[len(chunk.cursors) - 1]
        at = pc.equal(chunk.cursors, last)
        ties = [mark(_bytes(value)) for value in chunk.values.filter(at)]
        text = as_text(last.as_py())
        self._cursor.ties = (self._cursor.ties if text == self._cursor.since else []) + ties
        self._cursor.since = text
        if len(self._cursor.ties) > MOST_TIES:
            raise Refused(
                f"feed {self._feed}: more than {MOST_TIES:,} rows have the cursor value {text}, and each would have to be remembered:"
                " choose a column of finer values"
            )


def _bytes(value: Any) -> bytes:
    found: bytes = value.as_py()
    return found


__all__ = ["Sieve"]
