"""ops.batches, ops.batch_counts and ops.batch_views: what became of a cut's batch, and its cumulative counts.

    chosen -> published | covered        published -> withdrawn (rollback)        published, covered -> purged        adopted for ever

`complete` <=> rows and counts are staged: all change in one transaction.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from pipeline.handover import Generation, Staged
from serving.ops.keys import key_of
from serving.ops.tables import RECORD_COUNTS, VIEW_COUNTS, batch_counts, batch_views

INSERT_BATCH = sa.text("""
INSERT INTO ops.batches (topic, generation, number, status) VALUES (:topic, :generation, :number, :status)
""")
COPY_BATCHES = sa.text("""
INSERT INTO ops.batches (topic, generation, number, status)
SELECT topic, :new, number, CASE status WHEN 'published' THEN 'chosen' ELSE status END
FROM ops.batches WHERE topic = :topic AND generation = :old AND number = ANY(:numbers)
""")
LOCK_BATCH = sa.text("""
SELECT status FROM ops.batches WHERE topic = :topic AND generation = :generation AND number = :number
FOR NO KEY UPDATE NOWAIT
""")
LOCK_CHOSEN = sa.text("""
SELECT complete FROM ops.batches
WHERE topic = :topic AND generation = :generation AND number = :number AND status = 'chosen'
FOR NO KEY UPDATE
""")
LOCK_BATCHES = sa.text("""
SELECT number FROM ops.batches WHERE topic = :topic AND generation = :generation AND number = ANY(:numbers)
ORDER BY number FOR NO KEY UPDATE
""")
CHOSEN = sa.text("""
SELECT number FROM ops.batches
WHERE topic = :topic AND generation = :generation AND number <= :keep AND status = 'chosen'
""")
BEGIN_STAGING = sa.text("""
UPDATE ops.batches SET complete = false, staged_from = NULL, staged_at = NULL
WHERE topic = :topic AND generation = :generation AND number = :number
""")
END_STAGING = sa.text("""
UPDATE ops.batches SET complete = true, staged_from = :staged_from, staged_at = clock_timestamp()
WHERE topic = :topic AND generation = :generation AND number = :number
""")
PUBLISHED = sa.text("""
UPDATE ops.batches SET status = 'published', published_at = clock_timestamp()
WHERE topic = :topic AND generation = :generation AND number = :number
""")
SET_STATUS = sa.text("""
UPDATE ops.batches SET status = :status WHERE topic = :topic AND generation = :generation AND number = :number
""")
MARK = sa.text("""
UPDATE ops.batches SET rollback_given_up = true
WHERE topic = :topic AND generation = :generation AND number < :keep AND NOT rollback_given_up
""")
# A batch rolled back stays withdrawn, so that its date goes on being refused.
PURGED = sa.text("""
UPDATE ops.batches SET complete = false, status = CASE status WHEN 'withdrawn' THEN status ELSE 'purged' END
WHERE topic = :topic AND generation = :generation AND number = ANY(:numbers)
""")
DELETE_COUNTS = [
    sa.text(f"""
DELETE FROM ops.{table} WHERE topic = :topic AND generation = :generation AND number = ANY(:numbers)
""")  # noqa: S608 -- two constants
    for table in ("batch_counts", "batch_views")
]


def insert_batch(connection: Connection, generation: Generation, number: int, status: str = "chosen") -> None:
    """The batch of a cut that was chosen just now; in status adopted it stands for a batch that never comes."""
    connection.execute(INSERT_BATCH, {**_one(generation, number), "status": status})


def copy_batches(connection: Connection, old: Generation, new: Generation, numbers: Sequence[int]) -> None:
    """Copy their states as far as they need no rows: what was published is chosen again."""
    row = {"topic": old.topic, "old": old.number, "new": new.number, "numbers": list(numbers)}
    connection.execute(COPY_BATCHES, row)


def lock_batch(connection: Connection, generation: Generation, number: int) -> None:
    """Until the end of the transaction nobody stages or publishes it; fails at once while somebody does."""
    connection.execute(LOCK_BATCH, _one(generation, number))


def lock_chosen(connection: Connection, generation: Generation, number: int) -> bool | None:
    """Lock it for staging, waiting for a twin; whether it has rows, None when it is not in status chosen."""
    return connection.execute(LOCK_CHOSEN, _one(generation, number)).scalar_one_or_none()


def lock_batches(connection: Connection, generation: Generation, numbers: Sequence[int]) -> None:
    """Lock them, in order."""
    connection.execute(LOCK_BATCHES, {**key_of(generation), "numbers": list(numbers)})


def chosen_numbers(connection: Connection, generation: Generation, keep: int | None) -> list[int]:
    """The batches up to number `keep` that may still be staged, with fewer groups than now."""
    return [int(number) for number in connection.scalars(CHOSEN, {**key_of(generation), "keep": keep})]


def begin_staging(connection: Connection, generation: Generation, number: int) -> None:
    """The complete flag is cleared."""
    connection.execute(BEGIN_STAGING, _one(generation, number))


def end_staging(connection: Connection, generation: Generation, number: int, staged_from: str) -> None:
    """The complete flag is set, last."""
    connection.execute(END_STAGING, {**_one(generation, number), "staged_from": staged_from})


def replace_counts(connection: Connection, generation: Generation, number: int, staged: Staged) -> None:
    """The batch's counts are those staged."""
    key = _one(generation, number)
    _delete_counts(connection, generation, [number])
    counts = [
        {**key, "partition": p, **{name: getattr(found, name) for name in RECORD_COUNTS}}
        for p, found in enumerate(staged.counts)
    ]
    views = [
        {**key, "view": view, "partition": p, **{name: getattr(found, name) for name in VIEW_COUNTS}}
        for view, per_partition in staged.view_counts.items()
        for p, found in enumerate(per_partition)
    ]
    connection.execute(insert(batch_counts), counts)
    connection.execute(insert(batch_views), views)


def set_published(connection: Connection, generation: Generation, number: int) -> None:
    """Mark the batch as the visible one from the end of this transaction on."""
    connection.execute(PUBLISHED, _one(generation, number))


def set_status(connection: Connection, generation: Generation, number: int, status: str) -> None:
    """covered or withdrawn."""
    connection.execute(SET_STATUS, {**_one(generation, number), "status": status})


def mark_below(connection: Connection, generation: Generation, keep: int) -> None:
    """Tell everybody who looks at files or rows of a batch below number `keep` that they may go from now on."""
    connection.execute(MARK, {**key_of(generation), "keep": keep})


def set_purged(connection: Connection, generation: Generation, numbers: Sequence[int]) -> None:
    """Counts go, and status and `complete` say so."""
    _delete_counts(connection, generation, numbers)
    connection.execute(PURGED, {**key_of(generation), "numbers": list(numbers)})


def _delete_counts(connection: Connection, generation: Generation, numbers: Sequence[int]) -> None:
    for statement in DELETE_COUNTS:
        connection.execute(statement, {**key_of(generation), "numbers": list(numbers)})


def _one(generation: Generation, number: int) -> dict[str, Any]:
    return {**key_of(generation), "number": number}
