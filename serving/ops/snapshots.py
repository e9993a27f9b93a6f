"""ops.snapshots: where workers wrote what a partition remembers, so that a takeover replays a minute of the log.

a file is there  =>  a row names it: recorded before it is written, forgotten after it is deleted
"""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.handover import Claim, WorkerSnapshot
from serving.ops.keys import held_by, row_of

RECORD_SNAPSHOT = sa.text("""
INSERT INTO ops.snapshots (topic, generation, partition, epoch, position, path)
SELECT topic, generation, partition, epoch, :position, :path FROM ops.positions
WHERE topic = :topic AND generation = :generation AND partition = :partition AND epoch = :epoch AND owner = :owner
ON CONFLICT (topic, generation, partition, path) DO UPDATE SET created_at = clock_timestamp()
""")
SNAPSHOTS = sa.text("""
SELECT position, path FROM ops.snapshots
WHERE topic = :topic AND generation = :generation AND partition = :partition AND position <= :position
ORDER BY position DESC, epoch DESC
""")
# Not those of a later takeover: whoever was stopped for long must not delete what its successor wrote.
SUPERSEDED = sa.text("""
SELECT path FROM ops.snapshots WHERE topic = :topic AND partition = :partition AND path <> :path
  AND (generation < :generation OR generation = :generation AND epoch <= :epoch)
""")
FORGET_SNAPSHOT = sa.text("DELETE FROM ops.snapshots WHERE topic = :topic AND partition = :partition AND path = :path")


def record_snapshot(connection: Connection, claim: Claim, path: str) -> bool:
    """See pipeline.handover.SnapshotStore, as for all of these."""
    row = {**held_by(claim), "position": claim.position, "path": path}
    return bool(connection.execute(RECORD_SNAPSHOT, row).rowcount)


def snapshots(connection: Connection, claim: Claim) -> list[WorkerSnapshot]:
    """Snapshots at or below the claim's position, the highest first."""
    rows = connection.execute(SNAPSHOTS, {**row_of(claim), "position": claim.position})
    return [WorkerSnapshot(row.position, row.path) for row in rows]


def superseded(connection: Connection, claim: Claim, path: str) -> list[str]:
    """The paths of the partition's others, up to this takeover."""
    return list(connection.scalars(SUPERSEDED, {**row_of(claim), "epoch": claim.epoch, "path": path}))


def forget_snapshot(connection: Connection, claim: Claim, path: str) -> None:
    """Delete the row of a snapshot whose files are gone."""
    connection.execute(FORGET_SNAPSHOT, {**row_of(claim), "path": path})
