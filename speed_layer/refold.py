"""`watershed rebuild`: the real-time views of a source, folded again beside those that are served, then put in their place.

    new segments = f(log[cut, position)),  knowing the identities below the cut        served = old ones, then new ones; never a mixture

Partition by partition. Most of the log is folded while workers go on; only for the last of it is the lease taken from whoever holds it,
so that the position stands still for a moment. A crash at any point leaves the old segments, and a lease that runs out.
"""

from collections.abc import Callable, Sequence

import pyarrow as pa

from pipeline.accept.accept import Ingest
from pipeline.accept.dedupe import IdentitySnapshot
from pipeline.accept.identity_files import IdentitiesMissing, identities_at
from pipeline.base.errors import Refused
from pipeline.decode.schemas import SchemasOf, no_schemas
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.fold.fold import columns_of, combine, fold
from pipeline.fold.in_force import InForce, TableVersions
from pipeline.fold.lookup import Tables
from pipeline.fold.recompute import whole_log
from pipeline.handover import Generation, NightStore, ViewCounts
from pipeline.handover.replacement import RefoldStore, Segment, Standing
from pipeline.lake.lake import Lake
from pipeline.log.log import Log

NEAR = 20_000  # offsets that may be left to fold while nobody else can commit
PASSES = 20  # while workers go on; then the lease is taken, however much is left
LEASE_S = 10.0
TRIES = 5
MAX_RECORDS = 50_000
HELD_TABLES = 64  # of states, before they are combined
FROM_START = "watershed rebuild --from-start"
WITHOUT = f"`{FROM_START}` does without them, `watershed init --rebuild` makes them again"

Say = Callable[[str], None]


class Refold:
    """One partition's segments from the visible cut on, folded further as the position moves."""

    def __init__(
        self, source: Source, views: Sequence[View], partition: int, cut: int, known: IdentitySnapshot | None
    ) -> None:
        self.views, self.end = views, cut
        self.ingest = Ingest(source, partition, known, columns_of(views))
        self.segments: list[Segment] = []
        self._held: dict[str, list[pa.Table]] = {}
        self.start_at(cut)

    def start_at(self, offset: int) -> None:
        """Open the next segment; one of no length is forgotten."""
        self._close()
        self.segments.append(Segment(offset, offset, view_counts={v.name: ViewCounts() for v in self.views}))
        self._held = {v.name: [] for v in self.views}

    def upto(self, log: Log, topic: str, partition: int, standing: Standing, in_force: InForce) -> None:
        """Fold on to the position; every chosen cut on the way begins a segment. `in_force`: by a ledger read after the standing."""
        for stop in [*(c for c in standing.chosen if self.end < c < standing.position), standing.position]:
            if self.end in standing.chosen and self.segments[-1].start != self.end:
                self.start_at(self.end)
            for block in log.read(topic, partition, self.end, stop, max_records=MAX_RECORDS):
                done = self.ingest.feed(block)
                self.segments[-1].counts += done.counts
                for piece, tables in in_force.pieces(partition, done.accepted):
                    self._fold(piece, tables)
                self.end = self.segments[-1].end = block.end

    def _fold(self, accepted: pa.RecordBatch, tables: Tables) -> None:
        for view in self.views:
            folded = fold(view, accepted, tables)
            self.segments[-1].view_counts[view.name] += folded.counts
            held = self._held[view.name]
            held.append(folded.states)
            if len(held) > HELD_TABLES:
                held[:] = [combine(view, held)]

    def _close(self) -> None:
        if self.segments and self.segments[-1].end == self.segments[-1].start:
            self.segments.pop()
        elif self.segments:
            self.segments[-1].states = {v.name: combine(v, self._held[v.name]) for v in self.views}

    def finished(self) -> list[Segment]:
        """The segments with their states; nothing may be folded after."""
        self._close()
        return self.segments


class SourceRefold:
    """The refold of one source. Everything it touches is an argument.

    `worker` is the name that holds the lease for a moment, `lease_s` at most, taken when at most `near` offsets are left to fold. Two at
    once fence each other: each tries again, and what lands is whole.
    """

    def __init__(
        self, source: Source, views: Sequence[View], generation: Generation, store: RefoldStore, nights: NightStore,
        log: Log, lake: Lake, *, from_start: bool = False, worker: str = "watershed rebuild",
        near: int = NEAR, lease_s: float = LEASE_S, schemas: SchemasOf = no_schemas,
    ) -> None:  # fmt: skip
        self.source, self.views, self.generation, self.store, self.nights = source, views, generation, store, nights
        self.log, self.lake, self.from_start, self.worker = log, lake, from_start, worker
        self.near, self.lease_s, self.schemas = near, lease_s, schemas(source)
        self.versions, self.looks_up = TableVersions(lake), any(view.lookups for view in views)

    def partition(self, partition: int) -> tuple[Standing, list[Segment]]:
        """Refold one partition and put the result in place; how it stood then, and the new segments."""
        topic = self.source.topic
        for _ in range(TRIES):
            standing = began = self.store.standing(self.generation, partition)
            refold = Refold(self.source, self.views, partition, began.cut, None)
            known = self._knowing(began, partition)
            if known is None:
                continue
            refold.ingest = known
            for _ in range(PASSES):
                refold.upto(self.log, topic, partition, standing, self._in_force())
                standing = self.store.standing(self.generation, partition)
                if standing.position - refold.end <= self.near:
                    break
            claim = self.store.seize(self.generation, partition, self.worker, self.lease_s)
            last = self.store.standing(self.generation, partition)
            if self._goes_on(began, last) and refold.end <= claim.position == last.position:
                refold.upto(self.log, topic, partition, last, self._in_force())
                new = refold.finished()
                if self.store.replace(self.generation, claim, last.visible.number, new):
                    return last, new
        raise Refused(
            f"topic {topic}, partition {partition}: batches were published or rolled back all the while, so nothing was replaced;"
            f" run `watershed rebuild` again when no night runs",
            repair="watershed rebuild",
        )

    def _in_force(self) -> InForce:
        """By the ledger as it is now: what is adopted later counts from positions on that are above those known now."""
        ledger = self.nights.ledger(self.generation) if self.looks_up else ()
        return InForce(self.views, ledger, self.versions)

    def _goes_on(self, began: Standing, last: Standing) -> bool:
        """True when what was folded from the cut that was visible at the start still begins at the visible one."""
        return began.visible == last.visible

    def _knowing(self, standing: Standing, partition: int) -> Ingest | None:
        """Memory that the log below the cut leaves behind: replayed from its start, or as the batch layer published it.

        None when a night published and purged it while we looked: look again how the partition stands.
        """
        if self.from_start:
            ingest = Ingest(self.source, partition, columns=columns_of(self.views), schemas=self.schemas)
            ledger = self.nights.ledger(self.generation)
            for block in whole_log(self.log, self.lake, self.generation, ledger, partition, standing.cut, MAX_RECORDS):
                ingest.feed(block)
            return ingest
        try:
            at = standing.visible.number, partition, standing.cut
            known = identities_at(self.lake, self.source, self.generation, *at, WITHOUT, FROM_START)
        except IdentitiesMissing:
            if self.store.standing(self.generation, partition).visible.number != standing.visible.number:
                return None  # a night published and purged while we looked
            raise
        return Ingest(self.source, partition, known, columns_of(self.views), self.schemas)
