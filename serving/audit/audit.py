"""The audit: what Postgres serves against a recompute of the log, row by row and column by column.

    served(view) at one instant  ==  f(log[0, position)) at that instant's positions
    batch(view) at one instant   ==  f(log[0, cut))
    batch(view) ⊕ a refold of [cut, v)  ==  f(log[0, v))      for any vector v from the visible cut to the log's end

One REPEATABLE READ snapshot is copied out; then the log is folded again, by the shared kernels at random block boundaries in bounded
memory, or by the plain-Python reference, which shares no kernel. Differences are rows; the counts of records are compared too.
"""

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy.engine import Engine

from pipeline.base.errors import Refused
from pipeline.decode.schemas import SchemasOf, no_schemas
from pipeline.definition.fingerprints import source_fingerprint, view_fingerprint
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.fold.fold import sort_states
from pipeline.fold.in_force import InForce, TableVersions, read_version, tables_of
from pipeline.fold.recompute import BUCKETS, Buckets, Recompute, cut_anywhere, whole_log
from pipeline.fold.states import group_columns, value_schema
from pipeline.handover import Counts, Cut, Generation, ViewCounts
from pipeline.lake.lake import Lake
from pipeline.log.log import Block, Log
from pipeline.plain import Reference
from pipeline.plain.lookup import PlainTables
from serving.answers import Snapshot, batch_part, snapshot
from serving.audit.refold import refolded
from serving.ops.cuts import read_cuts
from serving.ops.generations import not_set_up
from serving.postgres.connection import reading

SHOWN = 20  # differing rows that a report holds; all are counted
MAX_RECORDS = 19_997  # a block size that no layer uses

Progress = Callable[[str, int, int], None]  # (what, done, of)
Rows = dict[tuple[Any, ...], dict[str, Any]]


@dataclass
class Report:
    """Findings of an audit of one view. `differences` counts rows and `examples` holds the first; counts that differ are in `counts`."""

    view: str
    positions: dict[int, int]
    compared: str = ""
    records: int = 0
    rows: int = 0
    differences: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)
    counts: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """True when the promise held."""
        return not self.differences and not self.counts

    def differ(self, group: Mapping[str, Any], served: Any, recomputed: Any) -> None:
        """Note one differing row."""
        self.differences += 1
        if len(self.examples) < SHOWN:
            self.examples.append({"group": dict(group), "served": served, "recomputed": recomputed})


@dataclass(frozen=True)
class Audit:
    """Sources of an audit; `seed` draws the block boundaries.

    `batch` audits the visible batch alone; `at` (partition -> offset, for the views of one source) the visible batch merged with a
    refold of the log from its cut to that vector, as any worker would make it. Without either, what is served now is audited.
    """

    engine: Engine
    log: Log
    lake: Lake
    seed: int
    reference: bool = False
    progress: Progress = lambda what, done, of: None
    batch: bool = False
    at: Mapping[int, int] | None = None
    schemas: SchemasOf = no_schemas

    def run(self, views: Sequence[View]) -> list[Report]:
        """Audit these views, each source at one instant of its own."""
        reports: list[Report] = []
        for source in dict.fromkeys(v.source for v in views):
            mine = [v for v in views if v.source == source]
            with tempfile.TemporaryDirectory(prefix="watershed-audit-") as folder:
                reports += _Source(self, source, mine, Path(folder)).compare()
        return reports


class _Source:
    """The audit of one source's views."""

    def __init__(self, audit: Audit, source: Source, views: list[View], folder: Path) -> None:
        self.audit, self.source, self.views, self.folder = audit, source, views, folder
        self.snapshot, compared = self._take()
        self.generation = self._generation(self.snapshot)
        self.positions = {f.partition: f.position for f in self.snapshot.freshness[source.topic]}
        self.reports = {v.name: Report(v.name, self.positions, compared) for v in views}

    def _take(self) -> tuple[Snapshot, str]:
        """Answer to be compared, and its name."""
        audit, topic = self.audit, self.source.topic
        if audit.at is None and not audit.batch:
            return snapshot(
                audit.engine, self.views, self.folder
            ), "what is served, both layers, with f(log[0, position))"
        part = batch_part(audit.engine, self.views, self.folder)
        self._generation(part.answer)
        number = part.number[topic]
        if audit.at is None:
            return part.answer, f"batch {number} alone with f(log[0, cut))"
        schemas = audit.schemas(self.source)
        with reading(audit.engine) as connection:
            ledger = read_cuts(connection, topic, part.answer.generations[topic].number)
        in_force = InForce(self.views, ledger, TableVersions(audit.lake))
        merged = refolded(
            audit.log, audit.lake, self.source, self.views, part, audit.at, self.folder, schemas, in_force
        )
        cut = [f.cut for f in part.answer.freshness[topic]]
        return (
            merged,
            f"batch {number} merged with a refold of the log from its cut {cut} to the vector, with f(log[0, vector))",
        )

    def _generation(self, taken: Snapshot) -> Generation:
        found = taken.generations.get(self.source.topic)
        if found is None:
            raise not_set_up(self.source.topic)
        wrong = [v.name for v in self.views if found.views.get(v.name) != view_fingerprint(v)]
        if wrong or found.source_fingerprint != source_fingerprint(self.source):
            raise Refused(
                f"topic {self.source.topic}: the definitions loaded are not those that are served ({', '.join(wrong) or 'the source'});"
                f" put them back, or run `watershed init --rebuild`, before an audit can mean anything",
                repair="watershed init --rebuild",
            )
        return found

    def compare(self) -> list[Report]:
        """Recompute and compare."""
        if self.audit.reference:
            self._by_reference()
        else:
            self._by_kernels()
        return list(self.reports.values())

    def _blocks(self, ledger: list[Cut], partition: int) -> Iterator[Block]:
        end = self.positions[partition]
        blocks = whole_log(self.audit.log, self.audit.lake, self.generation, ledger, partition, end, MAX_RECORDS)
        rng = random.Random(f"{self.audit.seed}/{self.source.topic}/{partition}")
        start = self.generation.starts[partition]
        for block in cut_anywhere(blocks, rng):
            self.audit.progress(f"{self.source.topic}, partition {partition}", block.end - start, end - start)
            yield block

    def _ledger(self) -> list[Cut]:
        with reading(self.audit.engine) as connection:
            return read_cuts(connection, self.generation.topic, self.generation.number)

    # ---- with the shared kernels, in bounded memory
    def _by_kernels(self) -> None:
        ledger = self._ledger()
        in_force = InForce(self.views, ledger, TableVersions(self.audit.lake))
        again = Recompute(
            self.source, self.views, self.folder, schemas=self.audit.schemas(self.source), in_force=in_force
        )
        for partition in sorted(self.positions):
            for _ in again.feed(partition, self._blocks(ledger, partition)):
                pass
        self._compare_counts(again.counts, again.view_counts)
        for view in self.views:
            served = Buckets(view, self.folder / view.name / "served", value_schema(view))
            for batch in self.snapshot.rows(view.name):
                served.write(pa.Table.from_batches([batch], value_schema(view)))
            for bucket in range(BUCKETS):
                self.audit.progress(f"comparing {view.name}", bucket + 1, BUCKETS)
                self._compare_tables(view, served.read(bucket), again.values(view, bucket))

    def _compare_tables(self, view: View, served: pa.Table, recomputed: pa.Table) -> None:
        served, recomputed = (sort_states(view, t).combine_chunks() for t in (served, recomputed))
        if served.equals(recomputed):
            self.reports[view.name].rows += served.num_rows
        else:
            self._compare_rows(view, _as_rows(view, served.to_batches()), _as_rows(view, recomputed.to_batches()))

    # ---- with the plain-Python f
    def _by_reference(self) -> None:
        ledger = self._ledger()
        again = Reference(self.views, self.audit.schemas(self.source), PlainTables(ledger, self._rows_of))
        for partition in sorted(self.positions):
            for block in self._blocks(ledger, partition):
                columns = (block.batch.column(name).to_pylist() for name in ("offset", "timestamp_ms", "key", "value"))
                again.feed(partition, zip(*columns, strict=True))
        counts = {p: Counts(*again.counts.get(p, (0, 0, 0, 0))) for p in self.positions}
        view_counts = {
            (v.name, p): ViewCounts(*again.view_counts.get((v.name, p), (0, 0, 0)))
            for v in self.views
            for p in self.positions
        }
        self._compare_counts(counts, view_counts)
        for view in self.views:
            self._compare_rows(view, _as_rows(view, self.snapshot.rows(view.name)), again.rows(view))

    def _rows_of(self, table: str, version: int) -> list[dict[str, Any]]:
        return read_version(self.audit.lake, tables_of(self.views)[table], version).to_pylist()

    # ---- comparing
    def _compare_rows(self, view: View, served: Rows, recomputed: Rows) -> None:
        report = self.reports[view.name]
        for group in sorted(served.keys() | recomputed.keys(), key=repr):
            mine, again = served.get(group), recomputed.get(group)
            report.rows += mine is not None
            if repr(mine) != repr(again):  # repr tells 1.50 from 1.5, and 1 from True
                report.differ(dict(zip(group_columns(view), group, strict=True)), mine, again)

    def _compare_counts(self, counts: Mapping[int, Counts], view_counts: Mapping[tuple[str, int], ViewCounts]) -> None:
        topic = self.source.topic
        for view in self.views:
            report = self.reports[view.name]
            report.records = sum(c.records for c in counts.values())
            for partition, served in enumerate(self.snapshot.accounting[topic]):
                if served != counts[partition]:
                    report.counts.append(
                        f"{topic}, partition {partition}: serving.accounting has {served}, the log {counts[partition]}"
                    )
            for partition, folded in enumerate(self.snapshot.view_accounting[view.name]):
                again = view_counts[view.name, partition]
                if folded != again:
                    report.counts.append(
                        f"{view.name}, partition {partition}: serving.view_accounting has {folded}, the log {again}"
                    )


def _as_rows(view: View, batches: Any) -> Rows:
    """Python values by group; times in UTC."""
    groups = group_columns(view)
    found: Rows = {}
    for batch in batches:
        for row in batch.to_pylist():
            found[tuple(row.pop(name) for name in groups)] = row
    return found
