"""Leases: who may move which row of ops.positions, by Postgres' clock.

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
from serving.ops.keys import held_by, key_of, row_of

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
# Whoever holds it is fenced: only so does the position stand still while the last of the log is folded again.
SEIZE = sa.text("""
UPDATE ops.positions SET owner = :owner, worker = :worker, epoch = epoch + 1,
  lease_until = clock_timestamp() + make_interval(secs => :lease_s)
WHERE topic = :topic AND generation = :generation AND partition = :partition
RETURNING owner, epoch, position, segment, witness_offset, witness_hash
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


def leases(connection: Connection, generation: Generation) -> list[LeaseRow]:
    """All rows of the generation, by partition."""
    refuse_retired(connection, generation)
    rows = connection.execute(LEASES, key_of(generation))
    return [LeaseRow(row.partition, row.position, row.worker, row.owner, row.held) for row in rows]


def take(connection: Connection, generation: Generation, partition: int, worker: str, lease_s: float) -> Claim | None:
    """Rows that somebody is changing right now are skipped: the next try sees what came of it."""
    return _taken(connection, TAKE, generation, partition, worker, lease_s)


def seize(connection: Connection, generation: Generation, partition: int, worker: str, lease_s: float) -> Claim:
    """Take it from whoever has it; waits for a row that somebody is changing."""
    claim = _taken(connection, SEIZE, generation, partition, worker, lease_s)
    assert claim is not None, f"topic {generation.topic} has no partition {partition}"
    return claim


def _taken(
    connection: Connection, how: sa.TextClause, generation: Generation, partition: int, worker: str, lease_s: float
) -> Claim | None:
    refuse_retired(connection, generation)
    key = {**key_of(generation), "partition": partition}
    found = connection.execute(how, {**key, "owner": uuid4(), "worker": worker, "lease_s": lease_s}).one_or_none()
    return _claim(key, found) if found is not None else None


def renew(connection: Connection, claims: Sequence[Claim], lease_s: float) -> set[UUID]:
    """A lease that ran out and that nobody took is prolonged as well.

    A row that a commit of ours holds is left to that commit, which prolongs it as it lands: waiting would let the other
    leases run out.
    """
    owners = sa.bindparam("owners", [claim.owner for claim in claims], sa.ARRAY(sa.Uuid))
    connection.execute(RENEW.bindparams(owners), {"lease_s": lease_s})
    return {row.owner for row in connection.execute(HELD.bindparams(owners))}


def release(connection: Connection, claim: Claim) -> None:
    """Only the claim's own takeover is let go."""
    connection.execute(RELEASE, held_by(claim))


def reload(connection: Connection, claim: Claim) -> Claim | None:
    """The row as it is, or None for one who was fenced."""
    found = connection.execute(RELOAD, held_by(claim)).one_or_none()
    return _claim(row_of(claim), found) if found is not None else None


def _claim(key: dict[str, Any], row: Any) -> Claim:
    witness = None if row.witness_offset is None else Witness(row.witness_offset, row.witness_hash)
    return Claim(**key, owner=row.owner, epoch=row.epoch, position=row.position, segment=row.segment, witness=witness)
