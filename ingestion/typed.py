"""Rows of an origin as typed records: decoded and judged by the very code that does it for events, without a topic.

rows = accepted + rejected, always        accepted[i] keeps what its columns declare; each rejected row has its place and its reason
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from ingestion.origin import Numbers, Rows
from ingestion.rows_as_json import encode
from pipeline.accept.validate import check_all
from pipeline.base.errors import DefinitionError, OriginError, did_you_mean
from pipeline.decode import json_blocks
from pipeline.definition.constraints import Default
from pipeline.definition.marks import FromRecord
from pipeline.definition.paths import Path
from pipeline.definition.record import Column, columns

ENCODED_BYTES = 64 * 1024 * 1024  # of rows that are encoded at once, about
SHOWN = 40  # columns that an error lists


@dataclass(frozen=True)
class Records:
    """One record class, as the decoder of JSON sees it: nothing is exploded."""

    record: type

    def __post_init__(self) -> None:
        for column in self.columns:
            if column.of_element or column.mark(FromRecord):
                raise DefinitionError(
                    f"{self.record.__name__}.{column.name}: a row has no elements, no key, no timestamp and no headers; allowed"
                    " are columns at their own names, and At(...) without []"
                )

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the class."""
        return columns(self.record)

    @property
    def exploded(self) -> Path:
        """The array whose elements are rows: there is none."""
        return ()

    @cached_property
    def schema(self) -> pa.Schema:
        """The schema of accepted rows."""
        fields: list[pa.Field] = [pa.field(c.name, c.type.arrow, nullable=c.nullable) for c in self.columns]
        return pa.schema(fields)


@dataclass(frozen=True)
class RejectedRows:
    """Rows that are none of the record, in the order of their `numbers`: why, and what there is of each.

    `raw` is the row as JSON, as the decoder saw it (`events` is true there); of a row that the origin could not read, its bytes.
    """

    numbers: Numbers
    reasons: Sequence[str]
    raw: Sequence[bytes]
    events: Sequence[bool]

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class Typed:
    """Outcome of one stretch of rows: `accepted` has the declared columns, `numbers` the place of each, counted in `unit`s.

    `values` is each accepted row as a JSON event (binary), where it was asked for.
    """

    accepted: pa.RecordBatch
    numbers: Numbers
    rejected: RejectedRows
    unit: str
    values: pa.Array | None = None


def typed(rows: Rows, record: type, textual: bool = False, values: bool = False) -> Typed:
    """Type and judge the rows as records of the class; `textual` as the origin has it, `values` as Typed has them.

    OriginError where the rows are a table without a column that no record can do without: the table is another, or its dialect is.
    """
    wanted = Records(record)
    _check_columns(rows, wanted.columns, record.__name__)
    parts = [_typed(part, wanted, textual, values) for part in _pieces(rows)]
    accepted = pa.Table.from_batches([batch for batch, _, _, _ in parts], wanted.schema).combine_chunks()
    batches = accepted.to_batches()
    whole = batches[0] if batches else wanted.schema.empty_table().to_batches(max_chunksize=1)
    if isinstance(whole, list):
        whole = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in wanted.schema], schema=wanted.schema)
    numbers = np.concatenate([own for _, own, _, _ in parts])
    bad = [(*row, True) for _, _, rejected, _ in parts for row in rejected]
    bad += [(broken.number, broken.reason, broken.raw, False) for broken in rows.broken]
    bad.sort(key=lambda row: row[0])
    places = np.array([row[0] for row in bad], np.int64)
    rejected = RejectedRows(places, [row[1] for row in bad], [row[2] for row in bad], [row[3] for row in bad])
    assert whole.num_rows + len(rejected) == rows.batch.num_rows + len(rows.broken), "a row was lost"
    events = pa.concat_arrays([kept for _, _, _, kept in parts if kept is not None]) if values else None
    return Typed(whole, numbers, rejected, rows.unit, events)


def _pieces(rows: Rows) -> list[Rows]:
    """The same rows in pieces whose JSON is small enough for one array."""
    count = rows.batch.num_rows
    many = max(1, min(count, -(-rows.batch.nbytes // ENCODED_BYTES)))
    size = max(1, -(-count // many))
    return [
        Rows(rows.batch.slice(at, size), rows.numbers[at : at + size], (), rows.unit)
        for at in range(0, max(count, 1), size)
    ]


Bad = tuple[int, str, bytes]


def _typed(
    rows: Rows, wanted: Records, textual: bool, values: bool
) -> tuple[pa.RecordBatch, Numbers, list[Bad], pa.Array | None]:
    """(accepted, their numbers, rejected, the accepted as JSON where wanted) of one piece."""
    encoded = encode(rows, wanted.columns, textual)
    decoded = json_blocks.decode(wanted, encoded)
    assert not decoded.tombstones, "an origin's row was null"
    arrays, reason, reasons = check_all(wanted.columns, decoded)
    good = np.flatnonzero(reason < 0)
    if len(good) < len(reason):
        arrays = [array.take(pa.array(good, pa.int64())) for array in arrays]
    bad = np.flatnonzero(reason >= 0)
    lost = np.concatenate((decoded.rejected, decoded.rows[bad]))
    why = [*decoded.reasons, *(reasons[n] for n in reason[bad])]
    raw = [bytes(one.as_py()) for one in encoded.take(pa.array(lost, pa.int64()))]
    found = list(zip(rows.numbers[lost].tolist(), why, raw, strict=True))
    accepted = pa.RecordBatch.from_arrays(arrays, schema=wanted.schema)
    kept = decoded.rows[good]
    return accepted, rows.numbers[kept], found, encoded.take(pa.array(kept, pa.int64())) if values else None


def _check_columns(rows: Rows, declared: Sequence[Column], record: str) -> None:
    """A file of another kind, or with another delimiter, is told once, and not once a row."""
    if rows.documents is not None or rows.flattened or not rows.batch.num_rows:
        return
    have = rows.batch.schema.names
    for column in declared:
        first = column.path[0]
        there = any(name == first or name.startswith((f"{first}.", f"{first}[", f'"{first}"')) for name in have)
        if not there and not column.nullable and not isinstance(column.remedy, Default):
            listed = ", ".join(have[:SHOWN]) + (f" and {len(have) - SHOWN} more" if len(have) > SHOWN else "")
            raise OriginError(
                f"there is no column {str(first)!r}, which {record}.{column.name} needs; there are {listed}."
                f"{did_you_mean(str(first), have)} With another name, declare At(...); with another delimiter, give it"
            )


__all__ = ["Records", "RejectedRows", "Typed", "typed"]
