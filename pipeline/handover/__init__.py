"""The protocol: what the layers ask of the one arbiter, and what it promises.

    batch(visible)[p]  ⊕  Σ live segments of p  =  f(log_p[0, position_p))        for every partition p, at every instant

A cut is a vector, one offset per partition. A segment [start, end) is named by the offset it starts at; segments whose
start is at or above the visible cut are live. Every method of a store below is one transaction, so whoever runs the
layers against another store (the simulation does) runs the same protocol.

For every method: it happens wholly or not at all. Refused names the command that repairs it. StoreError means that the
store cannot do it, now or ever; a write that raises one has an unknown outcome, so each write says how it is called
again. A retired generation is refused by leases, take, choose, stage, publish, rollback and mark_purge, and a commit to
one is Fenced.
"""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol
from uuid import UUID

import pyarrow as pa

from pipeline.base.counts import Counts as Counts
from pipeline.base.counts import ViewCounts as ViewCounts
from pipeline.handover.commits import Claim as Claim
from pipeline.handover.commits import Commit as Commit
from pipeline.handover.commits import Committed as Committed
from pipeline.handover.commits import Fenced as Fenced
from pipeline.handover.commits import LeaseRow as LeaseRow
from pipeline.handover.commits import Outcome as Outcome
from pipeline.handover.commits import Split as Split
from pipeline.handover.commits import WorkerSnapshot as WorkerSnapshot
from pipeline.handover.generation import Cut as Cut
from pipeline.handover.generation import Generation as Generation
from pipeline.handover.generation import Vector as Vector
from pipeline.handover.generation import Witness as Witness


@dataclass(frozen=True)
class Staged:
    """Content that a night stages for one batch: cumulative counts per partition for [start, cut), and the rows of each view.

    `rows` maps each view's name to tables of its states (state_schema): every group touched since the newest published
    batch below, or all groups; each can be read again, for staging may be tried again. `staged_from` is a digest of the
    manifests the rows were read from.
    """

    counts: Sequence[Counts]
    view_counts: Mapping[str, Sequence[ViewCounts]]
    rows: Mapping[str, Iterable[pa.Table]]
    staged_from: str


class SpeedStore(Protocol):
    """The arbiter as a worker sees it: who may move a partition's position, and what has been counted below it."""

    def active(self, topic: str) -> Generation | None:
        """The generation in force, to compare fingerprints with; None for a topic that `init` has not met. Reads."""

    def heartbeat(self, topic: str, worker: str, ttl_s: float) -> list[str]:
        """Say that `worker` lives for ttl_s from now; the sorted names of all live workers of the topic. Idempotent."""

    def farewell(self, topic: str, worker: str) -> None:
        """Mark the worker as gone; leases are let go by release. Idempotent; left out, its heartbeat runs out."""

    def leases(self, generation: Generation) -> list[LeaseRow]:
        """Every partition's lease, by partition, as of now: others take and renew meanwhile. Reads."""

    def take(self, generation: Generation, partition: int, worker: str, lease_s: float) -> Claim | None:
        """Take a free or expired lease: raises the epoch, draws a new owner.

        None when somebody holds it or is changing its row. When it raises, an owner that nobody is may have got it: it
        is free again after lease_s.
        """

    def renew(self, claims: Sequence[Claim], lease_s: float) -> set[UUID]:
        """Prolong to lease_s from now; the owners that still hold theirs. One that ran out and nobody took is held.

        Waits for no row: one that a commit has locked is left to that commit, and counts as held. Idempotent.
        """

    def release(self, claim: Claim) -> None:
        """Let go after drain and commit; a no-op when it is not ours any more. Idempotent."""

    def reload(self, claim: Claim) -> Claim | None:
        """The row as it is now, if the claim's owner and epoch still hold it; else None. Reads."""

    def load_states(self, claim: Claim, view: str) -> pa.Table:
        """The states of the claim's segment: state_schema(view), in no order; empty when the segment has none. Reads.

        The claim is not compared: reload comes first, and commit decides. StoreError for a view the store does not know.
        """

    def versions(self, claim: Claim) -> Mapping[str, int]:
        """The version of each table that is in force at the claim's position, and so in its segment from there on. Reads.

        Another may be in force from that very position on a moment later: commit compares.
        """

    def snapshot_below(self, claim: Claim) -> Cut | None:
        """The newest published batch whose cut is at or below the claim's position in its partition; else None. Reads."""

    def commit(self, work: Commit) -> Outcome:
        """Move the position to work.end with its states and counts: Committed; or, changing nothing, Split or Fenced.

        It lands if and only if owner, epoch, position and segment are the claim's, no chosen cut is strictly inside
        the range, and the versions it was folded with are those in force at its start. Where the end is a chosen cut, the
        next segment begins there, in the same transaction. A commit that lands prolongs the lease as Commit says. When it
        raises, nobody knows whether it landed: throw away everything in memory (row, states, identities) and load it again. The
        same commit sent twice lands once. ValueError when it moves nothing.
        """


class SnapshotStore(Protocol):
    """The list of the workers' own snapshots: a takeover replays a minute of the log, not a day. Never needed.

    A snapshot's file is there  =>  a row names it: recorded before it is written, forgotten after it is deleted.
    """

    def record_snapshot(self, claim: Claim, path: str) -> bool:
        """Note that `path` will hold the identities at claim.position; False, noting nothing, when fenced. Idempotent."""

    def snapshots(self, claim: Claim) -> list[WorkerSnapshot]:
        """Snapshots at or below the claim's position in its generation and partition, the highest first. Reads.

        A row does not mean that the file is there yet, or whole.
        """

    def superseded(self, claim: Claim, path: str) -> list[str]:
        """The paths of the partition's others that this takeover, those before it, or older generations recorded. Reads.

        Not a later takeover's: whoever was stopped for long must not delete what its successor wrote.
        """

    def forget_snapshot(self, claim: Claim, path: str) -> None:
        """Forget a snapshot whose files are gone, fenced or not. Idempotent: a crash before it leaves a row that leads nowhere."""


class NightStore(Protocol):
    """The arbiter as a night sees it: cuts, and the batches staged for them. Twins of a night may call all at once."""

    def active(self, topic: str) -> Generation | None:
        """The generation in force; None for a topic that `init` has not met. Reads."""

    def cut_of(self, generation: Generation, date: date) -> Cut | None:
        """The cut chosen for this date, whatever became of its batch; None before choose. Reads."""

    def choose(self, generation: Generation, date: date, ends: Vector) -> Cut:
        """Under locks on the position rows: max(ends, positions, all chosen cuts); the same date gives the same cut.

        `ends` are the log's last stable offsets, read before; ValueError unless one a partition. From then on no commit
        straddles the cut, and a position that stands at it begins a segment. Idempotent.
        """

    def adopt(self, generation: Generation, versions: Mapping[str, int], ends: Vector) -> Cut:
        """Let these versions of tables be in force from a cut on that is chosen as choose() does, and has no batch.

        The newest cut, with nothing done, where these or newer ones are in force from it on already: so it is idempotent. `ends` as
        for choose(). From then on no commit straddles the cut, and none lands above it that was folded with other versions.
        """

    def ledger(self, generation: Generation) -> list[Cut]:
        """Every cut, by number; withdrawn ones too (their ranges are archived, their folds are not bases). Reads."""

    def stage(self, generation: Generation, number: int, staged: Staged) -> None:
        """Put these rows and counts in the place of the batch's, and set `complete` and `staged_from`, all or nothing.

        Nobody sees them before publish. Refused for a batch that is published, withdrawn or purged; a covered one is left
        as it is. ValueError unless views and partitions are the generation's. The tables are read before anything is
        locked. Idempotent; twins wait for each other.
        """

    def publish(self, generation: Generation, number: int) -> str:
        """Make the batch visible for all views at once: 'published' (also when it was), or 'covered' by the visible cut.

        Positions below the cut are raised to it and begin a segment. Refused, changing nothing, when the batch is not
        complete, is withdrawn or purged, or the live segments do not tile [cut, position). Idempotent.
        """


@dataclass(frozen=True)
class Purge:
    """A purge's mark: batches by number, and speed segments that start below `cut`; that goes, no more and no less."""

    generation: int
    batches: tuple[int, ...]
    cut: Vector


class OperatorStore(Protocol):
    """The arbiter as an operator sees it: one publish back, and out with what no kept batch needs. Layers go on."""

    def rollback(self, generation: Generation) -> Cut:
        """Make the batch before the visible one visible again; the cut that is visible now.

        Where publish had raised a position, it returns to the end of the contiguous coverage, later segments are deleted,
        the epoch is raised and the owner nulled. The batch rolled back is withdrawn, and its date stays refused. Refused
        when batch 0 is visible, after a rollback, or when a purge has given that right up. Not idempotent, but the second
        call refuses.
        """

    def mark_purge(self, generation: Generation, keep: int) -> Purge | None:
        """First transaction: give up rollback below the newest `keep` published batches; what may go, None for nothing.

        ValueError for keep < 1; with keep >= 2 the last rollback stays possible. Idempotent: marked again after a crash,
        nothing that was marked is missing.
        """

    def purge(self, generation: Generation, marked: Purge) -> None:
        """Second transaction: DELETE exactly what was marked, whatever was published or rolled back since. Idempotent.

        No reader, worker or night waits for it. ValueError for a mark of another generation, StoreError for views the
        store does not know.
        """


class Clock(Protocol):
    """A worker's own time: when to look at leases, when to commit. No safety rests on it: leases go by the arbiter's."""

    def monotonic(self) -> float:
        """Seconds since some moment; never less than before."""

    def time(self) -> float:
        """Seconds since 1970, to be held against the timestamps of records; may jump."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set, for so many seconds at most; whether it is set."""


@dataclass(frozen=True)
class SystemClock:
    """Production's clock: this machine's."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds)
