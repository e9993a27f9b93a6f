"""A new generation beside the one that answers, and the moment it takes over.

    begin: the new one has the ledger of the old (numbers, dates, offsets), and no rows
    activate: in one transaction the old one is retired and fenced, the new one active, and the views answer from it
    after a loss: the ledger up to what is archived, then a cut of its own at which the log goes on (Restart.resume)
    on a topic made anew: no ledger at all, for its offsets mean other records (Restart.fresh)

In between, a night stages and publishes the newest visible number on the new generation, while the old one answers and
moves on.
"""

from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.base.errors import Refused
from pipeline.definition.fingerprints import source_fingerprint, view_fingerprint
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.handover import Generation, Vector, Witness
from pipeline.handover.generation import refuse_other_log
from pipeline.handover.replacement import AS_IT_WAS, Plan, Restart
from serving.answers import counted_from, witnesses
from serving.generations.create import (
    free_number,
    lock_setup,
    make_generation,
    publish_views,
    refuse_foreign_views,
    require,
)
from serving.ops.cuts import key_of, read_cuts
from serving.ops.generations import active_generation, building_generation, generation_of, status_of
from serving.postgres.connection import patiently, transaction
from serving.postgres.views import drop_view

# What was published is chosen again: staged and published anew, or covered. The rest of the ledger keeps its meaning.
COPY_CUTS = sa.text("""
INSERT INTO ops.cuts (topic, generation, number, date, offsets, chosen_at)
SELECT topic, :new, number, date, offsets || CAST(:added AS bigint[]), chosen_at
FROM ops.cuts WHERE topic = :topic AND generation = :old AND number = ANY(:numbers)
""")
COPY_BATCHES = sa.text("""
INSERT INTO ops.batches (topic, generation, number, status)
SELECT topic, :new, number, CASE status WHEN 'published' THEN 'chosen' ELSE status END
FROM ops.batches WHERE topic = :topic AND generation = :old AND number = ANY(:numbers)
""")
RESUME_CUT = sa.text("""
INSERT INTO ops.cuts (topic, generation, number, offsets) VALUES (:topic, :new, :number, CAST(:offsets AS bigint[]))
""")
RESUME_BATCH = sa.text("INSERT INTO ops.batches (topic, generation, number, status) VALUES (:topic, :new, :number, 'chosen')")
LOCK_GENERATIONS = sa.text("SELECT number FROM ops.generations WHERE topic = :topic ORDER BY number FOR NO KEY UPDATE")
LOCK_POSITIONS = sa.text("""
SELECT generation, partition, position FROM ops.positions WHERE topic = :topic AND generation = ANY(:generations)
ORDER BY generation, partition FOR NO KEY UPDATE
""")
FENCE = sa.text("""
UPDATE ops.positions SET epoch = epoch + 1, owner = NULL, worker = NULL, lease_until = NULL
WHERE topic = :topic AND generation = :generation
""")
SET_STATUS = sa.text("UPDATE ops.generations SET status = :status WHERE topic = :topic AND number = :generation")
VISIBLE = sa.text("SELECT number FROM ops.visible WHERE topic = :topic AND generation = :generation")
OPEN_SEGMENTS = sa.text("""
UPDATE ops.positions SET segment = position WHERE topic = :topic AND generation = :generation AND segment <> position
  AND position = (CAST(:offsets AS bigint[]))[partition + 1]
""")


class PostgresGenerationStore:
    """pipeline.handover.replacement.GenerationStore on Postgres."""

    def __init__(self, engine: Engine, crash: CrashPoints | None = None) -> None:
        self._engine = engine
        self._crash = crash or NoCrash()

    def active(self, topic: str) -> Generation | None:
        with transaction(self._engine) as connection:
            return active_generation(connection, topic)

    def building(self, topic: str) -> Generation | None:
        with transaction(self._engine) as connection:
            return building_generation(connection, topic)

    def require(self, source: Source, views: Sequence[View]) -> Generation:
        return require(self._engine, source, views)

    def visible(self, generation: Generation) -> int:
        with transaction(self._engine) as connection:
            return int(connection.execute(VISIBLE, key_of(generation)).scalar_one())

    def progress(self, generation: Generation) -> list[tuple[int, Witness | None]]:
        return witnesses(self._engine, generation)

    def counted_from(self, generation: Generation, partition: int, start: int) -> int:
        return counted_from(self._engine, generation, partition, start)

    def begin(self, plan: Plan, restart: Restart = AS_IT_WAS) -> Generation:
        return patiently(lambda: _begin(self._engine, plan, restart))

    def activate(self, generation: Generation, views: Sequence[View]) -> None:
        patiently(lambda: _activate(self._engine, generation, views, self._crash))


def _begin(engine: Engine, plan: Plan, restart: Restart) -> Generation:
    with transaction(engine) as connection:
        lock_setup(connection)
        active = _active(connection, plan.source.topic)
        if not restart.fresh:
            _refuse_other_log(active, plan)
        refuse_foreign_views(connection, plan)
        starts = plan.starts if restart.fresh else active.starts + plan.starts[active.partitions :]
        begun = building_generation(connection, plan.source.topic)
        if begun is not None:
            if _is_for(begun, plan.views) and begun.topic_id == plan.topic_id and _goes_on(connection, begun, starts, restart):
                if restart.resume is None and not restart.fresh:  # what was chosen since it was begun
                    rows = connection.execute(LOCK_POSITIONS, {"topic": begun.topic, "generations": [begun.number]}).all()
                    _copy_later_cuts(connection, active, begun, [row.position for row in rows])
                return begun
            _retire(connection, begun)
        made = make_generation(connection, plan, free_number(connection, plan), starts, "building")
        if restart.fresh:
            return made
        numbers = [cut.number for cut in read_cuts(connection, active.topic, active.number) if cut.number > 0]
        if restart.resume is None:
            _copy_ledger(connection, active, made, numbers)
        else:
            _copy_ledger(connection, active, made, [n for n in numbers if n <= restart.keep])
            row = {"topic": made.topic, "new": made.number, "number": restart.keep + 1, "offsets": list(restart.resume)}
            connection.execute(RESUME_CUT, row)
            connection.execute(RESUME_BATCH, row)
        return made


def _refuse_other_log(active: Generation, plan: Plan) -> None:
    """More partitions are taken in; fewer, or another topic of this name, are not the log that was archived."""
    refuse_other_log(active, replace(plan.found, partitions=min(active.partitions, len(plan.starts))))


def _goes_on(connection: Connection, begun: Generation, starts: Vector, restart: Restart) -> bool:
    """Whether a generation begun before a crash is the one that is wanted now; retention may have moved on since."""
    cuts = read_cuts(connection, begun.topic, begun.number)
    if restart.resume is None:
        return begun.starts == tuple(starts) and all(cut.date is not None for cut in cuts if cut.number)
    return begun.starts == tuple(starts) and (cuts[-1].number, cuts[-1].offsets) == (restart.keep + 1, tuple(restart.resume))


def _activate(engine: Engine, generation: Generation, views: Sequence[View], crash: CrashPoints) -> None:
    with transaction(engine) as connection:
        connection.exec_driver_sql("SET LOCAL lock_timeout = 2000")
        lock_setup(connection)
        connection.execute(LOCK_GENERATIONS, {"topic": generation.topic})
        old, new = _active(connection, generation.topic), generation_of(connection, generation.topic, generation.number)
        if new is not None and old.number == new.number:
            return
        if new is None or status_of(connection, new.topic, new.number) != "building":
            raise Refused(
                f"generation {generation.number} of topic {generation.topic} is not being built:"
                " run `watershed init --rebuild`"
            )
        if not _is_for(new, views):
            raise Refused(
                f"generation {new.number} of topic {new.topic} was begun for other definitions:"
                " run `watershed init --rebuild`"
            )
        _refuse_unpublished(connection, old, new)
        publish_views(connection, views, new.number)
        for name in sorted(old.views.keys() - new.views.keys()):
            drop_view(connection, name)
        rows = connection.execute(
            LOCK_POSITIONS, {"topic": new.topic, "generations": sorted([old.number, new.number])}
        ).all()
        _copy_later_cuts(connection, old, new, [row.position for row in rows if row.generation == new.number])
        _retire(connection, old)
        connection.execute(SET_STATUS, {"topic": new.topic, "generation": new.number, "status": "active"})
        crash.reach("activate.written")


def _active(connection: Connection, topic: str) -> Generation:
    active = active_generation(connection, topic)
    if active is None:
        raise Refused(f"topic {topic} is not set up in this database: run `watershed init` without --rebuild")
    return active


def _is_for(generation: Generation, views: Sequence[View]) -> bool:
    sources = {source_fingerprint(view.source) for view in views}
    return sources <= {generation.source_fingerprint} and {v.name: view_fingerprint(v) for v in views} == dict(
        generation.views
    )


def _retire(connection: Connection, generation: Generation) -> None:
    """Retired and fenced: no commit of its workers lands any more."""
    key = {"topic": generation.topic, "generation": generation.number}
    connection.execute(FENCE, key)
    connection.execute(SET_STATUS, {**key, "status": "retired"})


def _refuse_unpublished(connection: Connection, old: Generation, new: Generation) -> None:
    if old.topic_id != new.topic_id:
        return  # nothing of the old one can be published on it
    numbers = [
        int(connection.execute(VISIBLE, {"topic": g.topic, "generation": g.number}).scalar_one()) for g in (old, new)
    ]
    if numbers[0] > 0 and numbers[1] == 0:
        raise Refused(
            f"generation {new.number} of topic {new.topic} has no published batch yet, and generation {old.number} answers with"
            f" batch {numbers[0]}: stage and publish it first, as `watershed init --rebuild` does"
        )


def _copy_later_cuts(connection: Connection, old: Generation, new: Generation, positions: list[int]) -> None:
    """The cuts that the old generation chose meanwhile, as far as no position of the new one has passed them."""
    if old.topic_id != new.topic_id:
        return
    have = {cut.number for cut in read_cuts(connection, new.topic, new.number)}
    for cut in read_cuts(connection, old.topic, old.number):
        if cut.number in have:
            continue
        offsets = [*cut.offsets, *new.starts[old.partitions :]]
        if any(offset < position for offset, position in zip(offsets, positions, strict=True)):
            break
        _copy_ledger(connection, old, new, [cut.number])
        connection.execute(OPEN_SEGMENTS, {"topic": new.topic, "generation": new.number, "offsets": offsets})


def _copy_ledger(connection: Connection, old: Generation, new: Generation, numbers: list[int]) -> None:
    added = list(new.starts[old.partitions :])
    row = {"topic": old.topic, "old": old.number, "new": new.number, "numbers": numbers, "added": added}
    connection.execute(COPY_CUTS, row)
    connection.execute(COPY_BATCHES, row)
