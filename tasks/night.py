"""One source's night, without Luigi: what each step makes, and when it is complete.

    archive(n, p) = log_p[cut(n-1), cut(n))        clean(n, p) = accepted(archive(n, p)), knowing the identities below
    fold(v, n)    = fold(v, base) ⊕ Σ fold(clean(i, p)) for base < i <= n        publish(n): batch(visible) = fold(·, n)

The ranges of all cuts of a generation tile the log; every step can be run again, by anybody, at any time, with the same result.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol

from pipeline import layout
from pipeline.definition import Source, View
from pipeline.errors import LakeError, Refused, StoreError
from pipeline.fingerprints import source_fingerprint, view_fingerprint
from pipeline.generation import refuse_other_log
from pipeline.handover import Counts, CrashPoints, Cut, Generation, NightStore, NoCrash, ViewCounts, Witness
from pipeline.lake import Lake, Manifest
from pipeline.log import Log, refuse_regrown

Report = Callable[[str, float], None]  # (message, fraction done in [0, 1])


def silent(message: str, fraction: float) -> None:
    """A report for nobody."""


class Store(NightStore, Protocol):
    """What a night asks of Postgres beyond the hand-over itself."""

    def base_of(self, generation: Generation, number: int) -> Cut | None: ...
    def witnesses(self, generation: Generation) -> list[Witness | None]: ...


@dataclass(frozen=True)
class Range:
    """Offsets [start, end) of one partition, the part of the log that one cut added."""

    partition: int
    start: int
    end: int


@dataclass
class Night:
    """The steps of one source in one generation. Everything it touches is an argument."""

    source: Source
    views: Sequence[View]
    generation: Generation
    store: Store
    log: Log
    lake: Lake
    crash: CrashPoints = field(default_factory=NoCrash)

    def __post_init__(self) -> None:
        self._ledger: Sequence[Cut] = ()
        self.source_fingerprint = source_fingerprint(self.source)
        self.view_fingerprints = {v.name: view_fingerprint(v) for v in self.views}

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
        return self._of(self.store.ledger(self.generation), number)

    def has(self, number: int) -> bool:
        """Whether the generation has a cut of that number."""
        return any(c.number == number for c in self._ledger_with(number))

    def before(self, number: int) -> Cut:
        """The cut before it in the ledger."""
        self._of(self._ledger_with(number), number)
        return max((c for c in self._ledger if c.number < number), key=lambda c: c.number)

    def _ledger_with(self, number: int) -> Sequence[Cut]:
        """The ledger, read again only when it does not have the number: offsets never change, a status does."""
        if all(c.number != number for c in self._ledger):
            self._ledger = self.store.ledger(self.generation)
        return self._ledger

    def _of(self, ledger: Sequence[Cut], number: int) -> Cut:
        for cut in ledger:
            if cut.number == number:
                return cut
        raise StoreError(f"{self.source.topic} has no cut {number} in generation {self.generation.number}; `watershed status` lists them")

    def range(self, number: int, partition: int) -> Range:
        """What cut `number` added to the partition."""
        start, end = self.before(number).offsets[partition], self._of(self._ledger, number).offsets[partition]
        if end < start:
            raise Refused(
                f"cut {number} of {self.source.topic} ends at {end} in partition {partition}, below the cut before it ({start});"
                f" the log was truncated; `watershed status` shows the cuts"
            )
        return Range(partition, start, end)

    # ---- what is there
    def archive_inputs(self, r: Range) -> dict[str, Any]:
        """What an archived range is made from."""
        return {"topic": self.source.topic, "topic_id": self.generation.topic_id, "partition": r.partition, "start": r.start, "end": r.end}

    def archived(self, r: Range) -> Manifest | None:
        """The manifest of an archived range, if complete."""
        return self.lake.made_from(f"{layout.master(self.source.topic, r.partition, r.start, r.end)}.json", self.archive_inputs(r))

    def clean_inputs(self, r: Range) -> dict[str, Any]:
        """What a clean range is made from."""
        return {**self.archive_inputs(r), "log_start": self.generation.starts[r.partition], "source_fingerprint": self.source_fingerprint}

    def clean_path(self, r: Range) -> str:
        """Where the manifest of a clean range is."""
        return layout.clean_manifest(self.source.topic, self.source_fingerprint, r.partition, r.start, r.end)

    def cleaned(self, number: int, partition: int) -> Manifest | None:
        """The manifest of the clean range that cut `number` added, if complete: its identities too."""
        path = layout.identities(self.source.topic, self.source_fingerprint, number, partition)
        inputs = layout.identity_inputs(self.generation.topic_id, partition, self.range(number, partition).end)
        return self.cleaned_records(number, partition) if self.lake.made_from(f"{path}.json", inputs) is not None else None

    def may_clean(self, number: int, partition: int) -> bool:
        """Whether the range that cut `number` added is not clean yet, and the one below it is."""
        before = self.before(number).number
        return self.cleaned(number, partition) is None and (not before or self.cleaned(before, partition) is not None)

    def cleaned_records(self, number: int, partition: int) -> Manifest | None:
        """The same without asking for the identities, which a purge may have taken and no fold needs."""
        r = self.range(number, partition)
        return self.lake.made_from(self.clean_path(r), self.clean_inputs(r))

    def fold_inputs(self, view: View, cut: Cut) -> dict[str, Any]:
        """What a view at a cut is made from: the definition, and the log [starts, cut). The base is a shortcut, not an input."""
        return {
            "topic": self.source.topic,
            "topic_id": self.generation.topic_id,
            "view_fingerprint": self.view_fingerprints[view.name],
            "starts": list(self.generation.starts),
            "cut": list(cut.offsets),
        }

    def fold_path(self, view: View, number: int) -> str:
        """Where the manifest of a view at a cut is."""
        return layout.view_manifest(view.name, self.view_fingerprints[view.name], number)

    def folded(self, view: View, number: int) -> Manifest | None:
        """The manifest of a view at a cut, if complete: a night that slept while its base was purged may have written one without files."""
        path = self.fold_path(view, number)
        found = self.lake.made_from(path, self.fold_inputs(view, self.cut(number)))
        if found is None or self._is_kept(found.facts["base"]):
            return found
        own = path.rpartition("/")[0]
        carried = [file.path for file in found.files if not file.path.startswith(f"{own}/")]
        return found if self.lake.all_exist(carried) else None

    def _is_kept(self, number: int) -> bool:
        """Whether no purge can have touched what that batch names: it is published, and a purge marks a batch before it looks for files."""
        return any(c.number == number and c.status == "published" for c in self.store.ledger(self.generation))

    def staged(self, number: int) -> bool:
        """Whether the rows that would be staged now are staged."""
        cut = self.cut(number)
        return self.published(number) or (cut.complete and cut.staged_from == self.staging_digest(number))

    def published(self, number: int) -> bool:
        """Whether the batch is visible, was (purged or not), or is covered by a later one; Refused when it was rolled back."""
        cut = self.cut(number)
        if cut.status == "withdrawn":
            raise Refused(
                f"batch {number} of {self.source.topic} (night {cut.date}) was rolled back and stays withdrawn;"
                f" run the night of another date: it takes in everything up to now"
            )
        return cut.status in ("published", "covered", "purged")

    def covered(self, number: int) -> bool:
        """Whether a later batch is visible already, so that there is nothing to fold."""
        cut = self.cut(number)
        return any(c.status == "published" and cut.at_most(c.offsets) for c in self.store.ledger(self.generation) if c.number != number)

    def staging_digest(self, number: int) -> str | None:
        """A digest of the folds that batch `number` is staged from; None when one is missing."""
        found = [self.folded(view, number) for view in self.views]
        return "-".join(m.digest for m in found if m) if all(found) else None

    def base(self, number: int) -> Cut:
        """The newest published cut below `number` and nowhere above it: what its fold goes on from."""
        found = self.store.base_of(self.generation, number)
        if found is None:
            raise Refused(f"batch {number} of {self.source.topic} is below everything that is kept; a later night covers it")
        return found

    # ---- publish
    def publish(self, number: int) -> str:
        """Make it visible, in one transaction."""
        self.crash.reach("night.before_publish")
        outcome = self.store.publish(self.generation, number)
        self.crash.reach("night.after_publish")
        return outcome

    def need(self, manifest: Manifest | None, what: str) -> Manifest:
        """The manifest, or a LakeError: a step ran before what it needs."""
        if manifest is None:
            raise LakeError(f"{what} of {self.source.topic} is not complete; run the night again: it goes on where it was")
        return manifest


def counts_of(facts: Any) -> Counts:
    """Counts from a manifest's facts."""
    return Counts(**facts)


def view_counts_of(facts: Any) -> list[ViewCounts]:
    """A view's counts, one per partition, from a manifest's facts."""
    return [ViewCounts(**one) for one in facts]


def numbers_between(ledger: Sequence[Cut], base: int, number: int) -> Iterator[int]:
    """The cuts (base, number] whose ranges tile [base, number)."""
    yield from sorted(c.number for c in ledger if base < c.number <= number)
