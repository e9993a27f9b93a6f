"""ops.workers: who lives, by Postgres' clock.

alive_until > now  <=>  the worker counts when partitions are shared out
"""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

HEARTBEAT = sa.text("""
INSERT INTO ops.workers (topic, worker, alive_until)
VALUES (:topic, :worker, clock_timestamp() + make_interval(secs => :ttl_s))
ON CONFLICT (topic, worker) DO UPDATE SET alive_until = excluded.alive_until
""")
LIVING = sa.text("""
SELECT topic, worker FROM ops.workers
WHERE alive_until > clock_timestamp() AND topic = coalesce(CAST(:topic AS text), topic)
""")
FORGET = sa.text("""
DELETE FROM ops.workers WHERE (topic, worker) IN (
  SELECT topic, worker FROM ops.workers WHERE topic = :topic AND alive_until < clock_timestamp() - interval '1 hour'
  ORDER BY worker FOR UPDATE SKIP LOCKED)
""")
FAREWELL = sa.text("DELETE FROM ops.workers WHERE topic = :topic AND worker = :worker")


def heartbeat(connection: Connection, topic: str, worker: str, ttl_s: float) -> list[str]:
    """Prolong, forget workers dead for an hour, and list the living by name."""
    connection.execute(HEARTBEAT, {"topic": topic, "worker": worker, "ttl_s": ttl_s})
    connection.execute(FORGET, {"topic": topic})
    return [name for _, name in living(connection, topic)]


def farewell(connection: Connection, topic: str, worker: str) -> None:
    """Delete the row of a worker that lives no more."""
    connection.execute(FAREWELL, {"topic": topic, "worker": worker})


def living(connection: Connection, topic: str | None = None) -> list[tuple[str, str]]:
    """(topic, worker) of the living, sorted; None: of every topic."""
    return sorted((row.topic, row.worker) for row in connection.execute(LIVING, {"topic": topic}))
