"""Targets: the things a night makes, as values that know their path, what they are made from, and whether they are complete.

    complete(target)  <=>  its manifest is there  and  manifest.inputs == target.inputs
    the ranges that the cuts of a generation add to a partition tile [start of its log, newest cut)

Inputs are written once, here: whoever makes a target and whoever looks for one agree, or neither finds it. Nothing here holds a status
of a cut, which changes; offsets and fingerprints never do.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from pipeline.base.errors import LakeError, Refused
from pipeline.handover import Cut, Generation, Vector
from pipeline.handover.generation import VersionPairs
from pipeline.lake import layout
from pipeline.lake.lake import Lake
from pipeline.lake.manifest import File, Manifest
from pipeline.log.log import EMPTY_BATCH, RAW_SCHEMA, Block

Adopted = tuple[Vector, VersionPairs]  # from these offsets on, these versions of tables


class Target:
    """Something in the lake that is complete or is not. `path` is where its manifest is committed, relative to the lake."""

    kind: ClassVar[str]

    @property
    def path(self) -> str:
        """The manifest's path; a function of the target's fields alone."""
        raise NotImplementedError

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs it would be made from now: a manifest that names others is not of this target."""
        raise NotImplementedError

    def manifest(self, lake: Lake) -> Manifest | None:
        """The manifest when the target is complete, else None; LakeError when something else stands at its path."""
        return lake.made_from(self.path, self.inputs)

    def require(self, lake: Lake) -> Manifest:
        """The manifest; LakeError when the target is not complete: a step ran before what it needs."""
        return self._required(self.manifest(lake))

    def _required(self, found: Manifest | None) -> Manifest:
        if found is None:
            raise LakeError(f"{self} is not complete; run the night again: it goes on where it was")
        return found

    def commit(self, lake: Lake, files: Sequence[File], facts: Mapping[str, Any] | None = None) -> Manifest:
        """Make the target complete. The usual mistake: to commit before the files are written, durably."""
        made = Manifest(self.kind, self.inputs, tuple(files), facts or {})
        lake.commit(self.path, made)
        return made


@dataclass(frozen=True)
class MasterRange(Target):
    """The archived log [start, end) of one partition, as received."""

    kind: ClassVar[str] = "master"
    topic: str
    topic_id: str
    partition: int
    start: int
    end: int

    def __str__(self) -> str:
        return f"the archived range [{self.start}, {self.end}) of topic {self.topic}, partition {self.partition},"

    @property
    def path(self) -> str:
        return layout.manifest(self._stem)

    @property
    def data(self) -> str:
        """The path of its one Parquet file; a range without offsets has none."""
        return f"{self._stem}.parquet"

    @property
    def _stem(self) -> str:
        return layout.master(self.topic, self.partition, self.start, self.end)

    @property
    def inputs(self) -> dict[str, Any]:
        return {
            "topic": self.topic,
            "topic_id": self.topic_id,
            "partition": self.partition,
            "start": self.start,
            "end": self.end,
        }

    def blocks(self, lake: Lake, rows: int, upto: int | None = None) -> Iterator[Block]:
        """Blocks of at most `rows` records that tile [start, upto); `upto` is at most `end`, and `end` when it is not given.

        LakeError when the range is not complete. An offset below `upto` is wanted after a rollback, which goes back below a cut.
        """
        position, stop = self.start, self.end if upto is None else upto
        for file in self.require(lake).files:
            for batch in lake.read_batches(file, rows):
                whole = pa.RecordBatch.from_arrays(batch.columns, schema=RAW_SCHEMA)
                wanted = whole.slice(0, int((np.asarray(whole.column("offset")) < stop).sum()))
                if wanted.num_rows:
                    last = int(wanted.column("offset")[-1].as_py()) + 1
                    yield Block(wanted, position, last)
                    position = last
        if position < stop:
            yield Block(EMPTY_BATCH, position, stop)


@dataclass(frozen=True)
class IdentitiesAtCut(Target):
    """The identities that one partition remembers at a cut: pipeline.accept.identity_files reads and writes them."""

    kind: ClassVar[str] = "identities"
    topic: str
    topic_id: str
    source_fingerprint: str
    number: int
    partition: int
    position: int

    def __str__(self) -> str:
        return f"the identities at cut {self.number} of topic {self.topic}, partition {self.partition},"

    @property
    def stem(self) -> str:
        """The path without an ending."""
        return layout.identities(self.topic, self.source_fingerprint, self.number, self.partition)

    @property
    def path(self) -> str:
        return layout.manifest(self.stem)

    @property
    def data(self) -> str:
        """The path of its Parquet file."""
        return f"{self.stem}.parquet"

    @property
    def inputs(self) -> dict[str, Any]:
        return layout.identity_inputs(self.topic_id, self.partition, self.position)


@dataclass(frozen=True)
class CleanRange(Target):
    """The accepted and the rejected records of an archived range; `number` is the cut that added it.

    `manifest` is there as long as the records are. The identities at its end may have been purged since, which no fold minds.
    """

    kind: ClassVar[str] = "clean"
    master: MasterRange
    source_fingerprint: str
    log_start: int
    number: int

    def __str__(self) -> str:
        r = self.master
        return f"the clean range [{r.start}, {r.end}) of cut {self.number} of topic {r.topic}, partition {r.partition},"

    @property
    def path(self) -> str:
        r = self.master
        return layout.clean_manifest(r.topic, self.source_fingerprint, r.partition, r.start, r.end)

    @property
    def folder(self) -> str:
        """Folder of the source's accepted records."""
        return layout.clean(self.master.topic, self.source_fingerprint)

    @property
    def inputs(self) -> dict[str, Any]:
        return {**self.master.inputs, "log_start": self.log_start, "source_fingerprint": self.source_fingerprint}

    @property
    def identities(self) -> IdentitiesAtCut:
        """The identities at the end of the range: what the next one is cleaned with, and a worker starts with."""
        r = self.master
        return IdentitiesAtCut(r.topic, r.topic_id, self.source_fingerprint, self.number, r.partition, r.end)

    def with_identities(self, lake: Lake) -> Manifest | None:
        """The manifest if the identities at the end of the range are there too, else None."""
        return self.manifest(lake) if self.identities.manifest(lake) is not None else None


def _never(number: int) -> bool:
    return False


@dataclass(frozen=True)
class ViewAtCut(Target):
    """One view at a cut: the definition over the log [starts, cut). The base that a fold went on from is a shortcut, not an input.

    `adopted`: from which offsets on which versions of the tables that it looks up are in force, in the order of the cuts.
    """

    kind: ClassVar[str] = "view"
    view: str
    topic: str
    topic_id: str
    view_fingerprint: str
    number: int
    starts: Vector
    cut: Vector
    adopted: tuple[Adopted, ...] = ()

    def __str__(self) -> str:
        return f"view {self.view} at cut {self.number} of topic {self.topic}"

    @property
    def folder(self) -> str:
        """Folder of the files that this cut wrote; its manifest may name older cuts' files beside them."""
        return layout.view(self.view, self.view_fingerprint, self.number)

    @property
    def path(self) -> str:
        return layout.view_manifest(self.view, self.view_fingerprint, self.number)

    @property
    def inputs(self) -> dict[str, Any]:
        return {
            "topic": self.topic,
            "topic_id": self.topic_id,
            "view_fingerprint": self.view_fingerprint,
            "starts": list(self.starts),
            "cut": list(self.cut),
            **(
                {"tables": [[list(offsets), dict(versions)] for offsets, versions in self.adopted]}
                if self.adopted
                else {}
            ),
        }

    def manifest(self, lake: Lake, is_kept: Callable[[int], bool] = _never) -> Manifest | None:
        """The manifest when it is complete, and what it carries over is there: a night that slept while its base was purged may have
        written one that names files which are gone.

        `is_kept(n)` spares the look at the files when no purge can have touched those of the base n. It is asked after the manifest
        was found: a purge marks a batch before it looks for files, so an answer from before would prove nothing.
        """
        found = super().manifest(lake)
        if found is None or is_kept(found.facts["base"]):
            return found
        carried = [file.path for file in found.files if not file.path.startswith(f"{self.folder}/")]
        return found if lake.all_exist(carried) else None

    def require(self, lake: Lake, is_kept: Callable[[int], bool] = _never) -> Manifest:
        """The manifest; LakeError when `manifest` gives none."""
        return self._required(self.manifest(lake, is_kept))


@dataclass(frozen=True)
class TableVersion(Target):
    """One version of a table of reference data; Postgres knows which load made it, and how."""

    kind: ClassVar[str] = "table"
    table: str
    version: int

    def __str__(self) -> str:
        return f"version {self.version} of table {self.table}"

    @property
    def folder(self) -> str:
        """Folder of its files."""
        return layout.table(self.table, self.version)

    @property
    def path(self) -> str:
        return layout.table_manifest(self.table, self.version)

    @property
    def inputs(self) -> dict[str, Any]:
        return {"table": self.table, "version": self.version}


@dataclass(frozen=True)
class CutTargets:
    """All that one cut of a generation makes: it added [start, end) to the log of each partition, above the cut numbered `before`.

    `versions` of tables are in force in all of that; `adopted` says for each cut below the end that changed them, what from where.
    """

    generation: Generation
    source_fingerprint: str
    view_fingerprints: Mapping[str, str]
    before: int
    start: Vector
    number: int
    end: Vector
    versions: VersionPairs = ()
    adopted: tuple[Adopted, ...] = ()
    tables: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by view, those that it looks up

    def master(self, partition: int) -> MasterRange:
        """The range that the cut added to a partition; Refused when it ends below its start."""
        return _added(self.generation, partition, self.number, self.start, self.end)

    def clean(self, partition: int) -> CleanRange:
        """The same range cleaned."""
        return CleanRange(
            self.master(partition), self.source_fingerprint, self.generation.starts[partition], self.number
        )

    def view(self, name: str) -> ViewAtCut:
        """A view at the cut."""
        of, fingerprint = self.generation, self.view_fingerprints[name]
        looked_up = self.tables.get(name, frozenset())
        adopted = tuple((offsets, kept) for offsets, all in self.adopted if (kept := _of(all, looked_up)))
        starts, end = tuple(of.starts), tuple(self.end)
        return ViewAtCut(name, of.topic, of.topic_id, fingerprint, self.number, starts, end, adopted)


def cut_targets(
    generation: Generation,
    source_fingerprint: str,
    view_fingerprints: Mapping[str, str],
    ledger: Sequence[Cut],
    tables: Mapping[str, frozenset[str]] | None = None,
) -> list[CutTargets]:
    """The targets of every cut of the ledger above batch 0, by number; per partition their ranges tile.

    `tables` are those that each view looks up.
    """
    found: list[CutTargets] = []
    adopted: tuple[Adopted, ...] = ()
    before: VersionPairs = ()
    for a, b in pairwise(sorted(ledger, key=lambda cut: cut.number)):
        changed = tuple(pair for pair in a.versions if pair not in before)
        adopted, before = adopted + (((a.offsets, changed),) if changed else ()), a.versions
        of = generation, source_fingerprint, view_fingerprints
        found.append(CutTargets(*of, a.number, a.offsets, b.number, b.offsets, a.versions, adopted, tables or {}))
    return found


def _of(versions: VersionPairs, tables: frozenset[str]) -> VersionPairs:
    return tuple((name, version) for name, version in versions if name in tables)


def master_ranges(generation: Generation, ledger: Sequence[Cut], partition: int) -> Iterator[MasterRange]:
    """The ranges that tile [start of the log, newest cut) of a partition, rising; those without an offset are left out."""
    for before, cut in pairwise(sorted(ledger, key=lambda cut: cut.number)):
        found = _added(generation, partition, cut.number, before.offsets, cut.offsets)
        if found.start < found.end:
            yield found


def _added(generation: Generation, partition: int, number: int, start: Vector, end: Vector) -> MasterRange:
    if end[partition] < start[partition]:
        raise Refused(
            f"cut {number} of {generation.topic} ends at {end[partition]} in partition {partition}, below the cut before it"
            f" ({start[partition]}); the log was truncated; `watershed status` shows the cuts"
        )
    return MasterRange(generation.topic, generation.topic_id, partition, start[partition], end[partition])


__all__ = [
    "CleanRange",
    "CutTargets",
    "IdentitiesAtCut",
    "MasterRange",
    "TableVersion",
    "Target",
    "ViewAtCut",
    "cut_targets",
    "master_ranges",
]
