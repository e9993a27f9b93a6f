"""One partition in a worker's hands: load, fold, commit, and forget.

    memory = (row, states of row.segment, identities of log[0, position)) + work on [row.position, begun) + work on [begun, read)

The work below `begun` is in the commit that is under way; without one begun = row.position. A commit that lands moves the row. One that
a cut splits changed nothing, and the row was just seen to be as it is here: the work on [position, read) is undone and read again.
Fenced, or with an outcome unknown, everything is emptied: the next step is load().
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from pipeline.accept.accept import Ingest
from pipeline.accept.dedupe import Moment
from pipeline.accept.identity_files import IdentitiesMissing, identities_at
from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.base.errors import Refused
from pipeline.base.stages import stage
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.fold.fold import columns_of, fold
from pipeline.handover import Claim, Commit, Committed, Counts, Generation, Outcome, SnapshotStore, SpeedStore, Split, ViewCounts, Witness
from pipeline.handover.generation import refuse_other_log
from pipeline.lake.lake import Lake
from pipeline.log.log import Block, Log, refuse_regrown
from speed_layer.identity_snapshots import Snapshots
from speed_layer.segment_states import SegmentStates


@dataclass(frozen=True)
class Parts:
    """What a worker works with; all of it given, so that tests and the simulation can give others.

    Without `snapshot_store` it writes and reads no snapshots of its own: a takeover replays the log from the batch's.
    """

    source: Source
    views: Sequence[View]
    generation: Generation
    store: SpeedStore
    log: Log
    lake: Lake
    crash: CrashPoints = field(default_factory=NoCrash)
    snapshot_store: SnapshotStore | None = None

    @property
    def snapshots(self) -> Snapshots | None:
        """The workers' own snapshots of the source."""
        return Snapshots(self.snapshot_store, self.lake, self.generation) if self.snapshot_store is not None else None


def split_block(block: Block, at: int) -> tuple[Block, Block]:
    """The block's [start, at) and [at, end); start < at < end."""
    below = int((block.offsets < at).sum())
    return Block(block.batch.slice(0, below), block.start, at), Block(block.batch.slice(below), at, block.end)


@dataclass
class Pending:
    """What became of the records of some work, and the newest and the last of them."""

    views: dict[str, ViewCounts]
    counts: Counts = field(default_factory=Counts)
    witness: Witness | None = None
    newest_ms: int = -1  # of record timestamps


@dataclass(frozen=True)
class Begun:
    """A commit that is under way: what it commits, and how the memory gets back to just that."""

    commit: Commit
    pending: Pending
    moment: Moment


class PartitionWork:
    """See the module. `read` is the next offset it wants; None while it must be loaded.

    One thread at a time; but send() may be called in another one while this is folded on.
    """

    def __init__(self, parts: Parts, claim: Claim) -> None:
        self.parts = parts
        self.claim = claim
        self.read: int | None = None
        self.replayed_from = claim.position  # where the last load began to read the log again
        self.limit: int | None = None  # a chosen cut that the next commit must end at
        self.oldest_s = 0.0  # monotonic time at which the oldest uncommitted block was taken
        self.states: dict[str, SegmentStates] = {}
        self.begun: Begun | None = None
        self.pending = self._nothing()

    def _nothing(self) -> Pending:
        return Pending({v.name: ViewCounts() for v in self.parts.views})

    # ---- load
    def load(self, give_up: Callable[[], bool] = lambda: False) -> bool:
        """Read the row again and load what belongs to it; False when the lease is gone.

        When `give_up()` turns true meanwhile, or the snapshot was purged under it, it returns without having loaded: `read` stays None.
        """
        claim = self.parts.store.reload(self.claim)
        if claim is None:
            return False
        self._check_topic(claim)
        self._check_witness(claim)
        self.claim = claim
        self.states = {v.name: SegmentStates(v, self.parts.store.load_states(claim, v.name)) for v in self.parts.views}
        ingest = self._load_identities(claim, give_up)
        if ingest is not None:
            self.ingest = ingest
            ingest.identities.keep()
            self.begun, self.pending = None, self._nothing()
            self.read = claim.position
        return True

    def forget(self) -> None:
        """Throw everything away; a commit under way must have ended, for load() to see what became of it."""
        self.read = self.begun = None
        self.states = {}

    def rewind(self) -> None:
        """Back to the row: as load() would leave it, without a look at the store, the lake or the log."""
        self.ingest.identities.undo()
        for memory in self.states.values():
            memory.undo()
        self.begun, self.pending = None, self._nothing()
        self.read = self.claim.position

    def _load_identities(self, claim: Claim, give_up: Callable[[], bool]) -> Ingest | None:
        """The identities of log[0, position): the newest snapshot at or below it, and the log from there."""
        parts, topic, partition = self.parts, claim.topic, claim.partition
        cut = parts.store.snapshot_below(claim)
        if cut is None:
            raise Refused(
                f"topic {topic}, partition {partition}: no published batch lies at or below position {claim.position}, so the"
                f" identities below it are unknown; run a night, or `watershed init --rebuild`"
            )
        start = cut.offsets[partition]
        snapshot = parts.snapshots.newest(claim, start) if parts.snapshots is not None else None
        if snapshot is None:
            try:
                snapshot = identities_at(parts.lake, parts.source, parts.generation, cut.number, partition, start)
            except IdentitiesMissing:
                if parts.store.snapshot_below(claim) != cut:
                    return None  # a night published and purged while we looked: read the row again
                raise
        start = self.replayed_from = snapshot.position if snapshot is not None else start
        ingest = Ingest(parts.source, partition, snapshot, columns_of(parts.views))
        if start < claim.position:
            for block in parts.log.read(topic, partition, start, claim.position):
                if give_up():
                    return None
                ingest.feed(block)
        return ingest

    def _check_topic(self, claim: Claim) -> None:
        """A topic made anew may well have a record at this position; it is another one."""
        refuse_other_log(self.parts.generation, self.parts.log.describe(claim.topic))

    def _check_witness(self, claim: Claim) -> None:
        if claim.witness is not None:
            refuse_regrown(self.parts.log, claim.topic, claim.partition, claim.witness.offset, claim.witness.hash)

    # ---- fold
    def feed(self, block: Block) -> Block | None:
        """Take the next block; what lies beyond a cut that must be committed first comes back."""
        assert self.read == block.start, f"block starts at {block.start}, wanted {self.read}"
        rest = None
        if self.limit is not None and block.start < self.limit < block.end:
            block, rest = split_block(block, self.limit)
        if not self.dirty:
            self.oldest_s = time.monotonic()
        try:
            self._fold(block)
        except BaseException:
            self.forget()  # a part of the block is in the memory: it must never be committed
            raise
        self.read = block.end
        newest_ms = int(block.batch.column("timestamp_ms")[-1].as_py()) if len(block) else -1
        self.pending.newest_ms = max(self.pending.newest_ms, newest_ms)
        return rest

    def _fold(self, block: Block) -> None:
        done = self.ingest.feed(block)
        self.pending.counts += done.counts
        self.pending.witness = done.witness or self.pending.witness
        for view in self.parts.views:
            with stage("fold", done.accepted.num_rows):
                folded = fold(view, done.accepted)
            with stage("merge", done.accepted.num_rows):
                self.states[view.name].merge(folded.states)
            self.pending.views[view.name] += folded.counts

    @property
    def dirty(self) -> bool:
        """Whether there is work that is in no commit yet."""
        return self.read is not None and self.read > (self.claim.position if self.begun is None else self.begun.commit.end)

    @property
    def full(self) -> bool:
        """Whether the next commit must come before more is read."""
        return self.limit is not None and self.read == self.limit

    # ---- commit
    def begin(self) -> Begun:
        """Begin the commit of all work in hand: send() it, then settle() what is answered; meanwhile feed() may go on."""
        assert self.read is not None and self.begun is None, "one commit at a time"
        try:
            with stage("merge"):
                states: dict[str, pa.Table] = {name: memory.changed() for name, memory in self.states.items()}
        except BaseException:
            self.forget()  # some of the states wait for a commit that never begins
            raise
        done, identities = self.pending, self.ingest.identities
        commit = Commit(self.claim, self.read, done.counts, states, dict(done.views), identities.watermark_ms, done.witness)
        self.begun, self.pending = Begun(commit, done, identities.moment()), self._nothing()
        return self.begun

    def send(self, begun: Begun) -> Outcome:
        """Have the store commit it. In any thread: nothing that is fed is looked at. An error leaves the outcome unknown: forget()."""
        self.parts.crash.reach("speed.before_commit")
        with stage("commit", begun.pending.counts.records):
            outcome = self.parts.store.commit(begun.commit)
        self.parts.crash.reach("speed.after_commit")
        return outcome

    def settle(self, outcome: Outcome) -> bool:
        """Whether the commit landed. If not, `read` is the row's position, or None (load() next)."""
        assert self.begun is not None
        if isinstance(outcome, Committed):
            self._landed(outcome.claim, self.begun)
            return True
        if isinstance(outcome, Split):
            self.limit = outcome.at
            self.rewind()
        else:
            self.limit = None
            self.forget()
        return False

    def _landed(self, claim: Claim, begun: Begun) -> None:
        if claim.segment != self.claim.segment:
            self.states = {name: memory.next_segment() for name, memory in self.states.items()}
        else:
            for memory in self.states.values():
                memory.mark_committed()
        if self.limit is not None and claim.position >= self.limit:
            self.limit = None
        self.claim = replace(claim, witness=claim.witness or begun.pending.witness)
        self.ingest.identities.keep(begun.moment)
        self.begun = None
