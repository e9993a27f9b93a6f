"""The rows that the protocol keeps, in memory: what the schemas ops, batch and speed hold for one source.

    every transaction is one call of `run`, which nobody else's comes between; it changes everything it decided on, or nothing

A row of states is a tuple in the order of state_schema(view); its group is the first len(view.key) + 1 values.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import pyarrow as pa

from pipeline.base.errors import Refused, StoreError
from pipeline.definition.fingerprints import source_fingerprint, view_fingerprint
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.fold.states import state_schema
from pipeline.handover import Claim, Counts, Cut, Generation, Vector, ViewCounts, Witness
from pipeline.handover.versions import Versions

T = TypeVar("T")
Group = tuple[Any, ...]
Row = tuple[Any, ...]
Rows = dict[Group, Row]
Run = Callable[[str, Callable[[], Any]], Any]  # (what, body): call the body as one transaction
NO_VERSIONS: Versions = {}
EPOCH = datetime(2013, 1, 1, tzinfo=UTC)


@dataclass
class Position:
    """A row of ops.positions."""

    position: int
    segment: int
    owner: UUID | None = None
    worker: str | None = None
    epoch: int = 0
    lease_until_s: float = 0.0
    watermark_ms: int = -1
    witness: Witness | None = None


@dataclass
class Segment:
    """A row of ops.segments with those of ops.segment_views; its start is its key."""

    end: int
    counts: Counts = field(default_factory=Counts)
    views: dict[str, ViewCounts] = field(default_factory=dict)


@dataclass
class Batch:
    """The rows of ops.batch_counts and ops.batch_views of a batch: cumulative, there from staging until a purge."""

    counts: Sequence[Counts]
    views: dict[str, Sequence[ViewCounts]]


class GenerationTables:
    """The rows of one generation: batch 0 published at `starts`, and a position per partition."""

    def __init__(self, generation: Generation, views: Sequence[View], status: str, versions: Versions) -> None:
        starts = generation.starts
        self.generation, self.status = generation, status
        self.views = {v.name: v for v in views}
        nothing: dict[str, Sequence[ViewCounts]] = {v.name: [ViewCounts()] * len(starts) for v in views}
        of, adopted = (generation.topic, generation.number), tuple(sorted(versions.items()))
        first = Cut(*of, 0, None, starts, EPOCH, "published", True, versions=adopted)
        self.cuts: list[Cut] = [first]
        self.batches: dict[int, Batch] = {0: Batch([Counts()] * len(starts), nothing)}
        self.visible = 0
        self.previous: int | None = None
        self.positions = [Position(start, start) for start in starts]
        self.segments: list[dict[int, Segment]] = [{} for _ in starts]
        self.speed_rows: dict[str, dict[tuple[int, int], Rows]] = {v.name: {} for v in views}
        self.batch_rows: dict[str, dict[int, Rows]] = {v.name: {} for v in views}

    def view(self, name: str) -> View:
        """The view of that name; StoreError when there is none."""
        if name not in self.views:
            raise StoreError(f"view {name!r} is not among those this store was made for: {', '.join(self.views)}")
        return self.views[name]

    def rows_of(self, view: str, table: pa.Table) -> Rows:
        """A table of states as rows; StoreError when a key column that is never null holds one."""
        definition = self.view(view)
        names = state_schema(definition).names
        keys = len(definition.key) + 1
        for name in names[:keys]:
            if name not in definition.nullable_keys and table.column(name).null_count:
                raise StoreError(f'null value in column "{name}" of view {view} violates not-null constraint')
        columns = [table.column(name).to_pylist() for name in names]
        return {row[:keys]: row for row in zip(*columns, strict=True)}

    def table_of(self, view: str, rows: Sequence[Row]) -> pa.Table:
        """The rows as a table of states."""
        schema = state_schema(self.view(view))
        if not rows:
            return schema.empty_table()
        columns = zip(*rows, strict=True)
        return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)

    def cut(self, number: int) -> Cut:
        """The cut of that number; StoreError when there is none."""
        if not 0 <= number < len(self.cuts):
            raise StoreError(
                f"topic {self.generation.topic}, generation {self.generation.number} has no cut number {number}"
            )
        return self.cuts[number]

    def chosen_cuts(self, partition: int) -> set[int]:
        """The offsets of the chosen, unpublished cuts in a partition, and of those that adopted a version."""
        return {c.offsets[partition] for c in self.cuts if c.status in ("chosen", "adopted")}

    def versions_at(self, partition: int, offset: int) -> Versions:
        """The versions of tables in force at an offset."""
        return dict(max((c for c in self.cuts if c.offsets[partition] <= offset), key=lambda c: c.number).versions)

    def live(self, partition: int) -> list[tuple[int, Segment]]:
        """The live segments of a partition, by start."""
        cut = self.cuts[self.visible].offsets[partition]
        return sorted(((s, x) for s, x in self.segments[partition].items() if s >= cut), key=lambda pair: pair[0])

    def open_segments(self, offsets: Vector) -> None:
        """A position at its offset begins a segment."""
        for row, offset in zip(self.positions, offsets, strict=True):
            if row.position == offset:
                row.segment = offset

    def delete_segments(self, partition: int, starts: Sequence[int]) -> None:
        """Segments with their states."""
        for start in starts:
            del self.segments[partition][start]
            for rows in self.speed_rows.values():
                rows.pop((partition, start), None)


class Tables:
    """One source: its generations, and what belongs to none of them. The first is active, and answers."""

    def __init__(
        self,
        source: Source,
        views: Sequence[View],
        topic_id: str,
        starts: Vector,
        number: int = 1,
        versions: Versions = NO_VERSIONS,
    ) -> None:
        self.topic = source.topic
        self.generations: dict[int, GenerationTables] = {}
        self.generation = self.add(source, views, topic_id, starts, number, "active", versions)
        self.answering = number  # the generation that the merged views read
        self.workers: dict[tuple[str, str], float] = {}
        self.snapshots: dict[
            tuple[int, int, str], tuple[int, int]
        ] = {}  # (generation, partition, path) -> (position, epoch)
        self.now_s = 0.0
        self.owners = 0
        self._lock = threading.RLock()
        self.write: Run = self._run  # the simulation puts itself in between
        self.read: Run = self._run

    def _run(self, what: str, body: Callable[[], T]) -> T:
        with self._lock:
            return body()

    def add(
        self,
        source: Source,
        views: Sequence[View],
        topic_id: str,
        starts: Vector,
        number: int,
        status: str,
        versions: Versions = NO_VERSIONS,
    ) -> Generation:
        """A generation with its batch 0; the versions are in force from its start on."""
        fingerprints = {v.name: view_fingerprint(v) for v in views}
        made = Generation(source.topic, number, topic_id, tuple(starts), source_fingerprint(source), fingerprints)
        self.generations[number] = GenerationTables(made, views, status, versions)
        return made

    def of(self, generation: Generation | Claim | int) -> GenerationTables:
        """The rows of a generation, whatever its status."""
        match generation:
            case Generation(number=number) | Claim(generation=number):
                return self.generations[number]
        return self.generations[generation]

    def in_force(self, generation: Generation | Claim) -> GenerationTables:
        """The rows of a generation that is not retired; Refused for whoever works on one that was replaced."""
        found = self.of(generation)
        if found.status == "retired":
            raise Refused(
                f"generation {found.generation.number} of topic {self.topic} is retired: its definition was replaced by"
                f" `watershed init --rebuild`; start this again with the views that are in force"
            )
        return found

    def newest(self, status: str) -> GenerationTables | None:
        """The newest generation of that status."""
        found = [t for t in self.generations.values() if t.status == status]
        return max(found, key=lambda t: t.generation.number, default=None)

    def take_owner(self) -> UUID:
        """A fresh one."""
        self.owners += 1
        return UUID(int=self.owners)
