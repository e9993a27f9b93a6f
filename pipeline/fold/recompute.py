"""f over the whole log again, in bounded memory, at other block boundaries than the layers used.

    recompute(vector) = f(log[start, vector)),  from the master dataset where it is archived, from Kafka beyond

States spill into buckets by the hash of their group (a Grace hash join), so memory holds `spill_rows` states, one bucket, and the
identities within the horizon.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.accept.accept import Ingest
from pipeline.accept.dedupe import IdentitySnapshot
from pipeline.decode.schemas import NO_SCHEMAS, Schemas
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.fold.fold import columns_of, combine, fold, group_hashes
from pipeline.fold.in_force import InForce
from pipeline.fold.states import present, state_schema
from pipeline.handover import Counts, Cut, Generation, ViewCounts
from pipeline.lake.lake import Lake
from pipeline.lake.targets import master_ranges
from pipeline.log.log import Block, Log

BUCKETS = 64
SPILL_ROWS = 500_000


def whole_log(
    log: Log, lake: Lake, generation: Generation, ledger: Sequence[Cut], partition: int, end: int, max_records: int
) -> Iterator[Block]:
    """Blocks that tile [start of the log, end) of one partition: archived ranges by the ledger of cuts, then Kafka."""
    position = generation.starts[partition]
    for archived in master_ranges(generation, ledger, partition):
        if position >= end or archived.manifest(lake) is None:
            break
        upto = min(archived.end, end)
        yield from archived.blocks(lake, max_records, upto)
        position = upto
    if position < end:
        yield from log.read(generation.topic, partition, position, end, max_records=max_records)


def cut_anywhere(blocks: Iterator[Block], rng: random.Random) -> Iterator[Block]:
    """The same records in blocks of random lengths: no boundary of a layer survives."""
    for block in blocks:
        while len(block) > 1:
            rows = rng.randint(1, len(block))
            if rows == len(block):
                break
            at = int(block.offsets[rows - 1]) + 1
            yield Block(block.batch.slice(0, rows), block.start, at)
            block = Block(block.batch.slice(rows), at, block.end)
        yield block


class Buckets:
    """Tables of one schema, written by the hash of their groups."""

    def __init__(self, view: View, folder: Path, schema: pa.Schema) -> None:
        self.view, self.folder, self.schema = view, folder, schema
        self._files = 0
        folder.mkdir(parents=True)

    def write(self, table: pa.Table) -> None:
        """Spread a table over the buckets."""
        if table.num_rows == 0:
            return
        bucket = (group_hashes(self.view, table)[:, 1] % np.uint64(BUCKETS)).astype(np.int64)
        order = np.argsort(bucket, kind="stable")
        table = table.take(pa.array(order, pa.int64()))
        edges = np.searchsorted(bucket[order], np.arange(BUCKETS + 1))
        for b in range(BUCKETS):
            if edges[b] < edges[b + 1]:
                pq.write_table(
                    table.slice(edges[b], edges[b + 1] - edges[b]), self.folder / f"{b}-{self._files}.parquet"
                )
        self._files += 1

    def read(self, bucket: int) -> pa.Table:
        """One bucket's tables, concatenated, in the order they were written."""
        paths = [self.folder / f"{bucket}-{n}.parquet" for n in range(self._files)]
        tables = [pq.read_table(path).cast(self.schema) for path in paths if path.exists()]
        return pa.concat_tables(tables or [self.schema.empty_table()])


class Recompute:
    """Feed it every partition's log, then read `values` bucket by bucket. It may go on from states and identities of a cut."""

    def __init__(
        self,
        source: Source,
        views: Sequence[View],
        folder: Path,
        spill_rows: int = SPILL_ROWS,
        schemas: Schemas = NO_SCHEMAS,
        in_force: InForce | None = None,
    ) -> None:
        self.schemas = schemas
        self.in_force = in_force or InForce(views)
        self.source, self.views, self.spill_rows = source, views, spill_rows
        self.counts: dict[int, Counts] = {}
        self.view_counts: dict[tuple[str, int], ViewCounts] = {}
        self._held: dict[str, list[pa.Table]] = {v.name: [] for v in views}
        self._buckets = {v.name: Buckets(v, folder / v.name / "recomputed", state_schema(v)) for v in views}

    def add(self, view: View, states: pa.Table) -> None:
        """Merge states of the view, such as those of a batch."""
        self._hold(view, states)

    def feed(self, partition: int, blocks: Iterator[Block], known: IdentitySnapshot | None = None) -> Iterator[int]:
        """Fold one partition's log, from its start or from where `known` was taken; yields the offset reached, for progress."""
        ingest = Ingest(self.source, partition, known, columns_of(self.views), self.schemas)
        self.counts.setdefault(partition, Counts())
        for view in self.views:
            self.view_counts.setdefault((view.name, partition), ViewCounts())
        for block in blocks:
            done = ingest.feed(block)
            self.counts[partition] += done.counts
            for piece, tables in self.in_force.pieces(partition, done.accepted):
                for view in self.views:
                    folded = fold(view, piece, tables)
                    self.view_counts[view.name, partition] += folded.counts
                    self._hold(view, folded.states)
            yield block.end

    def _hold(self, view: View, states: pa.Table) -> None:
        held = self._held[view.name]
        if states.num_rows:
            held.append(states)
        if len(held) > 64 or sum(t.num_rows for t in held) > 2 * self.spill_rows:
            held[:] = [combine(view, held)]
            if held[0].num_rows > self.spill_rows:
                self._buckets[view.name].write(held.pop())

    def values(self, view: View, bucket: int) -> pa.Table:
        """One bucket of the view's values (value_schema); call after every partition was fed."""
        held = self._held[view.name]
        if held:
            self._buckets[view.name].write(combine(view, held))
            held.clear()
        return present(view, combine(view, [self._buckets[view.name].read(bucket)]))


__all__ = ["BUCKETS", "Buckets", "Recompute", "cut_anywhere", "whole_log"]
