"""The states of one view in one segment, in memory: what Postgres holds for the segment, plus what is not committed yet.

    memory = committed rows ⊕ rows asked for ⊕ folds since        changed() = the groups whose state is not committed

Folds are kept as they come and merged when somebody asks, or when they are many: one merge costs as much as another, however few rows.
While a commit of what was asked for is under way they only wait: if it moves the segment, they belong to the next one alone.

Rows are only appended; the newest row of a group is the one its hash points at. After a commit whose outcome is unknown this object is
thrown away; after one that was refused because of a cut, undo() leaves the committed rows.
"""

import numpy as np
import pyarrow as pa

from pipeline.columns.arrays import Ints
from pipeline.columns.hash_table import HashTable
from pipeline.columns.hashing import Hashes
from pipeline.definition.view import View
from pipeline.fold.fold import combine, group_hashes
from pipeline.fold.states import state_schema

GARBAGE = 65_536  # superseded rows that are tolerated before memory is compacted
RECENT_ROWS = 4_096
WAITING_ROWS = 65_536  # of folds that are not merged yet


class Rows:
    """A table that is appended to and taken from, in two pieces without chunks: Arrow copies a table of chunks whole for every take."""

    def __init__(self, rows: pa.Table) -> None:
        self._settled, self._recent = rows, rows.slice(0, 0)

    def __len__(self) -> int:
        return int(self._settled.num_rows + self._recent.num_rows)

    def append(self, rows: pa.Table) -> None:
        """Add rows behind the others."""
        self._recent = pa.concat_tables([self._recent, rows]).combine_chunks()
        if self._recent.num_rows > max(RECENT_ROWS, self._settled.num_rows // 4):
            self._settled, self._recent = (
                pa.concat_tables([self._settled, self._recent]).combine_chunks(),
                self._recent.slice(0, 0),
            )

    def take(self, numbers: Ints) -> pa.Table:
        """The rows of these numbers, in no order."""
        settled = numbers < self._settled.num_rows
        pieces = (self._settled, numbers[settled]), (self._recent, numbers[~settled] - self._settled.num_rows)
        return pa.concat_tables(
            [table.take(pa.array(of, pa.int64())) for table, of in pieces if len(of)] or [self._recent.slice(0, 0)]
        )

    def first(self, count: int) -> pa.Table:
        """The rows with a number below `count`."""
        return pa.concat_tables([self._settled, self._recent]).slice(0, count).combine_chunks()


class SegmentStates:
    """One row per group, found by the hash of its key and window."""

    def __init__(self, view: View, committed: pa.Table | None = None) -> None:
        self.view = view
        self._reset(committed if committed is not None else state_schema(view).empty_table())

    def _reset(self, committed: pa.Table) -> None:
        """Hold just these rows, which Postgres holds too."""
        self._rows = Rows(state_schema(self.view).empty_table())
        self._hashes: Hashes = np.empty((0, 2), np.uint64)
        self._newest = HashTable()
        self._waiting: list[pa.Table] = []
        self._committed = 0  # rows below it are in Postgres, or superseded
        self._asked: int | None = None  # rows below it are in the commit that is under way
        if committed.num_rows:
            self._append(committed)
            self._committed = len(self._rows)

    def __len__(self) -> int:
        return len(self._newest)

    def merge(self, delta: pa.Table) -> None:
        """Merge a table of states (one row per group) into the memory."""
        if delta.num_rows:
            self._waiting.append(delta)
        if self._asked is None and sum(table.num_rows for table in self._waiting) > WAITING_ROWS:
            self._settle()

    def _settle(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = pa.concat_tables(self._waiting).combine_chunks(), []
        found = np.unique(self._newest.find(group_hashes(self.view, waiting)))
        known = self._rows.take(found[found >= 0])
        self._append(combine(self.view, [known, waiting]))

    def changed(self) -> pa.Table:
        """The newest rows of the groups that changed since the last commit: for a commit, which mark_committed() or undo() ends."""
        assert self._asked is None, "one commit at a time"
        self._settle()
        self._asked = len(self._rows)
        rows = np.arange(self._committed, len(self._rows))
        return self._rows.take(rows[self._newest.find(self._hashes[self._committed :]) == rows])

    def mark_committed(self) -> None:
        """Postgres holds what the last changed() gave."""
        assert self._asked is not None, "nothing was asked for"
        self._committed, self._asked = self._asked, None
        if len(self._rows) > 2 * len(self) + GARBAGE:
            rows = np.arange(len(self._rows))
            live = self._rows.take(rows[self._newest.find(self._hashes) == rows]).combine_chunks()
            waiting = self._waiting
            self._reset(live)
            self._waiting = waiting

    def next_segment(self) -> "SegmentStates":
        """The memory of the segment that begins where the commit under way ends, now that it has landed."""
        assert self._asked is not None, "nothing was asked for"
        following = SegmentStates(self.view)
        following._waiting = self._waiting
        return following

    def undo(self) -> None:
        """Forget what was merged since the last commit."""
        self._reset(self._rows.first(self._committed))

    def _append(self, rows: pa.Table) -> None:
        hashes = group_hashes(self.view, rows)
        start = len(self._rows)
        self._newest.put(hashes, np.arange(start, start + len(hashes)))
        self._rows.append(rows)
        self._hashes = np.concatenate((self._hashes, hashes))
