"""A reader: what the merged view would answer now, and what is wrong with it.

    newest batch row of each group at or below the visible number  ⊕  Σ its live speed rows  =  the oracle's answer at position
    a generation before the one that answers stays as it was when it was replaced

The rows are those of the generation that answers, and so are the definitions that the oracle recomputes by.
"""

from collections.abc import Callable
from typing import Any

from pipeline.definition.view import View
from pipeline.fold.fold import combine
from pipeline.fold.states import group_columns, present
from pipeline.handover import ViewCounts
from simulation.memory_tables import GenerationTables, Group, Row, Rows, Tables
from simulation.oracle import Oracle

SHOWN = 3  # differing groups that a message lists


class Reader:
    """Answers groups from a cache as long as the rows they are made of stay the same."""

    def __init__(self, tables: Tables, oracle: Callable[[GenerationTables], Oracle]) -> None:
        self.tables, self._oracle_of = tables, oracle
        self._seen: dict[tuple[int, str], dict[Group, tuple[tuple[Row, ...], dict[str, Any]]]] = {}
        self._replaced: dict[int, Any] = {}

    @property
    def answering(self) -> GenerationTables:
        """The rows that the merged views read."""
        return self.tables.of(self.tables.answering)

    @property
    def oracle(self) -> Oracle:
        """Recomputes by the definitions of the generation that answers."""
        return self._oracle_of(self.answering)

    def rows(self, view: str) -> dict[Group, list[Row]]:
        """The rows that the merged view would take together, by group."""
        t = self.answering
        newest: Rows = {}
        for number in sorted(n for n in t.batch_rows[view] if n <= t.visible):
            newest |= t.batch_rows[view][number]
        found = {group: [row] for group, row in newest.items()}
        cut = t.cuts[t.visible].offsets
        for (partition, segment), rows in t.speed_rows[view].items():
            if segment >= cut[partition]:
                for group, row in rows.items():
                    found.setdefault(group, []).append(row)
        return found

    def answer(self, view: View) -> dict[Group, dict[str, Any]]:
        """(key columns..., window_start) -> aggregate -> value, as a user sees them now."""
        seen, now = self._seen.setdefault((self.tables.answering, view.name), {}), self.rows(view.name)
        stale = {g: tuple(rows) for g, rows in now.items() if g not in seen or seen[g][0] != tuple(rows)}
        if stale:
            states = self.answering.table_of(view.name, [row for rows in stale.values() for row in rows])
            keys = len(group_columns(view))
            for values in present(view, combine(view, [states])).to_pylist():
                group = tuple(values.values())[:keys]
                seen[group] = (stale[group], dict(list(values.items())[keys:]))
        return {group: seen[group][1] for group in now}

    def wrong(self) -> str | None:
        """The first difference between the answer and the recompute; None when there is none."""
        t = self.answering
        if t.visible not in t.batches or not t.cuts[t.visible].complete:
            return f"batch {t.visible} is visible, and is half staged or purged"
        positions = tuple(r.position for r in t.positions)
        differing = (self._differs(v, positions) for v in t.views.values())
        return self._moved() or self._wrong_counts() or next(filter(None, differing), None)

    def _moved(self) -> str | None:
        """A generation before the one that answers, on which somebody goes on working."""
        for number, t in self.tables.generations.items():
            if number < self.tables.answering:
                now = [(r.position, r.segment) for r in t.positions], t.visible, len(t.cuts)
                if self._replaced.setdefault(number, now) != now:
                    return f"generation {number} was replaced, and moved on from {self._replaced[number]} to {now}"
        return None

    def _differs(self, view: View, positions: tuple[int, ...]) -> str | None:
        got, wanted = self.answer(view), self.oracle.answer(view.name, positions)
        if got == wanted:
            return None
        groups = [g for g in sorted(got.keys() | wanted.keys(), key=str) if got.get(g) != wanted.get(g)]
        lines = [f"{g}: served {_shown(got.get(g), wanted.get(g))}" for g in groups[:SHOWN]]
        more = f" and {len(groups) - SHOWN} more" if len(groups) > SHOWN else ""
        return f"view {view.name} at positions {list(positions)} differs from the recompute in {'; '.join(lines)}{more}"

    def _wrong_counts(self) -> str | None:
        t = self.answering
        for p, row in enumerate(t.positions):
            live = t.live(p)
            records = sum((s.counts for _, s in live), t.batches[t.visible].counts[p])
            if records != (wanted := self.oracle.counts(p, row.position)):
                return f"partition {p} at position {row.position}: accounting says {records}, the log has {wanted}"
            for view in t.views:
                folded = sum((s.views.get(view, ViewCounts()) for _, s in live), t.batches[t.visible].views[view][p])
                if folded != (of_view := self.oracle.view_counts(view, p, row.position)):
                    return f"view {view}, partition {p} at position {row.position}: it counts {folded}, the log has {of_view}"
        return None


def _shown(got: dict[str, Any] | None, wanted: dict[str, Any] | None) -> str:
    if got is None or wanted is None:
        return f"{got}, recomputed {wanted}"
    names = [n for n in wanted if got[n] != wanted[n]]
    return f"{ {n: str(got[n]) for n in names} }, recomputed { {n: str(wanted[n]) for n in names} }"
