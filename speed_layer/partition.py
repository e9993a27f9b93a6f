"""One partition in a worker's hands: load, fold, commit, and forget.

    memory = (row, states of row.segment, identities of log[0, position)) + work on [row.position, begun) + work on [begun, read)

The work below `begun` is in the commit that is under way; without one begun = row.position. A commit that lands moves the row. One that
a cut splits changed nothing, and the row was just seen to be as it is here: the work on [position, read) is undone and read again.
Fenced, or with an outcome unknown, everything is emptied: the next step is load(). So it is when a commit lands at a cut from which on
other versions of tables are in force: what is in memory was folded with those before.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pyarrow as pa

from pipeline.accept.accept import Ingest
from pipeline.accept.dedupe import IdentitySnapshot, Moment
from pipeline.accept.identity_files import IdentitiesMissing, identities_at
from pipeline.base.errors import Refused
from pipeline.base.stages import stage
from pipeline.fold.fold import columns_of, fold
from pipeline.fold.in_force import tables_of
from pipeline.fold.lookup import Tables
from pipeline.handover import (
    Claim,
    Commit,
    Committed,
    Counts,
    Outcome,
    Split,
    ViewCounts,
    Witness,
)
from pipeline.handover.generation import refuse_other_log
from pipeline.handover.versions import Versions, wanted
from pipeline.log.log import Block, refuse_regrown
from speed_layer.collaborators import ActiveSource, Collaborators
from speed_layer.fetch_ahead import At
from speed_layer.segment_states import SegmentStates


def split_block(block: Block, at: int) -> tuple[Block, Block]:
    """The block's [start, at) and [at, end); start < at < end."""
    below = int((block.offsets < at).sum())
    return Block(block.batch.slice(0, below), block.start, at), Block(block.batch.slice(below), at, block.end)


@dataclass
class Pending:
    """Counts of records that were folded and are in no commit yet, with the newest timestamp and the last record's witness."""

    views: dict[str, ViewCounts]
    counts: Counts = field(default_factory=Counts)
    witness: Witness | None = None
    newest_ms: int = -1  # of record timestamps


@dataclass(frozen=True)
class Begun:
    """A commit that is under way: its content, and the moment that the identities are kept at when it lands."""

    commit: Commit
    pending: Pending
    moment: Moment


@dataclass
class Loaded:
    """The memory of a partition, up to `read`, the next offset that it wants; of view name to states in `states`.

    `replayed_from` is where loading began to read the log again; `tables` are those that the views look up, in the `versions` in force at
    the row's position. It is whole between two calls of PartitionWork, or thrown away.
    """

    read: int
    replayed_from: int
    states: dict[str, SegmentStates]
    ingest: Ingest
    pending: Pending
    versions: Versions = field(default_factory=dict)
    tables: Tables = field(default_factory=dict)
    begun: Begun | None = None


class PartitionWork:
    """The work on one partition, from a takeover on. `loaded` is None until load(), and after forget().

    One thread at a time; but send() may be called in another one while this is folded on.
    """

    def __init__(self, source: ActiveSource, collaborators: Collaborators, claim: Claim) -> None:
        self.source, self.collaborators = source, collaborators
        self.schemas = collaborators.schemas(source.source)
        self.claim = claim
        self.loaded: Loaded | None = None
        self.limit: int | None = None  # a chosen cut that the next commit must end at
        self.oldest_s = 0.0  # the clock's time at which the oldest uncommitted block was taken

    @property
    def at(self) -> At:
        """The partition's place: (topic, partition)."""
        return self.claim.topic, self.claim.partition

    @property
    def read(self) -> int | None:
        """The next offset that it wants; None while it must be loaded."""
        return self.loaded.read if self.loaded is not None else None

    @property
    def dirty(self) -> bool:
        """True when there is work that is in no commit yet."""
        at = self.loaded
        return at is not None and at.read > (self.claim.position if at.begun is None else at.begun.commit.end)

    @property
    def full(self) -> bool:
        """True when the next commit must come before more is read."""
        return self.limit is not None and self.read == self.limit

    @property
    def uncommitted_records(self) -> int:
        """Records folded that are in no commit yet."""
        return self.loaded.pending.counts.records if self.loaded is not None else 0

    def _memory(self) -> Loaded:
        assert self.loaded is not None, "load() first"
        return self.loaded

    def _nothing(self) -> Pending:
        return Pending({v.name: ViewCounts() for v in self.source.views})

    # ---- load
    def load(self, give_up: Callable[[], bool] = lambda: False) -> bool:
        """Read the row again and load what belongs to it; False when the lease is gone.

        When `give_up()` turns true meanwhile, or the snapshot was purged under it, it returns without having loaded: `loaded` stays None.
        """
        store = self.collaborators.store
        claim = store.reload(self.claim)
        if claim is None:
            return False
        self._check_topic(claim)
        self._check_witness(claim)
        self.claim = claim
        states = {v.name: SegmentStates(v, store.load_states(claim, v.name)) for v in self.source.views}
        found = self._load_identities(claim, give_up)
        if found is not None:
            ingest, replayed_from = found
            ingest.identities.keep()
            versions = self._versions(claim)
            tables = self.collaborators.table_versions.get(self.source.views, versions)
            self.loaded = Loaded(claim.position, replayed_from, states, ingest, self._nothing(), versions, tables)
        return True

    def _versions(self, claim: Claim) -> Versions:
        """The versions in force at the claim's position, of the tables that the views look up; Refused where one has none."""
        names = tables_of(self.source.views)
        return wanted(self.collaborators.store.versions(claim), names) if names else {}

    def forget(self) -> None:
        """Throw everything away; a commit under way must have ended, for load() to see what became of it."""
        self.loaded = None

    def rewind(self) -> None:
        """Back to the row: as load() would leave it, without a look at the store, the lake or the log."""
        loaded = self._memory()
        loaded.ingest.identities.undo()
        for states in loaded.states.values():
            states.undo()
        loaded.begun, loaded.pending = None, self._nothing()
        loaded.read = self.claim.position

    def _load_identities(self, claim: Claim, give_up: Callable[[], bool]) -> tuple[Ingest, int] | None:
        """The identities of log[0, position): the newest snapshot at or below it, and the log from there on, which is given too."""
        parts, topic, partition = self.collaborators, claim.topic, claim.partition
        cut = parts.store.snapshot_below(claim)
        if cut is None:
            raise Refused(
                f"topic {topic}, partition {partition}: no published batch lies at or below position {claim.position}, so the"
                f" identities below it are unknown; run a night, or `watershed init --rebuild`",
                repair="watershed init --rebuild",
            )
        start = cut.offsets[partition]
        snapshots = parts.snapshots(self.source.generation)
        snapshot = snapshots.newest(claim, start) if snapshots is not None else None
        if snapshot is None:
            try:
                snapshot = identities_at(
                    parts.lake, self.source.source, self.source.generation, cut.number, partition, start
                )
            except IdentitiesMissing:
                if parts.store.snapshot_below(claim) != cut:
                    return None  # a night published and purged while we looked: read the row again
                raise
        start = snapshot.position if snapshot is not None else start
        ingest = Ingest(self.source.source, partition, snapshot, columns_of(self.source.views), self.schemas)
        if start < claim.position:
            for block in parts.log.read(topic, partition, start, claim.position):
                if give_up():
                    return None
                ingest.feed(block)
        return ingest, start

    def _check_topic(self, claim: Claim) -> None:
        """A topic made anew may well have a record at this position; it is another one."""
        refuse_other_log(self.source.generation, self.collaborators.log.describe(claim.topic))

    def _check_witness(self, claim: Claim) -> None:
        if claim.witness is not None:
            refuse_regrown(
                self.collaborators.log, claim.topic, claim.partition, claim.witness.offset, claim.witness.hash
            )

    # ---- fold
    def feed(self, block: Block) -> Block | None:
        """Take the next block, which starts at `read`; what lies beyond a cut that must be committed first comes back.

        After an error the memory is gone, for it may hold a part of the block: load() again, or end.
        """
        loaded = self._memory()
        assert loaded.read == block.start, f"block starts at {block.start}, wanted {loaded.read}"
        rest = None
        if self.limit is not None and block.start < self.limit < block.end:
            block, rest = split_block(block, self.limit)
        if not self.dirty:
            self.oldest_s = self.collaborators.clock.monotonic()
        try:
            self._fold(loaded, block)
        except BaseException:
            self.forget()  # a part of the block is in the memory: it must never be committed
            raise
        loaded.read = block.end
        newest_ms = int(block.batch.column("timestamp_ms")[-1].as_py()) if len(block) else -1
        loaded.pending.newest_ms = max(loaded.pending.newest_ms, newest_ms)
        return rest

    def _fold(self, loaded: Loaded, block: Block) -> None:
        done, pending = loaded.ingest.feed(block), loaded.pending
        pending.counts += done.counts
        pending.witness = done.witness or pending.witness
        for view in self.source.views:
            with stage("fold", done.accepted.num_rows):
                folded = fold(view, done.accepted, loaded.tables)
            with stage("merge", done.accepted.num_rows):
                loaded.states[view.name].merge(folded.states)
            pending.views[view.name] += folded.counts

    # ---- commit
    def begin(self) -> Begun:
        """Begin the commit of all work in hand: send() it, then settle() what is answered; meanwhile feed() may go on."""
        loaded = self._memory()
        assert loaded.begun is None, "one commit at a time"
        try:
            with stage("merge"):
                states: dict[str, pa.Table] = {name: memory.changed() for name, memory in loaded.states.items()}
        except BaseException:
            self.forget()  # some of the states wait for a commit that never begins
            raise
        done, identities, lease_s = loaded.pending, loaded.ingest.identities, self.collaborators.lease_s
        commit = Commit(
            self.claim,
            loaded.read,
            done.counts,
            states,
            dict(done.views),
            identities.watermark_ms,
            done.witness,
            lease_s,
            loaded.versions,
        )
        loaded.begun, loaded.pending = Begun(commit, done, identities.moment()), self._nothing()
        return loaded.begun

    def send(self, begun: Begun) -> Outcome:
        """Have the store commit it. In any thread: nothing that is fed is looked at. An error leaves the outcome unknown: forget()."""
        self.collaborators.crash.reach("speed.before_commit")
        with stage("commit", begun.pending.counts.records):
            outcome = self.collaborators.store.commit(begun.commit)
        self.collaborators.crash.reach("speed.after_commit")
        return outcome

    def settle(self, begun: Begun, outcome: Outcome) -> bool:
        """True when the commit landed, and its memory was not forgotten meanwhile. Else `read` is the row's position, or None: load()."""
        loaded = self.loaded
        if loaded is None or loaded.begun is not begun:
            return False
        if isinstance(outcome, Committed):
            self._landed(loaded, begun, outcome.claim)
            return True
        if isinstance(outcome, Split):
            self.limit = outcome.at
            self.rewind()
        else:
            self.limit = None
            self.forget()
        return False

    def _landed(self, loaded: Loaded, begun: Begun, claim: Claim) -> None:
        if claim.segment != self.claim.segment:
            loaded.states = {name: memory.next_segment() for name, memory in loaded.states.items()}
        else:
            for memory in loaded.states.values():
                memory.mark_committed()
        if self.limit is not None and claim.position >= self.limit:
            self.limit = None
        changed = claim.segment != self.claim.segment and self._versions(claim) != loaded.versions
        self.claim = replace(claim, witness=claim.witness or begun.pending.witness)
        loaded.ingest.identities.keep(begun.moment)
        loaded.begun = None
        if changed:  # work beyond the cut was folded with versions that are in force below it alone
            self.forget()

    def remembered(self) -> IdentitySnapshot | None:
        """A copy of the identities of log[0, position); None while the memory is elsewhere than at the position."""
        loaded = self.loaded
        if loaded is None or loaded.read != self.claim.position:
            return None
        return loaded.ingest.identities.copied(self.claim.position)
