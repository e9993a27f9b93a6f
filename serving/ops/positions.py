"""ops.positions: per partition the next offset to count, and the segment that is being counted into.

    position = chosen cut  =>  segment = position, in the same transaction
    epoch and owner fence whoever held the row before

Rows are locked in the order (topic, generation, partition) everywhere. Who may move a row is in serving.ops.leases.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.handover import Claim, Commit, Generation, Vector, Witness
from serving.ops.keys import held_by, key_of

POSITION = sa.text("""
SELECT position FROM ops.positions WHERE topic = :topic AND generation = :generation AND partition = :partition
""")
WITNESSES = sa.text("""
SELECT position, witness_offset, witness_hash FROM ops.positions
WHERE topic = :topic AND generation = :generation ORDER BY partition
""")
LOCK_POSITIONS = sa.text("""
SELECT generation, partition, position, segment FROM ops.positions
WHERE topic = :topic AND generation = ANY(:generations) ORDER BY generation, partition FOR NO KEY UPDATE
""")
LOCK_CLAIMED = sa.text("""
SELECT position FROM ops.positions WHERE topic = :topic AND generation = :generation AND partition = :partition
  AND owner = :owner AND epoch = :epoch FOR NO KEY UPDATE
""")
# The first locking statement. `generations` is read by the statement's snapshot: retiring one also raises the epoch.
# It prolongs the lease: RENEW skips rows that are locked, and with commits back to back it may find them so every time.
ADVANCE = sa.text("""
UPDATE ops.positions SET position = :end, position_at = clock_timestamp(),
  lease_until = greatest(lease_until, clock_timestamp() + make_interval(secs => :lease_s)),
  watermark_ms = greatest(watermark_ms, :watermark_ms),
  witness_offset = coalesce(:witness_offset, witness_offset), witness_hash = coalesce(:witness_hash, witness_hash)
WHERE topic = :topic AND generation = :generation AND partition = :partition
  AND epoch = :epoch AND owner = :owner AND position = :start AND segment = :segment
  AND EXISTS (SELECT FROM ops.generations g WHERE g.topic = :topic AND g.number = :generation AND g.status <> 'retired')
""")
BEGIN_SEGMENT = sa.text("""
UPDATE ops.positions SET segment = :segment
WHERE topic = :topic AND generation = :generation AND partition = :partition
""")
OPEN_SEGMENTS = sa.text("""
UPDATE ops.positions SET segment = position
WHERE topic = :topic AND generation = :generation AND segment <> position
  AND position = (CAST(:offsets AS bigint[]))[partition + 1]
""")
RAISE_POSITIONS = sa.text("""
UPDATE ops.positions SET position = (CAST(:offsets AS bigint[]))[partition + 1],
  segment = (CAST(:offsets AS bigint[]))[partition + 1],
  position_at = clock_timestamp(), witness_offset = NULL, witness_hash = NULL
WHERE topic = :topic AND generation = :generation AND position < (CAST(:offsets AS bigint[]))[partition + 1]
""")
LOWER_POSITION = sa.text("""
UPDATE ops.positions SET position = :position, segment = :segment,
  position_at = clock_timestamp(), watermark_ms = -1, witness_offset = NULL, witness_hash = NULL
WHERE topic = :topic AND generation = :generation AND partition = :partition
""")
FENCE = sa.text("""
UPDATE ops.positions SET epoch = epoch + 1, owner = NULL, worker = NULL, lease_until = NULL
WHERE topic = :topic AND generation = :generation AND partition = coalesce(CAST(:partition AS integer), partition)
""")


def position_of(connection: Connection, generation: Generation, partition: int) -> int:
    """Position of the partition, as of now."""
    return int(connection.execute(POSITION, {**key_of(generation), "partition": partition}).scalar_one())


def witnesses(connection: Connection, generation: Generation) -> list[tuple[int, Witness | None]]:
    """By partition: the position, and the last record known to be below it (None when publish or rollback moved it)."""
    rows = connection.execute(WITNESSES, key_of(generation))
    return [(r.position, None if r.witness_offset is None else Witness(r.witness_offset, r.witness_hash)) for r in rows]


def lock_positions(connection: Connection, *generations: Generation) -> list[list[int]]:
    """Until the end of the transaction nobody moves them; the positions of each generation, by partition.

    The generations are those of one topic, the lower number first: that is the order in which rows are locked.
    """
    numbers = [generation.number for generation in generations]
    assert numbers == sorted(numbers), "locks are taken by number"
    rows = connection.execute(LOCK_POSITIONS, {"topic": generations[0].topic, "generations": numbers}).all()
    return [[int(row.position) for row in rows if row.generation == number] for number in numbers]


def lock_claimed(connection: Connection, claim: Claim) -> int | None:
    """The position, which stands still until the end of the transaction; None when the claim is fenced."""
    return connection.execute(LOCK_CLAIMED, held_by(claim)).scalar_one_or_none()


def advance(connection: Connection, work: Commit) -> bool:
    """Move the position to the commit's end and prolong the lease; False, changing nothing, when fenced."""
    witness = work.witness
    row: dict[str, Any] = {
        **held_by(work.claim),
        "start": work.claim.position,
        "segment": work.claim.segment,
        "end": work.end,
        "lease_s": work.lease_s,
        "watermark_ms": work.watermark_ms,
        "witness_offset": witness.offset if witness else None,
        "witness_hash": witness.hash if witness else None,
    }
    return connection.execute(ADVANCE, row).rowcount == 1


def begin_segment(connection: Connection, row: dict[str, Any], segment: int) -> None:
    """Records from now on belong to the segment that starts at `segment`; `row`: serving.ops.keys.row_of."""
    connection.execute(BEGIN_SEGMENT, {**row, "segment": segment})


def open_segments(connection: Connection, generation: Generation, offsets: Sequence[int]) -> None:
    """A position that stands at the cut begins a segment there."""
    connection.execute(OPEN_SEGMENTS, {**key_of(generation), "offsets": list(offsets)})


def raise_positions(connection: Connection, generation: Generation, offsets: Vector) -> None:
    """A position below the cut is raised to it, and begins a segment there; nobody knows the record below it then."""
    connection.execute(RAISE_POSITIONS, {**key_of(generation), "offsets": list(offsets)})


def lower_position(connection: Connection, generation: Generation, partition: int, position: int, segment: int) -> None:
    """The position goes back, and whoever held it is fenced."""
    row = {**key_of(generation), "partition": partition}
    connection.execute(LOWER_POSITION, {**row, "position": position, "segment": segment})
    fence(connection, generation, partition)


def fence(connection: Connection, generation: Generation, partition: int | None = None) -> None:
    """No commit of whoever held the partition lands any more, nor is it held; None: of all partitions."""
    connection.execute(FENCE, {**key_of(generation), "partition": partition})
