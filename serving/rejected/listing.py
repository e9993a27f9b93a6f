"""List of what was rejected, up to the positions that Postgres has.

    below the visible cut: files that the kept manifests name        from it to the position: the log, decoded and folded again
    records rejected for every view are all listed; those that one view rejected as far back as a kept manifest names their file

The speed layer counts what it rejects and keeps no words, so the log is looked at again; the decode is the layers' own.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.accept.accept import OFFSET, REJECTED_SCHEMA, Ingest, rejected_batch
from pipeline.accept.identity_files import identities_at
from pipeline.accept.reasons import shape
from pipeline.definition.view import View
from pipeline.fold.fold import fold
from pipeline.fold.in_force import InForce, TableVersions
from serving.ops.replays import Replay
from serving.rejected.originals import Place, originals
from serving.rejected.state import State


@dataclass(frozen=True)
class Wanted:
    """Filter: a part of the reason, whatever its case; the first timestamp, which records without one pass; one view; places."""

    reason: str = ""
    since_ms: int | None = None
    view: str | None = None
    places: frozenset[Place] = frozenset()

    def mask(self, table: pa.Table) -> pa.Table:
        """The rows of REJECTED_SCHEMA that pass."""
        if self.reason:
            table = table.filter(pc.match_substring(table.column("reason"), self.reason, ignore_case=True))
        if self.since_ms is not None:
            stamps = np.asarray(table.column("timestamp_ms").to_numpy())
            table = table.filter(pa.array((stamps >= self.since_ms) | (stamps < 0)))
        if self.view is not None:
            table = table.filter(pc.is_in(table.column("view"), pa.array([self.view])))
        if self.places:
            pairs = zip(table.column("partition").to_pylist(), table.column("offset").to_pylist(), strict=True)
            table = table.filter(pa.array([pair in self.places for pair in pairs], pa.bool_()))
        return table


@dataclass(frozen=True)
class Rejection:
    """One rejected record. `view` None: rejected for every view. `origin`: the place that it is a replay of. `replay`: its own."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    view: str | None
    reason: str
    key: bytes | None
    value: bytes | None
    origin: str | None
    replay: Replay | None

    @property
    def place(self) -> Place:
        return self.partition, self.offset


@dataclass
class Listing:
    """The newest records that were wanted, oldest first, and counts of all of them by (view, shape of the reason).

    `unnamed`: view -> rejections that no kept manifest names any more; they are counted in serving.view_accounting.
    """

    topic: str
    records: list[Rejection] = field(default_factory=list)
    counts: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    unnamed: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.counts.total()


def listing(state: State, wanted: Wanted, limit: int) -> Listing:
    """Counts of all that was wanted, and at most the `limit` newest records of it with their values."""
    found = Listing(state.source.topic)
    newest: list[tuple[tuple[int, int, int, str, int], dict[str, Any]]] = []
    for table in rejected_tables(state, found.unnamed):
        for row in wanted.mask(table).to_pylist():
            found.counts[row["view"], shape(row["reason"])] += 1
            if limit:
                entry = (row["timestamp_ms"], row["partition"], row["offset"], row["view"] or "", found.total), row
                (heapq.heappush if len(newest) < limit else heapq.heappushpop)(newest, entry)
    found.records = _with_values(state, [row for _, row in sorted(newest)])
    return found


def _with_values(state: State, rows: Sequence[dict[str, Any]]) -> list[Rejection]:
    """The rows as Rejections; what a view rejected has its key and value in the log alone."""
    topic = state.source.topic
    replayed = {(r.partition, r.offset): r for r in state.replays}
    sent = {(r.partition, r.sent_offset): f"{topic}/{r.partition}/{r.offset}" for r in state.replays}
    found = []
    for row in rows:
        place = row["partition"], row["offset"]
        found.append(Rejection(topic, **row, origin=sent.get(place), replay=replayed.get(place)))
    lacking = originals(state, {r.place for r in found if r.view is not None})
    return [
        replace(r, key=lacking[r.place].key, value=lacking[r.place].value) if r.place in lacking else r for r in found
    ]


def rejected_tables(state: State, unnamed: dict[str, int] | None = None) -> Iterator[pa.Table]:
    """Tables of REJECTED_SCHEMA that hold each rejection once; `unnamed` is filled with what the lake does not name any more."""
    for targets in state.targets:
        for partition in range(state.generation.partitions):
            clean = targets.clean(partition)
            if clean.master.start < clean.master.end:
                for path in clean.require(state.lake).facts["rejected"]:
                    yield _read(state, path)
    for view in state.views:
        listed = 0
        for path in _view_files(state, view):
            table = _read(state, path)
            listed += table.num_rows
            yield table
        lost = state.view_rejected.get(view.name, 0) - listed
        if lost > 0 and unnamed is not None:
            unnamed[view.name] = lost
    for partition in range(state.generation.partitions):
        yield from _above_the_cut(state, partition)


def _read(state: State, path: str) -> pa.Table:
    return state.lake.read_table(path).select(REJECTED_SCHEMA.names).cast(REJECTED_SCHEMA)


def _view_files(state: State, view: View) -> Iterator[str]:
    """Files of the view's rejections at the visible batch, back through the batches that it was folded from."""
    by_number = {targets.number: targets for targets in state.targets}
    number = state.visible.number
    while number:
        manifest = by_number[number].view(view.name).manifest(state.lake, lambda n: True)
        if manifest is None:
            return  # purged: the files are there, and nothing names them
        yield from manifest.facts["rejected"]
        number = int(manifest.facts["base"])


def _above_the_cut(state: State, partition: int) -> Iterator[pa.Table]:
    """Tables of the rejections, for every view and for one, of the log from the visible cut to the position."""
    cut, position = state.visible.offsets[partition], state.positions[partition]
    if cut >= position:
        return
    known = identities_at(state.lake, state.source, state.generation, state.visible.number, partition, cut)
    ingest = Ingest(state.source, partition, known)
    in_force = InForce(state.views, state.ledger, TableVersions(state.lake))
    for block in state.log.read(state.source.topic, partition, cut, position):
        done = ingest.feed(block)
        found = [done.rejected] if done.counts.rejected else []
        for view, (piece, tables) in product(state.views, in_force.pieces(partition, done.accepted)):
            folded = fold(view, piece, tables)
            if len(folded.rejected):
                offsets = np.asarray(piece.column(OFFSET).to_numpy())[folded.rejected]
                rows = np.searchsorted(block.offsets, offsets)
                found.append(rejected_batch(partition, block.batch, rows, folded.reasons, view.name))
        if found:
            yield pa.Table.from_batches(found, REJECTED_SCHEMA)


__all__ = ["Listing", "Rejection", "Wanted", "listing", "rejected_tables"]
