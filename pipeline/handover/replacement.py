"""Replacements of what answers: the segments of one partition (a refold), or all of a source (a generation).

    refold:      live segments' = f(log[cut, position))                 knowing the identities below the cut; the row stands still meanwhile
    generation:  answers come from generation g until one transaction, and from g' > g after it; each is f of its own definition

`watershed rebuild` refolds; `watershed init --rebuild` makes a generation. Every method of a store below is one transaction: what it
raises on the way has changed nothing, and after a lost connection it may be called again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.handover import Claim, Counts, Cut, Generation, Vector, ViewCounts, Witness
from pipeline.log.log import TopicDescription


@dataclass
class Segment:
    """A refolded stretch [start, end) of one partition: its counts, and per view its counts and states."""

    start: int
    end: int
    counts: Counts = field(default_factory=Counts)
    view_counts: dict[str, ViewCounts] = field(default_factory=dict)
    states: dict[str, pa.Table] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """One partition at one instant: the visible batch, its cut, the position, and the chosen cuts at or above the visible one, rising."""

    visible: Cut
    cut: int
    position: int
    chosen: tuple[int, ...]


class RefoldStore(Protocol):
    """The questions of a refold to the arbiter, about one partition of a generation in force."""

    def standing(self, generation: Generation, partition: int) -> Standing:
        """Standing of the partition at one instant. The partition moves on at once: look again before you rely on it."""

    def seize(self, generation: Generation, partition: int, worker: str, lease_s: float) -> Claim:
        """Take the lease from whoever holds it, for `lease_s` seconds; the claim is the row as it is now.

        Raises the epoch, so that nobody's commit lands and the position stands still. Refused when the generation is retired. Calling
        it again fences the call before. Whoever dies after it costs the partition `lease_s` of freshness and nothing else.
        """

    def replace(self, generation: Generation, claim: Claim, number: int, new: Sequence[Segment]) -> bool:
        """Let `new` be the live segments of the claim's partition, and let go of it: the epoch is raised once more, and nobody owns it.

        All or nothing. False, with nothing changed, when the row is not as the claim says any more, or batch `number` is not the
        visible one. Refused when `new` does not tile [cut visible, claim.position), when one of them straddles a chosen cut, or when
        the generation is retired. Segments below the visible cut stay, for a rollback. A position at a chosen cut begins a segment.
        The likely mistake: to call it again after True. The claim is let go, so the answer is False.
        """


@dataclass(frozen=True)
class Plan:
    """One source as loaded, its views, and its topic as found: the broker's id, and the log's start per partition.

    `versions` are the newest ones of the tables that the views look up: in force from the start of the log on, where no earlier
    generation says what was.
    """

    source: Source
    topic_id: str
    starts: Vector
    views: tuple[View, ...]
    versions: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for view in self.views:
            if view.source != self.source:
                raise ValueError(f"view {view.name} has another source than topic {self.source.topic}")

    @property
    def found(self) -> TopicDescription:
        """The topic; without configs, which are looked at where the plan is made."""
        return TopicDescription(self.source.topic, len(self.starts), self.topic_id)


@dataclass(frozen=True)
class Restart:
    """Departure of a new generation from the log of the one in force; the default: none at all.

    `fresh`: the topic was made anew, start at its log's start. `resume`: cuts above number `keep` are not taken over, since the log no
    longer has all of their records; a cut of its own follows, whose offsets are where the log goes on.
    """

    fresh: bool = False
    keep: int = 0
    resume: Vector | None = None


AS_IT_WAS = Restart()


class GenerationStore(Protocol):
    """The questions of `init --rebuild` to the arbiter. A generation is building, then active, then retired; at most one is active."""

    def active(self, topic: str) -> Generation | None:
        """The generation that answers; None for a topic that is not set up."""

    def building(self, topic: str) -> Generation | None:
        """The newest generation that is being made, or None."""

    def require(self, source: Source, views: Sequence[View]) -> Generation:
        """The active generation, if it is recorded for exactly these definitions; Refused else, with what differs and what repairs it."""

    def visible(self, generation: Generation) -> int:
        """The number of the generation's visible batch."""

    def progress(self, generation: Generation) -> list[tuple[int, Witness | None]]:
        """By partition: the position, and the last record known to be below it (None when publish or rollback moved it)."""

    def counted_from(self, generation: Generation, partition: int, start: int) -> int:
        """Number of records that the speed layer has counted in the segments of the partition that begin at `start` or above."""

    def begin(self, plan: Plan, restart: Restart = AS_IT_WAS) -> Generation:
        """A generation in status building, with batch 0 published at its start, no rows, and a copy of the ledger of the active one.

        What was published there is chosen here: it is staged and published anew, or covered. It starts where the active one starts,
        as the master dataset does, whatever retention has deleted since; partitions that were added start where they start now. Called
        again for the same, it is the one begun before, with the cuts that were chosen since; one begun for something else is retired.
        Refused when the topic is another one and `restart` is not fresh, or has fewer partitions. The active one goes on answering,
        and moving.
        """

    def activate(self, generation: Generation, views: Sequence[View]) -> None:
        """Let a generation in status building answer; `views` are the definitions it was begun with. Nothing when it does already.

        In the same transaction the one before is retired and fenced (no commit, cut, stage or publish of its workers and nights lands
        after that), and the cuts it chose meanwhile are taken over, in their order, up to the first that a position here has passed.
        Refused when the generation is not being built, was begun for other definitions, or has no published batch where the one before
        answers from one.
        """


__all__ = ["AS_IT_WAS", "GenerationStore", "Plan", "RefoldStore", "Restart", "Segment", "Standing"]
