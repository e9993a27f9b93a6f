"""The nouns of the hand-over, and what the layers ask of the one arbiter.

    batch(visible)[p]  ⊕  Σ live segments of p  =  f(log_p[0, position_p))        for every partition p, at every instant

A cut is a vector, one offset per partition. A segment [start, end) is named by the offset it starts at; segments whose start is at
or above the visible cut are live. Every method of a store below is one transaction, so whoever runs the layers against another
store (the simulation does) runs the same protocol.
"""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol
from uuid import UUID

import pyarrow as pa

Vector = tuple[int, ...]


@dataclass(frozen=True)
class Counts:
    """What became of the records of a range of one partition: records = accepted + duplicates + rejected + tombstones."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    tombstones: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.accepted + other.accepted,
            self.duplicates + other.duplicates,
            self.rejected + other.rejected,
            self.tombstones + other.tombstones,
        )

    @property
    def records(self) -> int:
        return self.accepted + self.duplicates + self.rejected + self.tombstones


@dataclass(frozen=True)
class ViewCounts:
    """What became of the accepted records in one view: accepted = folded + filtered + rejected."""

    folded: int = 0
    filtered: int = 0
    rejected: int = 0

    def __add__(self, other: "ViewCounts") -> "ViewCounts":
        return ViewCounts(self.folded + other.folded, self.filtered + other.filtered, self.rejected + other.rejected)


@dataclass(frozen=True)
class Generation:
    """A source's definition in force: its topic as it was found, and the fingerprints that workers and nights must match.

    `views` maps each view's name to its fingerprint; `starts` is the log's start per partition, the cut of batch 0.
    """

    topic: str
    number: int
    topic_id: str
    starts: Vector
    source_fingerprint: str
    views: Mapping[str, str]

    @property
    def partitions(self) -> int:
        return len(self.starts)


@dataclass(frozen=True)
class Witness:
    """The last record below a position: its offset, and a hash of its bytes. A log that shows another there was truncated."""

    offset: int
    hash: str


@dataclass(frozen=True)
class Claim:
    """One takeover of one partition: the row as the owner last knew it. `epoch` and `owner` fence everybody before."""

    topic: str
    generation: int
    partition: int
    owner: UUID
    epoch: int
    position: int
    segment: int
    witness: Witness | None = None


@dataclass(frozen=True)
class Commit:
    """The work on [claim.position, end): the changed states of claim.segment, per view, and the counts of this range alone.

    `states` maps each view's name to a table of key columns, window_start and state fields (pipeline.states.state_schema), one row
    per changed group; `watermark_ms` is the running maximum of record timestamps (-1: none yet). If it lands, the lease holds for
    `lease_s` more seconds at least: a renewal passes over rows that a commit has locked.
    """

    claim: Claim
    end: int
    counts: Counts
    states: Mapping[str, pa.Table]
    view_counts: Mapping[str, ViewCounts]
    watermark_ms: int = -1
    witness: Witness | None = None
    lease_s: float = 0.0


@dataclass(frozen=True)
class Committed:
    """It landed; `claim` is the row now. When claim.segment changed, the states in memory belong to the segment before."""

    claim: Claim


@dataclass(frozen=True)
class Split:
    """Refused: a chosen cut lies strictly inside the range. Nothing changed; commit [position, at) first."""

    at: int


@dataclass(frozen=True)
class Fenced:
    """Refused: the row is not as the claim says (taken over, released, published past). Throw away everything in memory."""


Outcome = Committed | Split | Fenced


@dataclass(frozen=True)
class LeaseRow:
    """One partition's lease as seen by anybody: `held` is whether its owner's lease has not run out."""

    partition: int
    position: int
    worker: str | None
    owner: UUID | None
    held: bool


@dataclass(frozen=True)
class Cut:
    """A chosen cut: the row of ops.cuts beside its batch. `status`: chosen, published, covered, withdrawn or purged.

    `number` counts the cuts of a topic; number 0 is the log's start, published by init. `complete` is whether the rows are staged.
    """

    topic: str
    generation: int
    number: int
    date: date | None
    offsets: Vector
    chosen_at: datetime
    status: str
    complete: bool = False
    staged_from: str | None = None

    def at_most(self, other: Vector) -> bool:
        """Whether this cut is nowhere above the other."""
        return all(mine <= theirs for mine, theirs in zip(self.offsets, other, strict=True))


@dataclass(frozen=True)
class WorkerSnapshot:
    """Where a worker may have written what a partition remembers at `position`: a lake path without an ending."""

    position: int
    path: str


@dataclass(frozen=True)
class Staged:
    """What a night stages for one batch: cumulative counts per partition for [start, cut), and the rows of each view.

    `rows` maps each view's name to tables of its states (state_schema): every group touched since the newest published batch
    below, or all groups. `staged_from` is a digest of the manifests the rows were read from.
    """

    counts: Sequence[Counts]
    view_counts: Mapping[str, Sequence[ViewCounts]]
    rows: Mapping[str, Iterable[pa.Table]]
    staged_from: str


class SpeedStore(Protocol):
    """What a worker asks."""

    def active(self, topic: str) -> Generation | None: ...

    def heartbeat(self, topic: str, worker: str, ttl_s: float) -> list[str]:
        """Say that `worker` lives, for ttl_s; return the sorted names of all live workers of the topic."""

    def farewell(self, topic: str, worker: str) -> None: ...

    def leases(self, generation: Generation) -> list[LeaseRow]: ...

    def take(self, generation: Generation, partition: int, worker: str, lease_s: float) -> Claim | None:
        """Take a free or expired lease: raises the epoch, draws a new owner. None when somebody holds it."""

    def renew(self, claims: Sequence[Claim], lease_s: float) -> set[UUID]:
        """Prolong; return the owners that still hold theirs. A row that a commit has locked is left as it is, and counts as held."""

    def release(self, claim: Claim) -> None:
        """Let go after drain and commit; a no-op when it is not ours any more."""

    def reload(self, claim: Claim) -> Claim | None:
        """The row as it is now, if the claim's owner and epoch still hold it; else None."""

    def load_states(self, claim: Claim, view: str) -> pa.Table: ...

    def snapshot_below(self, claim: Claim) -> Cut | None:
        """The newest published batch whose cut is at or below the claim's position in its partition."""

    def commit(self, work: Commit) -> Outcome: ...


class SnapshotStore(Protocol):
    """What a worker asks beyond SpeedStore so that a takeover replays a minute of the log, not a day. A shortcut, never needed.

    A snapshot's file is there  =>  a row names it: it is recorded before it is written, and forgotten after it is deleted.
    """

    def record_snapshot(self, claim: Claim, path: str) -> bool:
        """Note that `path` will hold the identities at claim.position; False, noting nothing, when the claim is fenced."""

    def snapshots(self, claim: Claim) -> list[WorkerSnapshot]:
        """Those recorded at or below the claim's position in its generation and partition, the highest position first."""

    def superseded(self, claim: Claim, path: str) -> list[str]:
        """The paths of the partition's others that this takeover, those before it, or older generations recorded."""

    def forget_snapshot(self, claim: Claim, path: str) -> None:
        """Its files are gone."""


class NightStore(Protocol):
    """What a night asks."""

    def active(self, topic: str) -> Generation | None: ...

    def cut_of(self, generation: Generation, date: date) -> Cut | None: ...

    def choose(self, generation: Generation, date: date, ends: Vector) -> Cut:
        """Under locks on the position rows: max(ends, positions, newest chosen or published cut); the same date gives the same cut."""

    def ledger(self, generation: Generation) -> list[Cut]:
        """Every cut of the generation, by number; withdrawn ones too (their ranges are archived, their folds are not bases)."""

    def stage(self, generation: Generation, number: int, staged: Staged) -> None: ...

    def publish(self, generation: Generation, number: int) -> str:
        """'published' or 'covered'; raises Refused when the live segments do not tile [cut, position)."""


@dataclass(frozen=True)
class Purge:
    """What a purge marked and will delete, no more and no less: batches by number, and speed segments that start below `cut`."""

    generation: int
    batches: tuple[int, ...]
    cut: Vector


class OperatorStore(Protocol):
    """What an operator asks."""

    def rollback(self, generation: Generation) -> Cut:
        """Make the batch before the visible one visible again, in one transaction; the cut that is visible now.

        Where publish had raised a position, it returns to the end of the contiguous coverage, later segments are deleted, the epoch
        is raised and the owner nulled. The batch rolled back is withdrawn. Refused when purge has given that right up.
        """

    def mark_purge(self, generation: Generation, keep: int) -> Purge | None:
        """First transaction: give up rollback below the newest `keep` published batches, and note what may go; None when nothing may."""

    def purge(self, generation: Generation, marked: Purge) -> None:
        """Second transaction: DELETE exactly what was marked; safe to run again."""


class Clock(Protocol):
    """A worker's own time, for when to look at leases and when to commit. No safety rests on it: leases run out by the arbiter's clock."""

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


class CrashPoints(Protocol):
    """A place by name where a process may die; production passes one that does nothing."""

    def reach(self, name: str) -> None: ...


@dataclass(frozen=True)
class NoCrash:
    """Production's crash points."""

    def reach(self, name: str) -> None:
        """Go on."""


__all__ = [
    "Claim",
    "Clock",
    "Commit",
    "Committed",
    "Counts",
    "CrashPoints",
    "Cut",
    "Fenced",
    "Generation",
    "LeaseRow",
    "NightStore",
    "NoCrash",
    "OperatorStore",
    "Outcome",
    "Purge",
    "SnapshotStore",
    "SpeedStore",
    "Split",
    "Staged",
    "SystemClock",
    "Vector",
    "ViewCounts",
    "Witness",
    "WorkerSnapshot",
]
