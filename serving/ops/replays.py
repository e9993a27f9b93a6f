"""ops.replays: rejected records that were sent again, by where they stand in the log.

    a row is there, with the log's end, before the record is sent        sent_offset set <=> it is known where in the log it is now
    at most one replay of a topic holds its lock, which it needs to note rows and to send; it sends rows whose `run` is its own alone

A row without sent_offset is of a replay that was ended half-way: the log from `sought_from` on says whether the record was sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.handover import Generation

REPLAYS = sa.text("""
SELECT partition, "offset", reason, mended, sought_from, run, begun_at, sent_offset, sent_at FROM ops.replays
WHERE topic = :topic AND topic_id = :topic_id ORDER BY partition, "offset"
""")
BEGIN = sa.text("""
INSERT INTO ops.replays (topic, topic_id, partition, "offset", reason, mended, sought_from, run)
VALUES (:topic, :topic_id, :partition, :offset, :reason, :mended, :sought_from, :run)
ON CONFLICT (topic, topic_id, partition, "offset")
DO UPDATE SET reason = excluded.reason, mended = excluded.mended, run = excluded.run
WHERE replays.sent_offset IS NULL
""")
SENT = sa.text("""
UPDATE ops.replays SET sent_offset = :sent_offset, sent_at = clock_timestamp()
WHERE topic = :topic AND topic_id = :topic_id AND partition = :partition AND "offset" = :offset AND sent_offset IS NULL
""")
TRY_LOCK = sa.text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")


@dataclass(frozen=True)
class Replay:
    """One record's replay: begun, and sent to `sent_offset` of the same partition, or not known to be sent (None)."""

    partition: int
    offset: int
    reason: str
    mended: bool
    sought_from: int
    run: UUID
    begun_at: datetime
    sent_offset: int | None
    sent_at: datetime | None


def read_replays(connection: Connection, generation: Generation) -> list[Replay]:
    """All of the log that the generation was made for, by partition and offset."""
    return [Replay(**row) for row in connection.execute(REPLAYS, _log(generation)).mappings()]


def begin_replays(connection: Connection, generation: Generation, rows: Sequence[dict[str, Any]]) -> None:
    """Rows of partition, offset, reason, mended, sought_from, run; where one was begun before, its first sought_from stays."""
    if rows:
        connection.execute(BEGIN, [{**_log(generation), **row} for row in rows])


def mark_sent(connection: Connection, generation: Generation, partition: int, offset: int, sent_offset: int) -> None:
    """Note where the record is in the log now; once."""
    row = {**_log(generation), "partition": partition, "offset": offset, "sent_offset": sent_offset}
    connection.execute(SENT, row)


def lock_replays(connection: Connection, topic: str) -> bool:
    """Hold the topic's lock until the end of the transaction; False when another replay has it."""
    return bool(connection.execute(TRY_LOCK, {"name": f"watershed replay {topic}"}).scalar_one())


def _log(generation: Generation) -> dict[str, Any]:
    return {"topic": generation.topic, "topic_id": generation.topic_id}
