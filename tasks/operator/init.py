"""`watershed init` and `init --rebuild`: topics, tables, batch 0; and a new generation folded from the master dataset.

init ; init = init        rebuild: the new generation's batch n = f(log[0, cut n)) before anybody reads it
"""

from collections.abc import Callable, Mapping, Sequence

import luigi

from pipeline.base.errors import Refused, StoreError
from pipeline.definition.view import View
from pipeline.handover import Generation
from pipeline.handover.replacement import Plan
from pipeline.handover.versions import newer_than
from pipeline.log.kafka.log import KafkaLog
from pipeline.log.log import MissingTopic, refuse_compacted
from pipeline.settings import by_source
from pipeline.warm_up import warm_up
from serving.generations.create import install, set_up
from tasks.context import Context, context
from tasks.loads import versions_for
from tasks.operator.generation import Mending

Say = Callable[[str], None]


def plan_of(
    log: KafkaLog, views: tuple[View, ...], partitions: int, say: Say, versions: Mapping[str, int] | None = None
) -> Plan:
    """Plan of init for one source: its topic (created when it is missing) as it is found now, and the tables its views look up."""
    source = views[0].source
    try:
        found = log.describe(source.topic)
    except MissingTopic:
        log.create_topic(source.topic, partitions)
        found = log.describe(source.topic)
        say(f"made topic {source.topic} with {found.partitions} partitions")
    refuse_compacted(found)
    return Plan(source, found.topic_id, tuple(log.start_offsets(source.topic)), views, versions or {})


def init(rebuild: bool, partitions: int, say: Say, accept_loss: bool = False) -> list[Generation]:
    """Make what is missing, and compile what the views need.

    With `rebuild`, mend what is not as it was recorded: definitions, topic, partitions, log, identities.
    What cannot be part of the answer any more is a loss: it is refused, with figures, until `accept_loss`.
    """
    if accept_loss and not rebuild:
        raise Refused(
            "--accept-loss says what a rebuild may leave out", repair="watershed init --rebuild --accept-loss"
        )
    parts = context()
    # Before a topic is made for a database that cannot be used, and before a rebuild looks at what an earlier version did not make
    set_up(parts.engine)
    warm_up(parts.views)
    parts.lake.check_writable()
    of_source = by_source(parts.views).values()
    versions = [versions_for(parts, views) for views in of_source]
    plans = [plan_of(parts.log, views, partitions, say, v) for views, v in zip(of_source, versions, strict=True)]
    if rebuild:
        for plan in plans:
            active = _active(parts, plan)
            if active is not None:
                given = parts.generations, parts.store, parts.log, parts.lake, _build, parts.crash, say
                Mending(plan, *given, schemas=parts.schemas).mend(active, accept_loss)
    generations = install(parts.engine, plans)
    _adopt_newest(parts, generations, versions)
    return generations


def _adopt_newest(parts: Context, generations: Sequence[Generation], newest: Sequence[Mapping[str, int]]) -> None:
    """Adopt the versions that were loaded while a generation was made, or by a load that died before it adopted its own."""
    for generation, versions in zip(generations, newest, strict=True):
        if versions and newer_than(parts.store.ledger(generation)[-1], versions):
            parts.store.adopt(generation, versions, tuple(parts.log.end_offsets(generation.topic)))


def _active(parts: Context, plan: Plan) -> Generation | None:
    try:
        return parts.generations.active(plan.source.topic)
    except StoreError:
        return None  # nothing is set up yet: install says what is wrong, if anything is


def _build(tasks: Sequence[luigi.Task]) -> bool:
    return bool(luigi.build(tasks, local_scheduler=True, log_level="WARNING"))
