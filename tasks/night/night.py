"""One source's night, without Luigi: its cuts, and what is done with a batch; each step's result is a target (pipeline.lake.targets).

    archive(n, p) = log_p[cut(n-1), cut(n))        clean(n, p) = accepted(archive(n, p)), knowing the identities below
    fold(v, n)    = fold(v, base) ⊕ Σ fold(clean(i, p)) for base < i <= n        publish(n): batch(visible) = fold(·, n)

The ranges of all cuts of a generation tile the log; every step can be run again, by anybody, at any time, with the same result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.base.errors import Refused, StoreError
from pipeline.decode.schemas import SchemasOf, no_schemas
from pipeline.definition.fingerprints import source_fingerprint, view_fingerprint
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.handover import Counts, Cut, Generation, NightStore, ViewCounts, Witness
from pipeline.handover.generation import refuse_other_log
from pipeline.lake.lake import Lake
from pipeline.lake.targets import CutTargets, cut_targets
from pipeline.log.log import Log, refuse_regrown
from tasks.executors import Executor, Threads

if TYPE_CHECKING:
    from pipeline.fold.in_force import TableVersions

Report = Callable[[str, float], None]  # (message, fraction done in [0, 1])


def silent(message: str, fraction: float) -> None:
    """A report for nobody."""


class Store(NightStore, Protocol):
    """Questions of a night to Postgres beyond the hand-over itself."""

    def base_of(self, generation: Generation, number: int) -> Cut | None: ...
    def witnesses(self, generation: Generation) -> list[Witness | None]: ...


@dataclass
class Night:
    """The night of one source in one generation. Everything it touches is an argument; `executor` says what is done in threads."""

    source: Source
    views: Sequence[View]
    generation: Generation
    store: Store
    log: Log
    lake: Lake
    crash: CrashPoints = field(default_factory=NoCrash)
    executor: Executor = field(default_factory=Threads)
    schemas: SchemasOf = no_schemas

    def __post_init__(self) -> None:
        self._targets: dict[int, CutTargets] = {}
        self.source_fingerprint = source_fingerprint(self.source)
        self.view_fingerprints = {v.name: view_fingerprint(v) for v in self.views}

    @cached_property
    def table_versions(self) -> "TableVersions":
        """The versions of tables that the views look up."""
        from pipeline.fold.in_force import TableVersions  # it loads compiled code, which a plan does not need

        return TableVersions(self.lake)

    # ---- cuts
    def choose(self, day: date) -> Cut:
        """The cut of the night `day`: the one in Postgres, or one chosen now."""
        have = self.store.cut_of(self.generation, day)
        if have is not None:
            return have
        self.check_topic()
        for partition, witness in enumerate(self.store.witnesses(self.generation)):
            if witness is not None:  # what workers have counted is what will be archived
                refuse_regrown(self.log, self.source.topic, partition, witness.offset, witness.hash)
        return self.store.choose(self.generation, day, tuple(self.log.end_offsets(self.source.topic)))

    def check_topic(self) -> None:
        """Refuse a topic that is not the one this generation was made for."""
        refuse_other_log(self.generation, self.log.describe(self.source.topic))

    def cut(self, number: int) -> Cut:
        """The cut of that number, as it is now."""
        for cut in self.store.ledger(self.generation):
            if cut.number == number:
                return cut
        raise self._unknown(number)

    def targets(self, number: int) -> CutTargets:
        """The targets of cut `number`, from a ledger read before if it has the cut: offsets never change, a status does."""
        if number not in self._targets:
            self._targets = {one.number: one for one in self._all_targets()}
        if number not in self._targets:
            raise self._unknown(number)
        return self._targets[number]

    def targets_between(self, above: int, upto: int) -> list[CutTargets]:
        """The targets of the cuts (above, upto] as the ledger has them now, by number: their ranges tile."""
        return [one for one in self._all_targets() if above < one.number <= upto]

    def _all_targets(self) -> list[CutTargets]:
        ledger = self.store.ledger(self.generation)
        tables = {view.name: view.tables for view in self.views}
        return cut_targets(self.generation, self.source_fingerprint, self.view_fingerprints, ledger, tables)

    def _unknown(self, number: int) -> StoreError:
        return StoreError(
            f"{self.source.topic} has no cut {number} in generation {self.generation.number}; `watershed status` lists them"
        )

    # ---- batches
    def is_kept(self, number: int) -> bool:
        """True when no purge can have touched the files of batch `number`: it is published, and a purge marks before it looks for files."""
        return any(c.number == number and c.status == "published" for c in self.store.ledger(self.generation))

    def staged(self, number: int) -> bool:
        """True when the rows that would be staged now are staged."""
        cut = self.cut(number)
        return self.published(number) or (cut.complete and cut.staged_from == self.staging_digest(number))

    def published(self, number: int) -> bool:
        """True when the batch is visible, was (purged or not), or is covered by a later one; Refused when it was rolled back."""
        cut = self.cut(number)
        if cut.status == "withdrawn":
            raise Refused(
                f"batch {number} of {self.source.topic} (night {cut.date}) was rolled back and stays withdrawn;"
                f" run the night of another date: it takes in everything up to now"
            )
        return cut.status in ("published", "covered", "purged")

    def covered(self, number: int) -> bool:
        """True when a later batch is visible already, so that there is nothing to fold."""
        cut = self.cut(number)
        return any(
            c.status == "published" and cut.at_most(c.offsets)
            for c in self.store.ledger(self.generation)
            if c.number != number
        )

    def staging_digest(self, number: int) -> str | None:
        """A digest of the folds that batch `number` is staged from; None when one is missing."""
        targets = self.targets(number)
        found = [targets.view(view.name).manifest(self.lake, self.is_kept) for view in self.views]
        return "-".join(m.digest for m in found if m) if all(found) else None

    def base(self, number: int) -> Cut:
        """The newest published cut below `number` and nowhere above it: what its fold goes on from."""
        found = self.store.base_of(self.generation, number)
        if found is None:
            raise Refused(
                f"batch {number} of {self.source.topic} is below everything that is kept; a later night covers it"
            )
        return found

    # ---- publish
    def publish(self, number: int) -> str:
        """Make it visible, in one transaction."""
        self.crash.reach("night.before_publish")
        outcome = self.store.publish(self.generation, number)
        self.crash.reach("night.after_publish")
        return outcome


def counts_of(facts: Any) -> Counts:
    """Counts from a manifest's facts."""
    return Counts(**facts)


def view_counts_of(facts: Any) -> list[ViewCounts]:
    """A view's counts, one per partition, from a manifest's facts."""
    return [ViewCounts(**one) for one in facts]
