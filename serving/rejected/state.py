"""State of a source at one instant, as far as rejected records depend on it.

cuts, positions, counts and replays are of one REPEATABLE READ transaction; lake and log only grow from there
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from pipeline.definition.fingerprints import source_fingerprint, view_fingerprint
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.handover import Cut, Generation, Vector
from pipeline.lake.lake import Lake
from pipeline.lake.targets import CutTargets, cut_targets
from pipeline.log.log import Log
from serving.generations.create import refuse_other_definition
from serving.ops.cuts import cut_in, read_cuts
from serving.ops.generations import active_generation, not_set_up
from serving.ops.keys import key_of
from serving.ops.replays import Replay, read_replays
from serving.ops.visible import visible_number
from serving.stores.transactions import Transactions

POSITIONS = sa.text("""
SELECT position FROM ops.positions WHERE topic = :topic AND generation = :generation ORDER BY partition
""")
VIEW_REJECTED = sa.text("""
SELECT view, sum(rejected)::bigint AS rejected FROM ops.batch_views
WHERE topic = :topic AND generation = :generation AND number = :number GROUP BY view
""")


@dataclass(frozen=True)
class State:
    """A source with its parts, and its rows of one instant. `visible` is the batch that answers, at its cut."""

    source: Source
    views: tuple[View, ...]
    log: Log
    lake: Lake
    generation: Generation
    ledger: tuple[Cut, ...]
    visible: Cut
    positions: Vector
    view_rejected: dict[str, int]  # of the visible batch, since the log's start
    replays: tuple[Replay, ...]

    @property
    def targets(self) -> list[CutTargets]:
        """The targets of the cuts up to the visible one, rising."""
        fingerprints = {v.name: view_fingerprint(v) for v in self.views}
        tables = {v.name: v.tables for v in self.views}
        every = cut_targets(self.generation, source_fingerprint(self.source), fingerprints, self.ledger, tables)
        return [one for one in every if one.number <= self.visible.number]


def read_state(engine: Engine, log: Log, lake: Lake, source: Source, views: Sequence[View]) -> State:
    """The state now; Refused when these definitions are not those on record."""

    def read(connection: Connection) -> State:
        generation = active_generation(connection, source.topic)
        if generation is None:
            raise not_set_up(source.topic)
        refuse_other_definition(connection, generation, source, views)
        ledger = read_cuts(connection, generation.topic, generation.number)
        visible = cut_in(ledger, generation, visible_number(connection, generation))
        key = key_of(generation)
        counted = connection.execute(VIEW_REJECTED, {**key, "number": visible.number})
        return State(
            source,
            tuple(views),
            log,
            lake,
            generation,
            tuple(ledger),
            visible,
            tuple(int(p) for p in connection.scalars(POSITIONS, key)),
            {row.view: int(row.rejected) for row in counted},
            tuple(read_replays(connection, generation)),
        )

    return Transactions(engine).read(read)


__all__ = ["State", "read_state"]
