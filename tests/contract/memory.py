"""The world of the store's tests on the arbiter in memory: the same shorthands, so that the same tests run over both."""

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.base.errors import StoreError
from pipeline.definition.view import View
from pipeline.fold.states import present
from pipeline.handover import Counts
from simulation.memory_tables import Tables
from simulation.world import Stores
from tests.contract.world import VIEWS, merge, ordered, payments
from tests.serving.test_operator_store import Operated

TICK_S = 0.001  # a lease of 0 s has run out when the next one asks, as it has by a clock


class Ticking(Tables):
    """Time goes on a little with every transaction."""

    def _run(self, what: str, body: Callable[[], Any]) -> Any:
        self.now_s += TICK_S
        return super()._run(what, body)


class MemoryWorld(Operated):
    """tests.serving.test_operator_store.Operated without an engine."""

    def __init__(self, stores: Stores | None = None) -> None:
        stores = stores or Stores()
        self.tables = Ticking(payments, VIEWS, "id-1", (0, 0))
        self.generation = self.tables.generation
        self.speed: Any = stores.speed(self.tables)
        self.night: Any = stores.night(self.tables)
        self.operator: Any = stores.operator(self.tables)
        self.refolds = stores.refold(self.tables)
        self.generations = stores.generation(self.tables)
        self.days = 0

    def row(self, partition: int) -> tuple[int, int]:
        found = self.tables.of(self.generation).positions[partition]
        return found.position, found.segment

    def now(self) -> tuple[int, ...]:
        return tuple(row.position for row in self.tables.of(self.generation).positions)

    def damage(self) -> None:
        t = self.tables.of(self.generation)
        for (partition, segment), rows in t.speed_rows["by_account"].items():
            if partition == 0:
                t.speed_rows["by_account"][partition, segment] = {
                    group: (*row[:2], row[2] + 1, *row[3:]) for group, row in rows.items()
                }
        for key in [key for key in t.speed_rows["by_region"] if key[0] == 0]:
            del t.speed_rows["by_region"][key]
        for found in t.segments[0].values():
            found.counts += Counts(accepted=3)

    def made_for(self, views: Sequence[View]) -> tuple[Any, Any]:
        return self.speed, self.night

    def served(self, view: View) -> list[dict[str, Any]]:
        """What serving.<view> would show."""
        t = self.tables.of(self.tables.answering)
        if view.name not in t.views:
            raise StoreError(f"there is no view {view.name}")
        newest: dict[Any, Any] = {}
        for number in sorted(n for n in t.batch_rows[view.name] if n <= t.visible):
            newest |= t.batch_rows[view.name][number]
        cut = t.cuts[t.visible].offsets
        live = [row for (p, s), rows in t.speed_rows[view.name].items() if s >= cut[p] for row in rows.values()]
        merged = merge(view, [t.table_of(view.name, [*newest.values(), *live])])
        return ordered(view, present(view, merged).to_pylist())

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """The few questions that the shared tests ask in SQL."""
        t = self.tables.of(self.generation)
        starts = [(p, s) for p, found in enumerate(t.segments) for s in found]
        answers: dict[str, Sequence[tuple[object, ...]]] = {
            "SELECT previous FROM ops.visible": [(t.previous,)],
            "SELECT start FROM ops.segments ORDER BY start": sorted((s,) for _, s in starts),
            'SELECT count(*) FROM speed."by_account__g1" WHERE segment > 0': [
                (sum(len(rows) for (_, s), rows in t.speed_rows["by_account"].items() if s > 0),)
            ],
            "SELECT DISTINCT number FROM ops.batch_counts ORDER BY 1": sorted((n,) for n in t.batches),
            "SELECT accepted FROM ops.segments": [
                (found.counts.accepted,) for rows in t.segments for found in rows.values()
            ],
            "SELECT min(start) FROM ops.segments WHERE partition = 0": [
                (min((s for p, s in starts if p == 0), default=None),)
            ],
        }
        return list(answers[sql])
