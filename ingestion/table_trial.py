"""Trial of a table over the first rows of its origin: what a load would make of them, by the load's own code.

rows = added + duplicates + deleted + rejected, always        nothing is written, and no Postgres is asked
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pyarrow as pa

from ingestion.loading.counts import LoadCounts
from ingestion.loading.modes import mode_of
from ingestion.origin import Origin, Reading, Rows
from ingestion.trial import ColumnSummary, summary_of
from ingestion.typed import typed
from pipeline.accept.reasons import shape
from pipeline.base.errors import DefinitionError
from pipeline.definition.record import columns
from pipeline.definition.table import Table


@dataclass
class RejectedLike:
    """Rows rejected for reasons of one shape, and the first of them: its part, its place in that, what there is of it."""

    count: int
    reason: str
    part: str
    unit: str
    number: int
    raw: bytes


@dataclass
class TableTrial:
    """Findings of a trial of one table; `said` are the origin's own words: dialects found, waits."""

    table: str
    parts: list[str] = field(default_factory=list)
    counts: LoadCounts = field(default_factory=LoadCounts)
    rejected: list[RejectedLike] = field(default_factory=list)
    columns: list[ColumnSummary] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def try_table(table: Table, secret: Callable[[str], str], most: int) -> TableTrial:
    """Load the first `most` rows of the origin, as if there were no version before, and keep nothing. OriginError as of a load."""
    if not isinstance(table.origin, Origin):
        raise DefinitionError(f"Table({table.name}): origin={table.origin!r} cannot be read")
    found, reasons = TableTrial(table.name), dict[str, RejectedLike]()
    mode = mode_of(table, None, datetime.now(UTC), found.counts)
    accepted = [pa.Table.from_batches([], pa.schema([pa.field(c.name, c.type.arrow) for c in columns(table.record)]))]
    for part, rows in _first(table.origin, Reading(secret, report=found.said.append), most, found.parts):
        made = typed(rows, table.record, table.origin.textual)
        found.counts.read += made.accepted.num_rows + len(made.rejected)
        bad = list(zip(made.rejected.numbers.tolist(), made.rejected.reasons, made.rejected.raw, strict=True))
        if made.accepted.num_rows:
            kept, twice = mode.feed(made.accepted, made.numbers, part)
            found.counts.rows += kept.num_rows
            bad += [(row.number, row.reason, row.raw) for row in twice]
            accepted.append(pa.Table.from_batches([made.accepted]).cast(accepted[0].schema))
        found.counts.rejected += len(bad)
        for number, reason, raw in bad:
            known = reasons.setdefault(shape(reason), RejectedLike(0, reason, part, rows.unit, number, raw))
            known.count += 1
    found.counts.rows += sum(one.num_rows for one in mode.finish())
    found.counts.check()
    whole = pa.concat_tables(accepted)
    found.columns = [summary_of(c.name, str(c.type), whole.column(c.name)) for c in columns(table.record)]
    found.rejected = sorted(reasons.values(), key=lambda one: -one.count)
    return found


def _first(origin: Origin, reading: Reading, most: int, parts: list[str]) -> Iterator[tuple[str, Rows]]:
    """The first rows, part by part, with the part's name; those that are read are put into `parts`."""
    left = most
    for part in origin.parts(replace(reading, limit=most)):
        parts.append(part.name)
        for rows in origin.read(part, replace(reading, limit=left)):
            yield part.name, rows
            left -= rows.batch.num_rows + len(rows.broken)
        if left <= 0:
            return


__all__ = ["RejectedLike", "TableTrial", "try_table"]
