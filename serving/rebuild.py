"""A new generation beside the one that answers, and the moment it takes over.

    begin_generation: the new one has the ledger of the old (numbers, dates, offsets), and no rows
    activate: in one transaction the old one is retired and fenced, the new one active, and the views answer from it

In between, a night stages and publishes the newest visible number on the new generation, while the old one answers and
moves on.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from pipeline.definition import View
from pipeline.errors import Refused
from pipeline.fingerprints import source_fingerprint, view_fingerprint
from pipeline.handover import Generation
from serving.connection import patiently, transaction
from serving.generations import active_generation, building_generation, generation_of, status_of
from serving.ledger import read_cuts
from serving.published_views import drop_view
from serving.setup import (
    Plan,
    free_number,
    lock_setup,
    make_generation,
    publish_views,
    refuse_foreign_views,
    refuse_other_topic,
)

# What was published is chosen again: staged and published anew, or covered. The rest of the ledger keeps its meaning.
COPY_CUTS = sa.text("""
INSERT INTO ops.cuts (topic, generation, number, date, offsets, chosen_at)
SELECT topic, :new, number, date, offsets, chosen_at
FROM ops.cuts WHERE topic = :topic AND generation = :old AND number = ANY(:numbers)
""")
COPY_BATCHES = sa.text("""
INSERT INTO ops.batches (topic, generation, number, status)
SELECT topic, :new, number, CASE status WHEN 'published' THEN 'chosen' ELSE status END
FROM ops.batches WHERE topic = :topic AND generation = :old AND number = ANY(:numbers)
""")
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


def begin_generation(engine: Engine, plan: Plan) -> Generation:
    """Generation n + 1 in status building, with batch 0 and a copy of the ledger; one begun for these definitions goes on.

    It starts where the generation in force starts, since the master dataset does, whatever retention has deleted since.
    """
    return patiently(lambda: _begin(engine, plan))


def _begin(engine: Engine, plan: Plan) -> Generation:
    with transaction(engine) as connection:
        lock_setup(connection)
        active = _active(connection, plan.source.topic)
        refuse_other_topic(active, plan)
        refuse_foreign_views(connection, plan)
        begun = building_generation(connection, plan.source.topic)
        if begun is not None:
            if _is_for(begun, plan.views):
                return begun
            _retire(connection, begun)
        made = make_generation(connection, plan, free_number(connection, plan), active.starts, "building")
        numbers = [cut.number for cut in read_cuts(connection, active.topic, active.number) if cut.number > 0]
        _copy_ledger(connection, active, made, numbers)
        return made


def activate(engine: Engine, generation: Generation, views: Sequence[View]) -> None:
    """Let a generation in status building answer, in one transaction; nothing when it does already.

    `views` are the definitions it was begun with. Workers and nights of the one before are fenced and refused then.
    """
    patiently(lambda: _activate(engine, generation, views))


def _activate(engine: Engine, generation: Generation, views: Sequence[View]) -> None:
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
    have = {cut.number for cut in read_cuts(connection, new.topic, new.number)}
    for cut in read_cuts(connection, old.topic, old.number):
        if cut.number in have:
            continue
        if any(offset < position for offset, position in zip(cut.offsets, positions, strict=True)):
            break
        _copy_ledger(connection, old, new, [cut.number])
        connection.execute(OPEN_SEGMENTS, {"topic": new.topic, "generation": new.number, "offsets": list(cut.offsets)})


def _copy_ledger(connection: Connection, old: Generation, new: Generation, numbers: list[int]) -> None:
    row = {"topic": old.topic, "old": old.number, "new": new.number, "numbers": numbers}
    connection.execute(COPY_CUTS, row)
    connection.execute(COPY_BATCHES, row)
