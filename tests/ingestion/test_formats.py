"""Samples in other formats than JSON: what is read of them, and that a draft declares what its own sample holds."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest

from ingestion.draft import Draft, draft
from ingestion.formats import JSON, Form, avro, message, recognised
from ingestion.sample import PartitionSample, Sample
from pipeline import Avro, Debezium, Json, Protobuf
from pipeline.base.errors import Refused
from pipeline.decode.schemas import NO_SCHEMAS, Schema
from pipeline.log.log import RAW_SCHEMA, Block
from tests.support.families import FIRST, Family, families

NAMES = ("hooks", "pages", "orders", "readings", "accesses", "payments")


class Registry:
    """Schemas by the ids that it gave out."""

    def __init__(self) -> None:
        self.held: dict[int, Schema] = {}

    def register(self, subject: str, text: str) -> int:
        self.held[len(self.held) + 1] = Schema("AVRO", text)
        return len(self.held)

    def schema(self, id: int) -> Schema | None:
        return self.held.get(id)

    def knows(self, id: int) -> bool:
        return id in self.held


def sample(values: Sequence[bytes | None]) -> Sample:
    """Records of one partition, without keys."""
    rows = len(values)
    arrays = [
        pa.array(range(rows), pa.int64()),
        pa.array([1_709_280_000_000] * rows, pa.int64()),
        pa.nulls(rows, pa.binary()),
        pa.array(values, pa.binary()),
        pa.array([[]] * rows, RAW_SCHEMA.field("headers").type),
    ]
    block = Block(pa.RecordBatch.from_arrays(arrays, schema=RAW_SCHEMA), 0, rows)
    return Sample("events", False, (PartitionSample(0, (block,), 0, rows),))


def form_of(family: Family, registry: Registry, folder: Path) -> Form:
    if "avro" in family.options:
        return avro("", Avro(), registry)
    if "protobuf" not in family.options:
        return JSON
    (folder / "payment.proto").write_text(family.files["payment.proto"])
    return message('"payment.proto"', Protobuf("shop.Payment", str(folder / "payment.proto")))


@pytest.mark.parametrize("name", NAMES)
def test_a_family_s_draft_rejects_what_is_broken_and_nothing_else(name: str, tmp_path: Path) -> None:
    registry = Registry()
    (family,) = (one for one in families(registry.register) if one.name == name)
    first = [one for one in family.parts[0] if one.value is not None]
    found = draft(name, "t", sample([one.value for one in first]), form_of(family, registry, tmp_path), tmp_path)
    assert found.rejected == sum(one.meant == "broken" for one in first) > 10
    assert (found.view.source.identity is not None) == family.identified
    assert found.columns >= 7


def types(found: Draft) -> dict[str, str]:
    return {column.name: str(column.type) for column in found.view.source.columns}


def envelope(n: int, **given: Any) -> dict[str, Any]:
    after = {"id": n, "state": "new", "updated_at": 1_709_280_000_000_000 + n, "total": n + 0.25}
    return {"before": None, "after": after, "op": "c", "source": {"db": "shop"}, "ts_ms": 5} | given


def lines(events: Sequence[dict[str, Any]]) -> Sample:
    return sample([json.dumps(event).encode() for event in events])


def test_envelopes_without_a_schema_are_recognised_and_read_by_their_new_image() -> None:
    deleted = envelope(3, op="d", before={"id": 3}, after=None)
    found = draft("orders", "t", lines([*(envelope(n) for n in range(30)), deleted]))
    assert found.view.source.format == Debezium(Json()) and found.rejected == 0
    assert 'updated_at: Annotated[datetime, Epoch("us")]' in found.text and "1 records" in found.text
    assert types(found)["total"].startswith("decimal") and found.view.source.identity is None


@pytest.mark.parametrize(
    "given", [{"op": 3}, {"source": "web"}, {"after": 1}, {"before": [], "after": None}], ids=lambda value: str(value)
)
def test_what_is_no_envelope_is_plain_json(given: dict[str, Any]) -> None:
    assert recognised(lines([envelope(n, **given) for n in range(5)])) is JSON


def test_a_few_records_that_are_none_do_not_hide_the_envelopes() -> None:
    events = [envelope(n) for n in range(20)]
    assert recognised(lines([*events, {}])).changes
    assert recognised(lines([*events, *[{}] * 5])) is JSON


LOGICAL = {
    "type": "record",
    "name": "Event",
    "fields": [
        {"name": "name", "type": "string"},
        {"name": "time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "localTime", "type": {"type": "long", "logicalType": "local-timestamp-millis"}},
        {"name": "opens", "type": {"type": "int", "logicalType": "time-millis"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "amount", "type": {"type": "fixed", "name": "A", "size": 6, "logicalType": "decimal", "precision": 12, "scale": 3}},
        {"name": "whole", "type": "double"},
        {"name": "labels", "type": {"type": "map", "values": "string"}},
        {"name": "createdAt", "type": "long"},
    ],
}  # fmt: skip


def test_avro_of_a_schema_file_is_declared_by_what_its_logical_types_say(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    file = tmp_path / "schemas" / "event.avsc"
    file.write_text(json.dumps(LOGICAL))
    values = []
    for n in range(20):
        out = io.BytesIO()
        event = {
            "name": f"n{n % 3}",
            "time": datetime(2024, 3, 1, n, tzinfo=UTC),
            "localTime": datetime(2024, 3, 1, n),  # noqa: DTZ001 -- a local time
            "opens": time(n),
            "day": date(2024, 3, 1),
            "amount": Decimal(n) / 4,
            "whole": float(n),
            "labels": {"site": "x"},
            "createdAt": 1_709_280_000 + n,
        }
        fastavro.schemaless_writer(out, fastavro.parse_schema(LOGICAL), event)
        values.append(out.getvalue())
    form = avro('schema="schemas/event.avsc"', Avro(file), NO_SCHEMAS)
    found = draft("event", "t", sample(values), form, tmp_path)
    assert found.rejected == 0 and 'format=Avro(schema="schemas/event.avsc"),' in found.text
    shown = types(found)
    assert (shown["time"], shown["day"], shown["whole"]) == ("datetime", "date", "float")
    assert shown["amount"].startswith("decimal") and shown["local_time"] == shown["opens"] == "int"
    assert 'created_at: Annotated[datetime, At("createdAt"), Epoch("s")]' in found.text
    assert 'labels_site: Annotated[str, At("labels.site")]' in found.text


def test_a_sample_in_another_format_is_refused_with_what_to_try() -> None:
    with pytest.raises(Refused, match=r"none of 3 records is an event of Avro\(.*try another --format"):
        draft("event", "t", sample([b"\xff"] * 3), avro("schema=...", Avro(json.dumps(FIRST)), NO_SCHEMAS))
