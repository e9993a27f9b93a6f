"""`init --rebuild` of one source, step by step: what differs from the record is mended, by a generation of its own where one is needed.

    begun -> batch n = f(log[0, cut n)) published in it -> activated        the one before answers until then, and moves on

Everything it touches is an argument. It may die anywhere and be run again: it goes on from where it was, or from where its twin is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.base.crash import CrashPoints
from pipeline.base.errors import Refused
from pipeline.decode.schemas import SchemasOf, no_schemas
from pipeline.definition.fingerprints import source_fingerprint, view_fingerprint
from pipeline.handover import Generation
from pipeline.handover.replacement import AS_IT_WAS, GenerationStore, Plan, Restart
from pipeline.lake import layout
from pipeline.lake.lake import Lake
from pipeline.lake.targets import MasterRange
from pipeline.log.log import Log, recreated
from tasks.current import try_write_current
from tasks.executors import Executor, Threads
from tasks.night.archive import LOST
from tasks.night.night import Night, Store
from tasks.nightly import Clean, Publish
from tasks.operator.log_damage import Damage, set_aside, survey

Say = Callable[[str], None]
Build = Callable[[Sequence[Any]], bool]  # run these Luigi tasks with what they require; whether all were done


@dataclass
class Mending:
    """The rebuild of one source as `plan` found it; `build` runs Luigi's tasks on the same arbiter, log and lake."""

    plan: Plan
    store: GenerationStore
    nights: Store
    log: Log
    lake: Lake
    build: Build
    crash: CrashPoints
    say: Say
    executor: Executor = field(default_factory=Threads)
    schemas: SchemasOf = no_schemas

    @property
    def topic(self) -> str:
        """The source's topic."""
        return self.plan.source.topic

    def mend(self, active: Generation, accept_loss: bool = False) -> None:
        """A new generation where one is needed, else what is missing in the lake. `active`: the one in force, as its caller found it.

        Refused, with figures, when something cannot be part of the answer any more, until `accept_loss`.
        """
        night = self._night_of(active)
        damage = survey(self.store, night, self.plan)
        if damage.loses and not accept_loss:
            raise Refused(
                self._loss(night, damage) + "; if that is to be, run `watershed init --rebuild --accept-loss`",
                repair="watershed init --rebuild --accept-loss",
            )
        if damage.loses:
            self.say(self._loss(night, damage))
        if damage.recreated:
            records, aside = set_aside(night), f"master/{active.topic}/topic_id={active.topic_id}/"
            self.say(
                f"{self.topic}: {records:,} archived records of the old topic are kept under {aside} and answer no more"
            )
            self._replace(active, Restart(fresh=True))
        elif damage.gaps:
            self._replace(active, Restart(keep=damage.keep, resume=self._resume(night, damage)))
        elif damage.partitions_added or self._definition_changed(active):
            if damage.partitions_added:
                self.say(
                    f"{self.topic}: {damage.partitions_added} partitions were added. No event is lost; an event and its duplicate that"
                    f" were sent before and after may lie in two partitions, and count twice: deduplication is per partition"
                )
            self._replace(active, AS_IT_WAS)
        else:
            self._mend_identities(night)

    def _night_of(self, generation: Generation) -> Night:
        parts = (self.nights, self.log, self.lake, self.crash, self.executor, self.schemas)
        return Night(self.plan.source, self.plan.views, generation, *parts)

    def _resume(self, night: Night, damage: Damage) -> tuple[int, ...]:
        """Offset at which the log goes on, in every partition; what is lost below is noted in the master dataset."""
        self._refuse_too_short(damage)
        resume = list(damage.ends) + list(self.plan.starts[night.generation.partitions :])
        for gap in damage.gaps:
            resume[gap.partition] = gap.end
            lost = MasterRange(self.topic, night.generation.topic_id, gap.partition, gap.start, gap.end)
            lost.commit(self.lake, (), {LOST: str(gap)})
        return tuple(resume)

    def _refuse_too_short(self, damage: Damage) -> None:
        """The next records would get offsets that are archived already: no log goes on from there."""
        ends = self.log.end_offsets(self.topic)
        for gap in damage.gaps:
            if ends[gap.partition] < gap.end:
                raise Refused(
                    f"topic {self.topic}, partition {gap.partition}: the log ends at {ends[gap.partition]:,}, below {gap.end:,}, where"
                    f" the archive ends, so nothing goes on from there; delete the topic, run `watershed init`, which makes it anew, and"
                    f" then `watershed init --rebuild --accept-loss`"
                )

    def _definition_changed(self, active: Generation) -> bool:
        wanted = {v.name: view_fingerprint(v) for v in self.plan.views}
        return active.source_fingerprint != source_fingerprint(self.plan.source) or dict(active.views) != wanted

    def _loss(self, night: Night, damage: Damage) -> str:
        if damage.recreated:
            return (
                f"{recreated(self.topic, self.plan.topic_id, night.generation.topic_id)}, so the answer starts over at the new"
                f" topic's start. {damage.archived:,} archived records and"
                f" {damage.served:,} that only the speed layer had counted are no part of it any more; the archived ones stay in the lake"
            )
        return f"topic {self.topic}: " + "; ".join(map(str, damage.gaps))

    def _mend_identities(self, night: Night) -> None:
        """Make missing identities again: clean ranges are made anew from the master dataset, and what a purge keeps is all there."""
        generation = night.generation
        published = [c.number for c in night.store.ledger(generation) if c.status == "published" and c.number]
        every = [(n, p) for n in published for p in range(generation.partitions)]
        missing = [(n, p) for n, p in every if night.targets(n).clean(p).with_identities(night.lake) is None]
        if not missing:
            return
        if not self.build([_task(Clean, self.topic, generation.number, n, p) for n, p in missing]):
            raise Refused(
                f"{self.topic}: the identities could not be made again, see above; run `watershed init --rebuild` again: it goes on",
                repair="watershed init --rebuild",
            )
        made = ", ".join(f"cut {n} partition {p}" for n, p in missing)
        self.say(f"{self.topic}: made the identities of {made} again from the master dataset; nothing is lost")

    def _replace(self, old: Generation, restart: Restart) -> None:
        """Fold the master dataset anew in a new generation, up to the newest cut that answers now, then let it answer."""
        generation = self.store.begin(self.plan, restart)
        self.say(
            f"{self.topic}: generation {generation.number} begun; generation {old.number} answers until it is ready"
        )
        self.crash.reach("rebuild.begun")
        number = self._newest_cut(old, generation, restart)
        if number and not self.build([_task(Publish, self.topic, generation.number, number)]):
            raise Refused(
                f"{self.topic}: folding the master dataset failed, see above; run `watershed init --rebuild` again: it goes on",
                repair="watershed init --rebuild",
            )
        self.crash.reach("rebuild.folded")
        self.store.activate(generation, self.plan.views)
        try_write_current(self._night_of(generation))
        for gone in sorted(old.views.keys() - generation.views.keys()):
            self.lake.delete_manifest(layout.current_view(gone))
        self.say(
            f"{self.topic}: generation {generation.number} answers now, from cut {number}; start the workers again"
        )

    def _newest_cut(self, old: Generation, generation: Generation, restart: Restart) -> int:
        """The cut to fold up to, of the new generation's own ledger: one begun days ago may lack what was published since."""
        ledger = self.nights.ledger(generation)
        upto = ledger[-1].number if restart.resume is not None else self.store.visible(old)
        return max(c.number for c in ledger if c.number <= upto and c.status in ("chosen", "published"))


def _task(kind: Any, *parameters: Any) -> Any:
    """A Luigi task; luigi's own classes have no types."""
    return kind(*parameters)


__all__ = ["Mending"]
