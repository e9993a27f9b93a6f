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

from sqlalchemy.engine import Connection, Engine

from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.base.errors import Refused
from pipeline.definition.fingerprints import source_fingerprint, view_fingerprint
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.handover import Generation, Vector, Witness
from pipeline.handover.generation import refuse_other_log
from pipeline.handover.replacement import AS_IT_WAS, Plan, Restart
from serving.generations.create import (
    adopt_from_start,
    lock_setup,
    make_generation,
    publish_views,
    refuse_foreign_views,
    require,
)
from serving.ops.cuts import copy_cuts, insert_cut, read_cuts
from serving.ops.generations import (
    active_generation,
    building_generation,
    free_number,
    generation_of,
    lock_generations,
    set_generation_status,
    status_of,
)
from serving.ops.positions import fence, lock_positions, open_segments, witnesses
from serving.ops.segments import counted_from
from serving.ops.visible import visible_number
from serving.postgres.views import drop_view
from serving.stores.transactions import Transactions


class PostgresGenerationStore:
    """pipeline.handover.replacement.GenerationStore on Postgres."""

    def __init__(self, engine: Engine, crash: CrashPoints | None = None) -> None:
        self._transactions = Transactions(engine)
        self._crash = crash or NoCrash()

    def active(self, topic: str) -> Generation | None:
        return self._transactions.read(lambda connection: active_generation(connection, topic))

    def building(self, topic: str) -> Generation | None:
        return self._transactions.read(lambda connection: building_generation(connection, topic))

    def require(self, source: Source, views: Sequence[View]) -> Generation:
        return require(self._transactions.engine, source, views)

    def visible(self, generation: Generation) -> int:
        return self._transactions.read(lambda connection: visible_number(connection, generation))

    def progress(self, generation: Generation) -> list[tuple[int, Witness | None]]:
        return self._transactions.read(lambda connection: witnesses(connection, generation))

    def counted_from(self, generation: Generation, partition: int, start: int) -> int:
        return self._transactions.read(lambda connection: counted_from(connection, generation, partition, start))

    def begin(self, plan: Plan, restart: Restart = AS_IT_WAS) -> Generation:
        return self._transactions.patiently(lambda connection: _begin(connection, plan, restart), again=True)

    def activate(self, generation: Generation, views: Sequence[View]) -> None:
        self._transactions.patiently(lambda connection: self._activate(connection, generation, views), again=True)

    def _activate(self, connection: Connection, generation: Generation, views: Sequence[View]) -> None:
        self._transactions.limit_waits(connection)
        lock_setup(connection)
        lock_generations(connection, generation.topic)
        old, new = _active(connection, generation.topic), generation_of(connection, generation.topic, generation.number)
        if new is not None and old.number == new.number:
            return
        if new is None or status_of(connection, new.topic, new.number) != "building":
            raise Refused(
                f"generation {generation.number} of topic {generation.topic} is not being built",
                repair="watershed init --rebuild",
            )
        if not _is_for(new, views):
            raise Refused(
                f"generation {new.number} of topic {new.topic} was begun for other definitions",
                repair="watershed init --rebuild",
            )
        _refuse_unpublished(connection, old, new)
        publish_views(connection, views, new.number)
        for name in sorted(old.views.keys() - new.views.keys()):
            drop_view(connection, name)
        first, second = sorted((old, new), key=lambda g: g.number)
        positions = dict(zip((first.number, second.number), lock_positions(connection, first, second), strict=True))
        _copy_later_cuts(connection, old, new, positions[new.number])
        _retire(connection, old)
        set_generation_status(connection, new, "active")
        self._crash.reach("activate.written")


def _begin(connection: Connection, plan: Plan, restart: Restart) -> Generation:
    lock_setup(connection)
    active = _active(connection, plan.source.topic)
    if not restart.fresh:
        _refuse_other_log(active, plan)
    refuse_foreign_views(connection, plan)
    starts = plan.starts if restart.fresh else active.starts + plan.starts[active.partitions :]
    begun = building_generation(connection, plan.source.topic)
    if begun is not None:
        if (
            _is_for(begun, plan.views)
            and begun.topic_id == plan.topic_id
            and _goes_on(connection, begun, starts, restart)
        ):
            if restart.resume is None and not restart.fresh:  # what was chosen since it was begun
                _copy_later_cuts(connection, active, begun, *lock_positions(connection, begun))
            return begun
        _retire(connection, begun)
    number = free_number(connection, plan.source.topic, [v.name for v in plan.views])
    made = make_generation(connection, plan, number, starts, "building")
    if restart.fresh:
        adopt_from_start(connection, made, plan.versions)
        return made
    cuts = read_cuts(connection, active.topic, active.number)
    adopt_from_start(connection, made, dict(plan.versions) | dict(cuts[0].versions))
    numbers = [cut.number for cut in cuts if cut.number > 0]
    if restart.resume is None:
        copy_cuts(connection, active, made, numbers)
    else:
        copy_cuts(connection, active, made, [n for n in numbers if n <= restart.keep])
        insert_cut(connection, made, restart.keep + 1, restart.resume)
    return made


def _refuse_other_log(active: Generation, plan: Plan) -> None:
    """More partitions are taken in; fewer, or another topic of this name, are not the log that was archived."""
    refuse_other_log(active, replace(plan.found, partitions=min(active.partitions, len(plan.starts))))


def _goes_on(connection: Connection, begun: Generation, starts: Vector, restart: Restart) -> bool:
    """True when a generation begun before a crash is the one that is wanted now; retention may have moved on since."""
    cuts = read_cuts(connection, begun.topic, begun.number)
    if restart.resume is None:
        return begun.starts == tuple(starts) and all(cut.date or cut.status == "adopted" for cut in cuts if cut.number)
    return begun.starts == tuple(starts) and (cuts[-1].number, cuts[-1].offsets) == (
        restart.keep + 1,
        tuple(restart.resume),
    )


def _active(connection: Connection, topic: str) -> Generation:
    active = active_generation(connection, topic)
    if active is None:
        raise Refused(
            f"topic {topic} is not set up in this database: run `watershed init` without --rebuild",
            repair="watershed init",
        )
    return active


def _is_for(generation: Generation, views: Sequence[View]) -> bool:
    sources = {source_fingerprint(view.source) for view in views}
    return sources <= {generation.source_fingerprint} and {v.name: view_fingerprint(v) for v in views} == dict(
        generation.views
    )


def _retire(connection: Connection, generation: Generation) -> None:
    """Retired and fenced: no commit of its workers lands any more."""
    fence(connection, generation)
    set_generation_status(connection, generation, "retired")


def _refuse_unpublished(connection: Connection, old: Generation, new: Generation) -> None:
    if old.topic_id != new.topic_id:
        return  # nothing of the old one can be published on it
    numbers = [visible_number(connection, g) for g in (old, new)]
    if numbers[0] > 0 and numbers[1] == 0:
        raise Refused(
            f"generation {new.number} of topic {new.topic} has no published batch yet, and generation {old.number} answers with"
            f" batch {numbers[0]}: stage and publish it first, as `watershed init --rebuild` does",
            repair="watershed init --rebuild",
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
        copy_cuts(connection, old, new, [cut.number])
        open_segments(connection, new, offsets)
