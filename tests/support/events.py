"""One event as bytes in, one value or one reason out: decode, validate and deduplicate as the layers run them."""

from dataclasses import make_dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from pipeline import Source
from pipeline.accept.accept import Ingest, Ingested, clean_schema
from pipeline.log.log import RAW_SCHEMA, Block

AT = '"2013-01-31T13:05:00Z"'


def source_of(hint: Any) -> Source:
    """A source whose record has an identity, a time, and a column x of that type."""
    record = make_dataclass("Event", [("id", str), ("at", datetime), ("x", hint)], frozen=True)
    return Source(topic="t", record=record, key="id", event_time="at", identity="id")


def ingest(source: Source, values: list[bytes | None]) -> Ingested:
    """All values through one block of partition 0."""
    count = len(values)
    columns = [list(range(count)), [0] * count, [b"k"] * count, values, [[]] * count]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, RAW_SCHEMA, strict=True)]
    return Ingest(source, 0).feed(Block(pa.RecordBatch.from_arrays(arrays, schema=RAW_SCHEMA), 0, count))


def outcome(hint: Any, text: str) -> tuple[Any, str | None]:
    """(x, None) when the event with x = text (JSON) is accepted, (None, reason) when it is rejected."""
    value = f'{{"id": "1", "at": {AT}, "x": {text}}}'.encode()
    return outcome_of_event(hint, value)


def outcome_of_event(hint: Any, value: bytes) -> tuple[Any, str | None]:
    got = ingest(source_of(hint), [value])
    got.accepted.validate(full=True)
    assert got.accepted.schema.equals(clean_schema(source_of(hint)))
    assert got.accepted.num_rows + got.rejected.num_rows == 1
    if got.rejected.num_rows:
        row = got.rejected.to_pylist()[0]
        assert (row["value"], row["key"], row["view"]) == (value, b"k", None), "a rejected record is kept as it came"
        return None, row["reason"]
    return got.accepted.column("x")[0].as_py(), None


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]
