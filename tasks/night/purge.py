"""Letting go: batches, covered segments and lake files that no kept batch needs.

    kept = the newest `keep` published batches and every cut after the oldest of them
    a file of views/ or identities/ goes  =>  a manifest of an older cut names it, and no manifest of a kept cut does

master/, clean/ and rejected/ are never touched. No directory is listed: files are found through the manifests of the ledger's cuts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.definition.view import View
from pipeline.handover import Cut, OperatorStore
from pipeline.handover.replacement import GenerationStore
from pipeline.lake.lake import Lake
from serving.stores.operator import PostgresOperatorStore
from tasks.context import Context
from tasks.current import write_current
from tasks.night.night import Night

KEEP = 2  # published batches: the visible one, and the one a rollback returns to


@dataclass(frozen=True)
class Purged:
    """Batches, segments and files that one purge let go of."""

    topic: str
    batches: tuple[int, ...]
    files: int
    kept: int

    def __str__(self) -> str:
        gone = f"batches {', '.join(map(str, self.batches))}" if self.batches else "no batch"
        return f"{self.topic}: purged {gone} and {self.files} lake files; batch {self.kept} and later ones are kept"


def purge(parts: Context, topic: str, keep: int = KEEP) -> Purged:
    """Purge one topic's active generation; what it did."""
    return purge_source(
        parts.night(topic), PostgresOperatorStore(parts.engine, parts.views, crash=parts.crash), parts.generations, keep
    )


def purge_source(night: Night, store: OperatorStore, generations: GenerationStore, keep: int = KEEP) -> Purged:
    """Purge the generation of a night, the store first; what it did. Safe to kill and to run again."""
    topic = night.source.topic
    marked = store.mark_purge(night.generation, keep)
    night.crash.reach("purge.marked")
    if marked is not None:
        store.purge(night.generation, marked)
    write_current(night)  # before a file goes that it may name still, if whoever published died before it was written
    ledger = night.store.ledger(night.generation)
    # What the mark kept, whatever was published since: a rollback may still return to it.
    oldest = min(c.number for c in ledger if c.status == "published")
    rebuilding = generations.building(topic) is not None
    # A rebuild may read what this generation needs no more
    files = 0 if rebuilding else purge_lake(night, ledger, oldest)
    return Purged(topic, marked.batches if marked else (), files, oldest)


def purge_lake(night: Night, ledger: list[Cut], oldest: int) -> int:
    """Delete the files of cuts below `oldest` that no later cut names; how many."""
    numbers = [c.number for c in ledger if 0 < c.number < oldest]
    stale = list(_still_there(night, numbers))
    if not stale:
        return 0
    kept = {
        file for c in ledger if c.number >= oldest for view in night.views for file in _files(night, view, c.number)
    }
    deleted = 0
    for number in sorted(stale):  # the oldest first, and its last identities last: _still_there rests on this order
        for view in night.views:
            gone = [file for file in _files(night, view, number) if file not in kept]
            deleted += sum(_delete(night.lake, path) for path in gone)
            deleted += night.lake.delete_manifest(night.targets(number).view(view.name).path)
        for partition in range(night.generation.partitions):
            identities = night.targets(number).clean(partition).identities
            deleted += _delete(night.lake, identities.data) + night.lake.delete_manifest(identities.path)
    return deleted


def _still_there(night: Night, numbers: list[int]) -> Iterator[int]:
    """Batches that a purge has not finished yet, downwards: below a finished one all are."""
    last = night.generation.partitions - 1
    for number in sorted(numbers, reverse=True):
        targets = night.targets(number)
        manifests = [targets.clean(last).identities.path, *(targets.view(view.name).path for view in night.views)]
        if not any(map(night.lake.has_manifest, manifests)):
            return
        yield number


def _files(night: Night, view: View, number: int) -> list[str]:
    # Whatever it was made from: its files are ours
    manifest = night.lake.manifest(night.targets(number).view(view.name).path)
    return [file.path for file in manifest.files] if manifest is not None else []


def _delete(lake: Lake, path: str) -> int:
    if not lake.exists(path):
        return 0
    lake.delete(path)
    return 1
