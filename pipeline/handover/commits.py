"""A worker's claim on a partition, the commit that moves its position, and what may come of it.

commit(claim, [claim.position, end)) = Committed | Split | Fenced        each is known to have landed, or not to have
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

import pyarrow as pa

from pipeline.base.counts import Counts, ViewCounts
from pipeline.handover.generation import Witness


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
    """The work on [claim.position, end): the changed states of claim.segment, per view, and the counts of that range.

    `states` maps each view's name to a table of key columns, window_start and state fields
    (pipeline.fold.states.state_schema), one row per changed group; `watermark_ms` is the running maximum of record timestamps
    (-1: none yet); `versions` are those of the tables that the views looked up. If it lands, the lease holds for `lease_s`
    more seconds at least: a renewal passes over rows that a commit has locked.
    """

    claim: Claim
    end: int
    counts: Counts
    states: Mapping[str, pa.Table]
    view_counts: Mapping[str, ViewCounts]
    watermark_ms: int = -1
    witness: Witness | None = None
    lease_s: float = 0.0
    versions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Committed:
    """Outcome of a commit that landed; `claim` is the row now.

    When claim.segment changed, the states in memory belong to the segment before.
    """

    claim: Claim


@dataclass(frozen=True)
class Split:
    """Refused: a chosen cut lies strictly inside the range. Nothing changed; commit [position, at) first."""

    at: int


@dataclass(frozen=True)
class Fenced:
    """Refused: the row is not as the claim says (taken over, released, published past), or other versions of tables are in force.

    Throw away everything in memory.
    """


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
class WorkerSnapshot:
    """Place in the lake, a path without an ending, of a partition's memory at `position`, as a worker wrote it or was about to."""

    position: int
    path: str
