"""Deduplication, a rule over the log of one partition alone.

    duplicate(o)  <=>  some valid o' < o has the same identity and T(o) - T(o') <= horizon
    T(o) = max(T(o-1), min(timestamp(o), T(o-1) + an hour))       over all records that have a timestamp; of the first, its timestamp

A timestamp from the future moves T by an hour at most: it makes nothing forgotten that comes again soon. T never falls, so the latest o'
decides; the table keeps that one per identity, as a 128-bit hash. Entries that can never match again (T - T(o') > horizon) are dropped
when the table would grow.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.columns.arrays import Ints, Mask
from pipeline.columns.hash_table import HashTable
from pipeline.columns.hashing import Hashes
from pipeline.kernels import log_time, tables

Moment = tuple[int, int]  # (marks since the last keep(), T)


@dataclass(frozen=True)
class IdentitySnapshot:
    """Memory of a partition at `position`: identities (n, 2) uint64 with their latest T (n,) int64, and T itself, -1 before the first."""

    position: int
    watermark_ms: int
    hashes: Hashes
    seen_ms: Ints

    def in_order(self) -> "IdentitySnapshot":
        """The same, sorted by hash in its own arrays: equal memories give equal snapshots. As copied() gives it, one pass."""
        tables.sort_entries(self.hashes, self.seen_ms)
        return self


class Identities:
    """The identities of one partition that could still match. Not thread-safe; one owner."""

    def __init__(self, horizon_ms: int, snapshot: IdentitySnapshot | None = None) -> None:
        self.horizon_ms = horizon_ms
        self.watermark_ms = log_time.NONE
        self._table = HashTable()
        self._kept_ms: int | None = None  # T at the last keep()
        self._undo: list[tuple[Hashes, Ints]] = []  # per mark since: the hashes, and what each one's value was
        if snapshot is not None:
            self.watermark_ms = snapshot.watermark_ms
            self._table.put(snapshot.hashes, snapshot.seen_ms)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def table_bytes(self) -> int:
        """The size of the table: 32 to 64 bytes an identity, once there are some."""
        return self._table.keys.nbytes + self._table.values.nbytes

    def advance(self, timestamps_ms: Ints) -> Ints:
        """T of each record, in log order, for all records (valid or not); moves T."""
        times, self.watermark_ms = log_time.log_times(np.ascontiguousarray(timestamps_ms), self.watermark_ms)
        return times

    def mark(self, hashes: Hashes, times: Ints) -> Mask:
        """Mask of the valid records (log order; `times` from advance) that are duplicates; registers them all."""
        table = self._table
        # What is undone must find again what could match then.
        now_ms = self._kept_ms if self._kept_ms is not None else int(times[0]) if len(times) else self.watermark_ms
        table.reserve(len(hashes), max(now_ms - self.horizon_ms, 0))
        before = np.empty(0 if self._kept_ms is None else len(hashes), np.int64)
        duplicate, added = tables.mark_duplicates(table.keys, table.values, hashes, times, self.horizon_ms, before)
        table.filled += added
        if self._kept_ms is not None:
            self._undo.append((hashes, before))
        return duplicate

    def moment(self) -> Moment:
        """State that keep() needs to come back to the memory as it is now."""
        return len(self._undo), self.watermark_ms

    def keep(self, moment: Moment | None = None) -> None:
        """From now on the memory can be brought back to that moment since the last keep(), or to this: 24 bytes a valid record since."""
        marks, self._kept_ms = moment or self.moment()
        self._undo = self._undo[marks:]

    def undo(self) -> None:
        """Forget what came since the moment that was kept."""
        assert self._kept_ms is not None, "undo() goes back to a keep()"
        for hashes, before in reversed(self._undo):
            tables.restore(self._table.keys, self._table.values, hashes, before)
        self.watermark_ms, self._undo = self._kept_ms, []

    def snapshot(self, position: int) -> IdentitySnapshot:
        """Memory of the partition as of `position`, sorted by hash."""
        return self.copied(position).in_order()

    def copied(self, position: int) -> IdentitySnapshot:
        """The same, nearly in order: one pass over the table, arrays of its own, so that another thread can sort and write them."""
        return IdentitySnapshot(
            position, self.watermark_ms, *self._table.entries(max(self.watermark_ms - self.horizon_ms, 0))
        )
