"""The answer that recomputing the log up to a vector of positions gives, by the plain-Python reference, which shares no kernel.

    answer(v, vector) = fold, row by row, of the accepted rows of log_p[0, vector_p)        memory: one list of rows per group

An oracle shares nothing of the protocol with what it judges, on purpose: no segment, no batch, no store, and no cut but those that say
from where on which version of a table counts. It knows the log, that ledger and the definitions of one generation, and that is all.
Decoding, validation and deduplication of each record happen once, in log order; only the fold is repeated, for groups that changed.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from pipeline.definition.view import View
from pipeline.handover import Counts, Cut, Vector, ViewCounts
from pipeline.plain import Reference
from pipeline.plain.groups import new_group, value_of
from pipeline.plain.lookup import PlainTables, ReadRows, no_rows
from pipeline.plain.reference import _View as ReferenceView
from pipeline.plain.reference import window_start
from simulation.memory_log import Partition

Group = tuple[Any, ...]


class _Folded(ReferenceView):
    """A view of the reference that keeps the rows it would fold, by group."""

    def __init__(self, view: View, tables: PlainTables) -> None:
        super().__init__(view, tables)
        self.kept: dict[Group, list[list[tuple[int, Any, dict[str, Any]]]]] = {}
        self.partitions = 0

    def _add(self, row: dict[str, Any], partition: int, offset: int, number: int) -> None:
        # Its window by the reference's own spelling, never by Window: an oracle shares nothing
        time = row[self.view.source.event_time]
        group = (*(row[name] for name in self.view.key), window_start(time, self.view.window))
        by_partition = self.kept.setdefault(group, [[] for _ in range(self.partitions)])
        by_partition[partition].append((offset, (time, partition, offset, number), row))


class Oracle:
    """Answers for one log. Vectors are per partition next offsets."""

    def __init__(
        self, views: Sequence[View], log: Sequence[Partition], ledger: Sequence[Cut] = (), rows: ReadRows = no_rows
    ) -> None:
        self.views = {v.name: v for v in views}
        self._offsets = [[r[0] for r in p.records] for p in log]
        self._folded: dict[str, _Folded] = {}
        self._counts: list[list[Counts]] = []
        self._view_counts: dict[str, list[list[ViewCounts]]] = {v.name: [] for v in views}
        self._values: dict[tuple[str, Group, tuple[int, ...]], dict[str, Any]] = {}
        tables = PlainTables(ledger, rows)
        reference = Reference(views, tables=tables)
        for view in views:
            folded = _Folded(view, tables)
            folded.partitions = len(log)
            self._folded[view.name] = reference._views[view.name] = folded
        for number, partition in enumerate(log):
            self._feed(reference, number, partition)

    def _feed(self, reference: Reference, number: int, partition: Partition) -> None:
        totals = [Counts()]
        by_view = {name: [ViewCounts()] for name in self.views}
        for record in partition.records:
            reference.feed(number, [record])
            totals.append(Counts(*reference.counts[number]))
            for name, found in by_view.items():
                found.append(ViewCounts(*reference.view_counts[name, number]))
        self._counts.append(totals)
        for name, found in by_view.items():
            self._view_counts[name].append(found)

    def answer(self, view: str, positions: Vector) -> dict[Group, dict[str, Any]]:
        """(key columns..., window_start) -> aggregate -> value, at these positions."""
        found = {}
        for group, rows in self._folded[view].kept.items():
            counts = tuple(bisect_left(r, (at,)) for r, at in zip(rows, positions, strict=True))
            if any(counts):
                found[group] = self._value(view, group, rows, counts)
        return found

    def _value(self, view: str, group: Group, rows: Any, counts: tuple[int, ...]) -> dict[str, Any]:
        at = (view, group, counts)
        if at not in self._values:
            made = {}
            for name, aggregate, type, kind in self._folded[view]._aggregates:
                made[name] = new_group(kind, aggregate, type)
                for partition, count in zip(rows, counts, strict=True):
                    for _, place, row in partition[:count]:
                        made[name].add(place, value_of(aggregate, row))
            self._values[at] = {name: one.value() for name, one in made.items()}
        return self._values[at]

    def counts(self, partition: int, position: int) -> Counts:
        """Counts of the records of [start, position), by outcome."""
        return self._counts[partition][bisect_left(self._offsets[partition], position)]

    def view_counts(self, view: str, partition: int, position: int) -> ViewCounts:
        """Counts of the accepted ones in a view, by outcome."""
        return self._view_counts[view][partition][bisect_left(self._offsets[partition], position)]
