"""A source's definition in force, the log it was made for, and the cuts of that log.

offsets mean the records of one topic with its partitions, kept as they were; of another log they mean nothing
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from pipeline.log.log import Repartitioned, TopicDescription, refuse_compacted, refuse_recreated

Vector = tuple[int, ...]
VersionPairs = tuple[tuple[str, int], ...]  # table, version; by table


@dataclass(frozen=True)
class Generation:
    """A source's definition in force: its topic as found, and the fingerprints that workers and nights must match.

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


def refuse_other_log(generation: Generation, found: TopicDescription) -> None:
    """Nothing when it is the log the generation was made for, kept as it was.

    Else TopicRecreated, Repartitioned or Compacted, each a Refused that names the command that repairs it. A caller's
    likely mistake: a description without configs says nothing of compaction.
    """
    refuse_recreated(generation.topic, found.topic_id, generation.topic_id)
    if found.partitions != generation.partitions:
        raise Repartitioned(
            f"topic {generation.topic} has {found.partitions} partitions, and {generation.partitions} when it was set up:"
            f" with another number, keys move between partitions and their duplicates are not seen;"
            f" `watershed init --rebuild` takes the new ones in",
            repair="watershed init --rebuild",
        )
    refuse_compacted(found)


@dataclass(frozen=True)
class Witness:
    """The last record below a position: its offset and a hash of its bytes. Another one there: a truncated log."""

    offset: int
    hash: str


@dataclass(frozen=True)
class Cut:
    """A chosen cut: the row of ops.cuts beside its batch. `status`: chosen, published, covered, withdrawn or purged; or adopted.

    `number` counts the cuts of a topic; number 0 is the log's start, published by init. `complete` is whether the rows
    are staged. `versions` are those of tables that are in force from it on, by name: its own, and what it inherits. A cut that was
    chosen to adopt a version, and no night's, is adopted, and never gets a batch.
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
    versions: VersionPairs = ()

    @property
    def splits(self) -> bool:
        """True while no commit may straddle it: a night's until it is published or given up, an adopted one always."""
        return self.status in ("chosen", "adopted")

    def at_most(self, other: Vector) -> bool:
        """True when this cut is nowhere above the other."""
        return all(mine <= theirs for mine, theirs in zip(self.offsets, other, strict=True))
