"""One partition's records, in log order, through decode -> validate -> deduplicate.

records = accepted + duplicates + rejected + tombstones, for every block; accepted depends on the log alone, not on its blocks
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.accept.dedupe import Identities, IdentitySnapshot
from pipeline.accept.validate import check_all
from pipeline.base.stages import stage
from pipeline.columns.arrays import Ints
from pipeline.columns.hashing import hash_rows
from pipeline.decode.decode import decode
from pipeline.decode.decoded import Decoded
from pipeline.decode.schemas import NO_SCHEMAS, Schemas
from pipeline.definition.source import Source
from pipeline.handover import Counts, Witness
from pipeline.log.log import Block, last_hash

PARTITION, OFFSET, TIMESTAMP, ELEMENT = "_partition", "_offset", "_timestamp_ms", "_element"
POSITION_FIELDS: list[Any] = [pa.field(name, pa.int64(), nullable=False) for name in (PARTITION, OFFSET, TIMESTAMP)]
ELEMENT_FIELD: Any = pa.field(ELEMENT, pa.int64(), nullable=False)
REJECTED_FIELDS: list[Any] = [
    pa.field("partition", pa.int64(), nullable=False),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("timestamp_ms", pa.int64(), nullable=False),
    pa.field("view", pa.string()),  # null: rejected for every view, before deduplication
    pa.field("reason", pa.string(), nullable=False),
    pa.field("key", pa.binary()),
    pa.field("value", pa.binary()),
]
REJECTED_SCHEMA = pa.schema(REJECTED_FIELDS)


def clean_schema(source: Source) -> pa.Schema:
    """Accepted records: the declared columns, then _partition, _offset and _timestamp_ms (int64).

    Of a source with `explode` a row is an element of a record, and _element its place among those of the record, from 0.
    """
    declared: list[Any] = [pa.field(c.name, c.type.arrow, nullable=c.nullable) for c in source.columns]
    return pa.schema(declared + POSITION_FIELDS + ([ELEMENT_FIELD] if source.exploded else []))


@dataclass(frozen=True)
class Ingested:
    """Outcome of one block: `accepted` (clean_schema), `rejected` (REJECTED_SCHEMA), in offset order, and the counts."""

    accepted: pa.RecordBatch
    counts: Counts
    start: int
    end: int
    witness: Witness | None
    _rejected: Callable[[], pa.RecordBatch]

    @cached_property
    def rejected(self) -> pa.RecordBatch:
        """Made when it is asked for: the speed layer counts what it rejects, and the words of each reason cost a look at the record."""
        return self._rejected()


class Ingest:
    """The state of one partition of a source between blocks: its identities and T. Feed it blocks that tile the log.

    With `columns`, `accepted` has just these of the declared ones, and the positions: what a layer does not use is not copied.
    """

    def __init__(
        self,
        source: Source,
        partition: int,
        snapshot: IdentitySnapshot | None = None,
        columns: Collection[str] | None = None,
        schemas: Schemas = NO_SCHEMAS,
    ) -> None:
        self.source = source
        self.schemas = schemas
        self.partition = partition
        self.identities = Identities(source.horizon_ms, snapshot)
        self._kept = [n for n, c in enumerate(source.columns) if columns is None or c.name in columns]
        whole = clean_schema(source)
        self._schema = pa.schema([whole.field(n) for n in self._kept] + POSITION_FIELDS)
        if source.exploded and columns is None:
            self._schema = whole
        self._identity = [n for n, c in enumerate(source.columns) if c.name in source.identities]

    def feed(self, block: Block) -> Ingested:
        """Take the next block; the usual mistake is to feed one twice after a failed commit: then start again from a snapshot."""
        raw = block.batch
        timestamps = np.asarray(raw.column("timestamp_ms").to_numpy(), np.int64)
        times = self.identities.advance(timestamps)
        with stage("parse", raw.num_rows):
            decoded = decode(self.source, raw, self.schemas)
        with stage("validate", raw.num_rows):
            columns, reason, reasons = check_all(self.source.columns, decoded)
        good = reason < 0
        valid = np.flatnonzero(good)
        with stage("dedupe", raw.num_rows):
            duplicate = self._duplicates(columns, good, valid, times[decoded.rows[valid]])
            chosen = valid[~duplicate]
            accepted = self._accepted(columns, chosen, decoded, block, timestamps)
        bad = np.flatnonzero(~good)
        counts = Counts(len(chosen), int(duplicate.sum()), len(decoded.rejected) + len(bad), decoded.tombstones)
        assert counts.records == raw.num_rows, f"a record of {self.source.topic} [{block.start}, {block.end}) was lost"
        digest = last_hash(raw)
        witness = Witness(int(block.offsets[-1]), digest.hex()) if digest is not None else None

        def rejected() -> pa.RecordBatch:
            rows = np.concatenate((decoded.rejected, decoded.rows[bad]))
            return rejected_batch(self.partition, raw, rows, decoded.reasons + [reasons[i] for i in reason[bad]], None)

        return Ingested(accepted, counts, block.start, block.end, witness, rejected)

    def _duplicates(self, columns: list[pa.Array], good: Any, valid: Any, times: Any) -> Any:
        """Mask of the valid records, at log times `times`, that are duplicates; they are registered."""
        if not self._identity:
            return np.zeros(len(valid), np.bool_)
        hashes = hash_rows([(columns[n], self.source.columns[n].type) for n in self._identity])
        return self.identities.mark(hashes if good.all() else hashes[valid], times)

    def _accepted(
        self, columns: list[pa.Array], chosen: Ints, decoded: Decoded, block: Block, timestamps: Ints
    ) -> pa.RecordBatch:
        """The chosen of the decoded records: one row each, or one for each element."""
        rows = decoded.rows
        kept: list[pa.Array] = [columns[n] for n in self._kept]
        last: list[pa.Array] = []
        if decoded.elements is not None:
            inner, outer, place = elements_of(decoded, chosen)
            takes = {False: pa.array(outer, pa.int64()), True: pa.array(inner, pa.int64())}
            kept = [columns[n].take(takes[self.source.columns[n].of_element]) for n in self._kept]
            rows, last = rows[outer], [pa.array(place)]
        elif len(chosen) < len(rows):
            take = pa.array(chosen, pa.int64())
            kept, rows = [column.take(take) for column in kept], rows[chosen]
        partition = pa.array(np.full(len(rows), self.partition, np.int64))
        arrays = [*kept, partition, pa.array(block.offsets[rows]), pa.array(timestamps[rows]), *last]
        return pa.RecordBatch.from_arrays(arrays[: len(self._schema)], schema=self._schema)


def elements_of(decoded: Decoded, chosen: Ints) -> tuple[Ints, Ints, Ints]:
    """(element, record, place in its record) of the elements of these of the decoded records, as numbers of rows; in order."""
    owners = decoded.owners
    is_chosen = np.zeros(len(decoded.rows), np.bool_)
    is_chosen[chosen] = True
    inner = np.flatnonzero(is_chosen[owners])
    first = np.searchsorted(owners, owners)
    return inner, owners[inner], inner - first[inner]


def rejected_batch(
    partition: int, raw: pa.RecordBatch, rows: Any, reasons: list[str], view: str | None
) -> pa.RecordBatch:
    """REJECTED_SCHEMA for rows of a raw batch (RAW_SCHEMA), in offset order."""
    order = np.argsort(rows, kind="stable")
    take = raw.take(pa.array(rows[order]))
    count = len(rows)
    arrays = [
        pa.array(np.full(count, partition, np.int64)),
        take.column("offset"),
        take.column("timestamp_ms"),
        pa.array([view] * count, pa.string()),
        pa.array([reasons[i] for i in order], pa.string()),
        take.column("key"),
        take.column("value"),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=REJECTED_SCHEMA)
