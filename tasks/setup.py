"""`watershed init` and `init --rebuild`: topics, tables, batch 0; and a new generation folded from the master dataset.

    init ; init = init        rebuild: the new generation's batch n = f(log[0, cut n)) before anybody reads it
"""

from collections.abc import Callable

import luigi

from pipeline import layout
from pipeline.definition import View
from pipeline.errors import Refused, StoreError
from pipeline.fingerprints import source_fingerprint, view_fingerprint
from pipeline.handover import Generation
from pipeline.kafka_log import KafkaLog
from pipeline.log import MissingTopic
from pipeline.settings import by_source
from pipeline.targets import MasterRange
from serving.connection import transaction
from serving.generations import active_generation
from serving.rebuild import Restart, activate, begin_generation
from serving.setup import Plan, install
from tasks.archive import LOST
from tasks.context import Context, context
from tasks.current import try_write_current
from tasks.damage import Damage, set_aside, survey
from tasks.night import Night

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


def init(rebuild: bool, partitions: int, say: Say, accept_loss: bool = False) -> list[Generation]:
    """Make what is missing; with `rebuild`, mend what is not as it was recorded: definitions, topic, partitions, log, identities.

    What cannot be part of the answer any more is a loss: it is refused, with figures, until `accept_loss`.
    """
    if accept_loss and not rebuild:
        raise Refused("--accept-loss says what a rebuild may leave out: run `watershed init --rebuild --accept-loss`")
    parts = context()
    parts.lake.check_writable()
    plans = [plan_of(parts.log, views, partitions, say) for views in by_source(parts.views).values()]
    if rebuild:
        for plan in plans:
            active = _active(parts, plan)
            if active is not None:
                _mend(parts, plan, active, accept_loss, say)
    return install(parts.engine, plans)


def _active(parts: Context, plan: Plan) -> Generation | None:
    try:
        with transaction(parts.engine) as connection:
            return active_generation(connection, plan.source.topic)
    except StoreError:
        return None  # nothing is set up yet: install says what is wrong, if anything is


def _mend(parts: Context, plan: Plan, active: Generation, accept_loss: bool, say: Say) -> None:
    """A new generation where one is needed, else what is missing in the lake."""
    night = Night(plan.source, plan.views, active, parts.store, parts.log, parts.lake, parts.crash)
    damage = survey(parts, night, plan)
    if damage.loses and not accept_loss:
        raise Refused(_loss(plan, night, damage) + "; if that is to be, run `watershed init --rebuild --accept-loss`")
    if damage.loses:
        say(_loss(plan, night, damage))
    if damage.recreated:
        records = set_aside(night)
        say(f"{plan.source.topic}: {records:,} archived records of the old topic are kept under {_aside(active)} and answer no more")
        _rebuild(parts, plan, active, Restart(fresh=True), 0, say)
    elif damage.gaps:
        _refuse_too_short(parts, plan, damage)
        resume = list(damage.ends) + list(plan.starts[active.partitions :])
        for gap in damage.gaps:
            resume[gap.partition] = gap.end
            lost = MasterRange(active.topic, active.topic_id, gap.partition, gap.start, gap.end)
            lost.commit(parts.lake, (), {LOST: str(gap)})
        _rebuild(parts, plan, active, Restart(keep=damage.keep, resume=tuple(resume)), damage.keep + 1, say)
    elif damage.partitions_added or _definition_changed(active, plan):
        if damage.partitions_added:
            say(
                f"{plan.source.topic}: {damage.partitions_added} partitions were added. No event is lost; an event and its duplicate that"
                f" were sent before and after may lie in two partitions, and count twice: deduplication is per partition"
            )
        _rebuild(parts, plan, active, Restart(), parts.store.visible(active), say)
    else:
        _mend_identities(parts, night, say)


def _refuse_too_short(parts: Context, plan: Plan, damage: Damage) -> None:
    """The next records would get offsets that are archived already: no log goes on from there."""
    ends = parts.log.end_offsets(plan.source.topic)
    for gap in damage.gaps:
        if ends[gap.partition] < gap.end:
            raise Refused(
                f"topic {plan.source.topic}, partition {gap.partition}: the log ends at {ends[gap.partition]:,}, below {gap.end:,}, where"
                f" the archive ends, so nothing goes on from there; delete the topic, run `watershed init`, which makes it anew, and then"
                f" `watershed init --rebuild --accept-loss`"
            )


def _definition_changed(active: Generation, plan: Plan) -> bool:
    wanted = {v.name: view_fingerprint(v) for v in plan.views}
    return active.source_fingerprint != source_fingerprint(plan.source) or dict(active.views) != wanted


def _aside(active: Generation) -> str:
    return f"master/{active.topic}/topic_id={active.topic_id}/"


def _loss(plan: Plan, night: Night, damage: Damage) -> str:
    topic = plan.source.topic
    if damage.recreated:
        return (
            f"topic {topic} was deleted and made anew (id {plan.topic_id}, was {night.generation.topic_id}): its offsets mean other"
            f" records, so the answer starts over at the new topic's start. {damage.archived:,} archived records and {damage.served:,}"
            f" that only the speed layer had counted are no part of it any more; the archived ones stay in the lake"
        )
    return f"topic {topic}: " + "; ".join(map(str, damage.gaps))


def _mend_identities(parts: Context, night: Night, say: Say) -> None:
    """What a purge keeps is all there again: a night's clean ranges are made anew, from the master dataset."""
    topic, generation = night.source.topic, night.generation
    published = [c.number for c in night.store.ledger(generation) if c.status == "published" and c.number]
    every = [(n, p) for n in published for p in range(generation.partitions)]
    missing = [(n, p) for n, p in every if night.targets(n).clean(p).with_identities(night.lake) is None]
    if not missing:
        return
    from tasks.nightly import Clean

    done = luigi.build([Clean(topic, generation.number, n, p) for n, p in missing], local_scheduler=True, log_level="WARNING")
    if not done:
        raise Refused(f"{topic}: the identities could not be made again, see above; run `watershed init --rebuild` again: it goes on")
    made = ", ".join(f"cut {n} partition {p}" for n, p in missing)
    say(f"{topic}: made the identities of {made} again from the master dataset; nothing is lost")


def _rebuild(parts: Context, plan: Plan, old: Generation, restart: Restart, number: int, say: Say) -> None:
    """Fold the master dataset anew, up to cut `number`, then let it answer."""
    topic = plan.source.topic
    generation = begin_generation(parts.engine, plan, restart)
    say(f"{topic}: generation {generation.number} begun; generation {old.number} answers until it is ready")
    parts.crash.reach("rebuild.begun")
    if number:
        from tasks.nightly import Publish

        done = luigi.build([Publish(topic, generation.number, number)], local_scheduler=True, log_level="WARNING")
        if not done:
            raise Refused(f"{topic}: folding the master dataset failed, see above; run `watershed init --rebuild` again: it goes on")
    parts.crash.reach("rebuild.folded")
    activate(parts.engine, generation, plan.views, parts.crash)
    try_write_current(Night(plan.source, plan.views, generation, parts.store, parts.log, parts.lake, parts.crash))
    for gone in sorted(old.views.keys() - generation.views.keys()):
        parts.lake.delete_manifest(layout.current_view(gone))
    say(f"{topic}: generation {generation.number} answers now, from cut {number}; start the workers again")
