"""Leases: who may move which position, by Postgres' clock.

    owner of a row = its last takeover, a fresh UUID        each takeover raises the epoch, and so fences all before it

Rows are locked in the order (topic, generation, partition) everywhere.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.handover import Claim, Generation, LeaseRow, Witness
from serving.ops.generations import refuse_retired

HEARTBEAT = sa.text("""
INSERT INTO ops.workers (topic, worker, alive_until)
VALUES (:topic, :worker, clock_timestamp() + make_interval(secs => :ttl_s))
ON CONFLICT (topic, worker) DO UPDATE SET alive_until = excluded.alive_until
""")
LIVING = sa.text("SELECT worker FROM ops.workers WHERE topic = :topic AND alive_until > clock_timestamp()")
FORGET = sa.text("""
DELETE FROM ops.workers WHERE (topic, worker) IN (
  SELECT topic, worker FROM ops.workers WHERE topic = :topic AND alive_until < clock_timestamp() - interval '1 hour'
  ORDER BY worker FOR UPDATE SKIP LOCKED)
""")
LEASES = sa.text("""
SELECT partition, position, worker, owner, owner IS NOT NULL AND lease_until > clock_timestamp() AS held
FROM ops.positions WHERE topic = :topic AND generation = :generation ORDER BY partition
""")
TAKE = sa.text("""
WITH free AS (
  SELECT topic, generation, partition FROM ops.positions
  WHERE topic = :topic AND generation = :generation AND partition = :partition
    AND (owner IS NULL OR lease_until < clock_timestamp())
  FOR NO KEY UPDATE SKIP LOCKED)
UPDATE ops.positions p SET owner = :owner, worker = :worker, epoch = p.epoch + 1,
  lease_until = clock_timestamp() + make_interval(secs => :lease_s)
FROM free WHERE p.topic = free.topic AND p.generation = free.generation AND p.partition = free.partition
RETURNING p.owner, p.epoch, p.position, p.segment, p.witness_offset, p.witness_hash
""")
RENEW = sa.text("""
WITH mine AS (
  SELECT topic, generation, partition, owner FROM ops.positions WHERE owner = ANY(:owners)
  ORDER BY topic, generation, partition FOR NO KEY UPDATE SKIP LOCKED)
UPDATE ops.positions p SET lease_until = clock_timestamp() + make_interval(secs => :lease_s)
FROM mine
WHERE p.topic = mine.topic AND p.generation = mine.generation AND p.partition = mine.partition AND p.owner = mine.owner
RETURNING p.owner
""")
HELD = sa.text("SELECT owner FROM ops.positions WHERE owner = ANY(:owners)")
RELEASE = sa.text("""
UPDATE ops.positions SET owner = NULL, worker = NULL, lease_until = NULL
WHERE topic = :topic AND generation = :generation AND partition = :partition AND owner = :owner AND epoch = :epoch
""")
RELOAD = sa.text("""
SELECT owner, epoch, position, segment, witness_offset, witness_hash FROM ops.positions
WHERE topic = :topic AND generation = :generation AND partition = :partition AND owner = :owner AND epoch = :epoch
""")


def row_of(claim: Claim) -> dict[str, Any]:
    """The primary key of the claim's row."""
    return {"topic": claim.topic, "generation": claim.generation, "partition": claim.partition}


def heartbeat(connection: Connection, topic: str, worker: str, ttl_s: float) -> list[str]:
    """Prolong, forget workers dead for an hour, and list the living by name."""
    connection.execute(HEARTBEAT, {"topic": topic, "worker": worker, "ttl_s": ttl_s})
    connection.execute(FORGET, {"topic": topic})
    return sorted(row.worker for row in connection.execute(LIVING, {"topic": topic}))


def farewell(connection: Connection, topic: str, worker: str) -> None:
    """This worker lives no more."""
    connection.execute(
        sa.text("DELETE FROM ops.workers WHERE topic = :topic AND worker = :worker"), {"topic": topic, "worker": worker}
    )


def leases(connection: Connection, generation: Generation) -> list[LeaseRow]:
    """All rows of the generation, by partition."""
    refuse_retired(connection, generation)
    rows = connection.execute(LEASES, {"topic": generation.topic, "generation": generation.number})
    return [LeaseRow(row.partition, row.position, row.worker, row.owner, row.held) for row in rows]


def take(connection: Connection, generation: Generation, partition: int, worker: str, lease_s: float) -> Claim | None:
    """Rows that somebody is changing right now are skipped: the next try sees what came of it."""
    refuse_retired(connection, generation)
    key = {"topic": generation.topic, "generation": generation.number, "partition": partition}
    found = connection.execute(TAKE, {**key, "owner": uuid4(), "worker": worker, "lease_s": lease_s}).one_or_none()
    return _claim(key, found) if found is not None else None


def renew(connection: Connection, claims: Sequence[Claim], lease_s: float) -> set[UUID]:
    """A lease that ran out and that nobody took is prolonged as well.

    A row that a commit of ours holds is left to that commit, which prolongs it as it lands: waiting would let the other leases run out.
    """
    owners = sa.bindparam("owners", [claim.owner for claim in claims], sa.ARRAY(sa.Uuid))
    connection.execute(RENEW.bindparams(owners), {"lease_s": lease_s})
    return {row.owner for row in connection.execute(HELD.bindparams(owners))}


def release(connection: Connection, claim: Claim) -> None:
    """Only the claim's own takeover is let go."""
    connection.execute(RELEASE, {**row_of(claim), "owner": claim.owner, "epoch": claim.epoch})


def reload(connection: Connection, claim: Claim) -> Claim | None:
    """The row as it is, or None for one who was fenced."""
    found = connection.execute(RELOAD, {**row_of(claim), "owner": claim.owner, "epoch": claim.epoch}).one_or_none()
    return _claim(row_of(claim), found) if found is not None else None


def _claim(key: dict[str, Any], row: Any) -> Claim:
    witness = None if row.witness_offset is None else Witness(row.witness_offset, row.witness_hash)
    return Claim(**key, owner=row.owner, epoch=row.epoch, position=row.position, segment=row.segment, witness=witness)
