"""A topic for events that are pushed, what is sent to it, and what it has."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from pipeline.log.kafka.log import KafkaLog
from tests.support.system import System, wait_for

PARTITIONS = 3
VIEWS = """
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Annotated
from pipeline import Avro, Between, Count, RecordKey, Scale, Source, View, tumbling

@dataclass(frozen=True)
class Order:
    id: str
    shop: str
    at: datetime
    amount: Annotated[Decimal, Scale(2), Between(0, 100)]

@dataclass(frozen=True)
class Keyed:
    id: str
    shop: Annotated[str, RecordKey()]
    at: datetime

orders = Source(topic={topic!r}, record=Order, key="shop", event_time="at", identity="id")
missing = replace(orders, topic={topic!r} + ".missing")
avro = replace(orders, topic={topic!r} + ".avro", format=Avro())
keyed = replace(orders, topic={topic!r} + ".keyed", record=Keyed)

def counted(name, source):
    return View(name=name, source=source, key=("shop",), window=tumbling(days=1), aggregates={{"orders": Count()}})

VIEWS = (counted("orders", orders), counted("avro", avro), counted("keyed", keyed))
"""
WITH_MISSING = VIEWS.replace("VIEWS = (", 'VIEWS = (counted("missing", missing), ')


def order(number: int = 0, **more: Any) -> dict[str, Any]:
    """One event."""
    return {"id": f"o{number}", "shop": f"s{number % 7}", "at": "2024-01-01T00:00:00Z", "amount": 1.5} | more


def stored(system: System) -> list[tuple[bytes, bytes]]:
    """(key, value) of all records of the topic, partition by partition."""
    log = KafkaLog(system.kafka)
    found: list[tuple[bytes, bytes]] = []
    for partition, end in enumerate(log.end_offsets(system.topic)):
        for block in log.read(system.topic, partition, 0, end):
            found += zip(*(block.batch.column(name).to_pylist() for name in ("key", "value")), strict=True)
    log.close()
    return found


def made(folder: Path, kafka: str, views: str = VIEWS) -> System:
    """A system of the views whose topic is there; nobody needs its Postgres."""
    topic = f"test.{uuid.uuid4().hex}"
    system = System(folder, kafka, "postgresql://nobody@127.0.0.1:1/none", topic, views.format(topic=topic))
    log = KafkaLog(kafka)
    log.create_topic(topic, PARTITIONS)
    log.close()
    return system


def take_less(kafka: str, topic: str, most_bytes: int) -> None:
    """Have a topic take no larger record batches than this, while whoever writes to it knows nothing of it."""
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(most_bytes)})])
    admin.close()
    log = KafkaLog(kafka)
    wait_for(lambda: log.describe(topic).configs.get("max.message.bytes") == str(most_bytes), "the broker knows", 20)
    log.close()
