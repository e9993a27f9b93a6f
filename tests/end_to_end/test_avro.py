"""Avro events on real Kafka, Postgres and a registry: through worker, night and both audits, with the registry down and ids unknown."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import fastavro
import pytest

from sandbox.schema_registry import SchemaRegistry
from tests.support.avro import framed
from tests.support.system import System, wait_for

VIEWS = """
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated
from pipeline import At, Avro, Count, Last, Scale, Source, Sum, View, tumbling

@dataclass(frozen=True)
class Reading:
    id: str
    device: str
    read_at: datetime
    celsius: Annotated[Decimal | None, Scale(2)]
    firmware: Annotated[str | None, At("about.firmware")]

readings = Source(topic={topic!r}, record=Reading, key="device", event_time="read_at", identity="id", format=Avro())
VIEWS = (
    View(name="readings_by_hour", source=readings, key=("device",), window=tumbling(hours=1),
         aggregates={{"readings": Count(), "celsius": Sum("celsius"), "firmware": Last("firmware")}}),
)
"""
FIELDS: list[dict[str, Any]] = [
    {"name": "id", "type": "string"},
    {"name": "device", "type": {"type": "enum", "name": "Device", "symbols": ["cellar", "roof"]}},
    {"name": "read_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "celsius", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}]},
]
ABOUT = {
    "name": "about",
    "type": {"type": "record", "name": "About", "fields": [{"name": "firmware", "type": "string"}]},
}
FIRST = {"type": "record", "name": "Reading", "fields": FIELDS}
SECOND = {"type": "record", "name": "Reading", "fields": [ABOUT, *reversed(FIELDS)]}
START = datetime(2024, 3, 1, tzinfo=UTC)


def body(schema: dict[str, Any], n: int) -> bytes:
    """An event of that schema."""
    event = {
        "id": f"r{n}",
        "device": "roof" if n % 2 else "cellar",
        "read_at": START + timedelta(minutes=n),
        "celsius": Decimal(n) / 4,
    }
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), event | {"about": {"firmware": f"v{n}"}})
    return out.getvalue()


def written(
    registry: SchemaRegistry, schema: dict[str, Any], numbers: range, id: int = 0
) -> list[tuple[int, bytes, bytes]]:
    """Records of events, each on the partition of its device."""
    id = id or registry.register("readings-value", json.dumps(schema))
    return [(n % 2, b"k", framed(id, body(schema, n))) for n in numbers]


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with SchemaRegistry() as made:
        yield made


@pytest.fixture
def avro(system: System, registry: SchemaRegistry) -> System:
    system.define(VIEWS.format(topic=system.topic))
    system.environment["WATERSHED_SCHEMA_REGISTRY"] = registry.url
    system.run("init", "--partitions", "2")
    return system


def counted(system: System) -> tuple[int, int]:
    rows = system.query("SELECT accepted, rejected FROM serving.accounting")
    return sum(r["accepted"] for r in rows), sum(r["rejected"] for r in rows)


@pytest.mark.slow
def test_avro_events_of_two_schemas_go_through_worker_night_and_both_audits(
    avro: System, registry: SchemaRegistry
) -> None:
    avro.produce(written(registry, FIRST, range(100)))
    avro.catch_up()
    avro.night("2024-03-01")
    avro.produce(written(registry, SECOND, range(100, 200)))
    avro.catch_up()
    assert counted(avro) == (200, 0)
    avro.assert_exact()
    registry.stop()  # what was read before is read again without it
    avro.night("2024-03-02")
    avro.assert_exact()
    avro.run("rebuild")
    last = avro.query(
        "SELECT readings, celsius, firmware FROM serving.readings_by_hour ORDER BY window_start DESC, device LIMIT 1"
    )
    assert last == [{"readings": 10, "celsius": Decimal("472.50"), "firmware": "v198"}]


@pytest.mark.slow
def test_a_registry_that_is_away_holds_up_the_partition_that_needs_it_and_no_other(
    avro: System, registry: SchemaRegistry
) -> None:
    avro.produce(written(registry, FIRST, range(10)))
    worker = avro.worker()
    wait_for(lambda: counted(avro) == (10, 0), "the first events are counted")
    later = written(registry, SECOND, range(10, 20))
    registry.stop()
    avro.produce([record for record in later if record[0] == 1])
    avro.produce([record for record in written(registry, FIRST, range(100, 110), id=1) if record[0] == 0])
    wait_for(lambda: counted(avro) == (15, 0), "the partition whose schema is known goes on")
    wait_for(lambda: "is away" in (avro.folder / "worker.log").read_text(), "the worker says what it waits for")
    epochs = avro.query("SELECT epoch FROM ops.positions ORDER BY partition")
    registry.start()
    wait_for(lambda: counted(avro) == (20, 0), "the others are counted when the registry is back")
    assert avro.query("SELECT epoch FROM ops.positions ORDER BY partition") == epochs, "no lease was lost"
    assert worker.poll() is None
    avro.night("2024-03-01")
    avro.assert_exact()


@pytest.mark.slow
def test_what_an_id_stands_for_is_decided_once(avro: System, registry: SchemaRegistry) -> None:
    avro.produce(written(registry, FIRST, range(10)))
    avro.produce(written(registry, SECOND, range(10, 14), id=2))  # whoever wrote it has not registered it
    avro.catch_up()
    assert counted(avro) == (10, 4)
    assert registry.register("readings-value", json.dumps(SECOND)) == 2
    avro.produce(written(registry, SECOND, range(20, 24)))
    avro.catch_up()
    assert counted(avro) == (10, 8), "the verdict stands"
    avro.night("2024-03-01")
    avro.assert_exact()
    (folder,) = (avro.lake / "rejected" / avro.topic).iterdir()
    import pyarrow.parquet as pq

    reasons = {r for file in folder.rglob("*.parquet") for r in pq.read_table(file).column("reason").to_pylist()}
    assert reasons == {"schema id 2, which the registry does not know"}
    avro.define(VIEWS.format(topic=avro.topic).replace("Avro()", "Avro(asked=2)"))
    assert "definition" in avro.run("speed", "--until-caught-up", check=False).stderr
    avro.run("init", "--rebuild")
    assert counted(avro) == (18, 0), "declared anew, it is asked anew"
    avro.catch_up()
    avro.assert_exact()


@pytest.mark.slow
def test_without_a_registry_the_setting_is_named(avro: System, registry: SchemaRegistry) -> None:
    avro.produce(written(registry, FIRST, range(3)))
    del avro.environment["WATERSHED_SCHEMA_REGISTRY"]
    done = avro.run("speed", "--until-caught-up", check=False)
    assert done.returncode == 1 and "WATERSHED_SCHEMA_REGISTRY" in done.stderr and "Traceback" not in done.stderr
