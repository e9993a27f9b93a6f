"""`watershed init` and `init --rebuild`: topics, tables, batch 0; and a new generation folded from the master dataset.

    init ; init = init        rebuild: the new generation's batch n = f(log[0, cut n)) before anybody reads it
"""

from collections.abc import Callable

import luigi

from pipeline.definition import View
from pipeline.errors import Refused, StoreError
from pipeline.handover import Generation
from pipeline.kafka_log import KafkaLog
from pipeline.log import MissingTopic
from pipeline.settings import by_source
from serving.connection import transaction
from serving.generations import active_generation
from serving.rebuild import activate, begin_generation
from serving.setup import Plan, install
from tasks.context import Context, context

Say = Callable[[str], None]


def plan_of(log: KafkaLog, views: tuple[View, ...], partitions: int, say: Say) -> Plan:
    """What init makes for one source: its topic (created when it is missing) as it is found now."""
    source = views[0].source
    try:
        found = log.describe(source.topic)
    except MissingTopic:
        log.create_topic(source.topic, partitions)
        found = log.describe(source.topic)
        say(f"made topic {source.topic} with {found.partitions} partitions")
    if found.compacted:
        raise Refused(
            f"topic {source.topic} is compacted, so its log cannot be read again as it was; set cleanup.policy=delete on it"
        )
    return Plan(source, found.topic_id, tuple(log.start_offsets(source.topic)), views)


def init(rebuild: bool, partitions: int, say: Say) -> list[Generation]:
    """Make what is missing; with `rebuild`, start a new generation for every source whose definition changed."""
    parts = context()
    parts.lake.check_writable()
    plans = [plan_of(parts.log, views, partitions, say) for views in by_source(parts.views).values()]
    if rebuild:
        for plan in plans:
            if _changed(parts, plan):
                _rebuild(parts, plan, say)
    return install(parts.engine, plans)


def _changed(parts: Context, plan: Plan) -> bool:
    try:
        with transaction(parts.engine) as connection:
            active = active_generation(connection, plan.source.topic)
    except StoreError:
        return False  # nothing is set up yet: install says what is wrong, if anything is
    if active is None:
        return False
    try:
        parts.night(plan.source.topic)
    except Refused:
        return True
    return False


def _rebuild(parts: Context, plan: Plan, say: Say) -> None:
    """Fold the master dataset anew under the new definition, then let it answer."""
    topic = plan.source.topic
    with transaction(parts.engine) as connection:
        old = active_generation(connection, topic)
    assert old is not None
    visible = parts.store.visible(old)
    generation = begin_generation(parts.engine, plan)
    say(f"{topic}: generation {generation.number} begun; generation {old.number} answers until it is ready")
    if visible:
        from tasks.nightly import Publish

        done = luigi.build([Publish(topic, generation.number, visible)], local_scheduler=True, log_level="WARNING")
        if not done:
            raise Refused(f"{topic}: folding the master dataset failed, see above; run `watershed init --rebuild` again: it goes on")
    activate(parts.engine, generation, plan.views)
    say(f"{topic}: generation {generation.number} answers now, from cut {visible}; start the workers again")
