"""State of every partition, the ledger of every topic, and who works on it, at one instant.

lag = the log's end − position: only Kafka knows the first, so it is for the caller to add
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from pipeline.handover import Cut
from serving.ops.cuts import read_cuts
from serving.ops.workers import living
from serving.postgres.connection import reading


@dataclass(frozen=True)
class PartitionStatus:
    """One partition of an active generation. `lease_s` is what is left of the lease: None when nobody holds one."""

    topic: str
    generation: int
    partition: int
    batch: int
    cut: int
    position: int
    worker: str | None
    lease_s: float | None
    cut_at: datetime
    position_at: datetime
    watermark_ms: int


@dataclass(frozen=True)
class Status:
    """Content of `watershed status`: every partition, the ledger of every topic, and the living workers by topic."""

    partitions: list[PartitionStatus]
    ledger: Mapping[str, list[Cut]]
    workers: Mapping[str, list[str]]


STATUS = sa.text("""
SELECT f.topic, p.generation, f.partition, v.number AS batch, f.cut, f.position, p.worker,
  extract(epoch FROM p.lease_until - clock_timestamp())::float8 AS lease_s, f.cut_at, f.position_at, p.watermark_ms
FROM serving.freshness f
JOIN ops.generations g ON g.topic = f.topic AND g.status = 'active'
JOIN ops.positions p ON p.topic = f.topic AND p.generation = g.number AND p.partition = f.partition
JOIN ops.visible v ON v.topic = f.topic AND v.generation = g.number
ORDER BY f.topic, f.partition
""")


def status(engine: Engine) -> Status:
    """All of it at one instant."""
    with reading(engine) as connection:
        rows = [PartitionStatus(**row) for row in connection.execute(STATUS).mappings()]
        ledger = {
            topic: read_cuts(connection, topic, number) for topic, number in {(r.topic, r.generation) for r in rows}
        }
        workers: dict[str, list[str]] = {topic: [] for topic in sorted(ledger)}
        for topic, worker in living(connection):
            workers.setdefault(topic, []).append(worker)
    return Status(rows, ledger, workers)
