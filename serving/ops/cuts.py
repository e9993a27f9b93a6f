"""The ledger: every chosen cut of a generation, by number.

number < number'  =>  cut[p] <= cut'[p] for every partition p
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.handover import Cut, Generation

CUTS = sa.text("""
SELECT c.number, c.date, c.offsets, c.chosen_at, b.status, b.complete, b.staged_from
FROM ops.cuts c JOIN ops.batches b USING (topic, generation, number)
WHERE c.topic = :topic AND c.generation = :generation ORDER BY c.number
""")


def read_cuts(connection: Connection, topic: str, generation: int) -> list[Cut]:
    """All of them, batch 0 first."""
    rows = connection.execute(CUTS, {"topic": topic, "generation": generation})
    return [_cut(topic, generation, row) for row in rows]


def _cut(topic: str, generation: int, row: Any) -> Cut:
    return Cut(
        topic,
        generation,
        row.number,
        row.date,
        tuple(row.offsets),
        row.chosen_at,
        row.status,
        row.complete,
        row.staged_from,
    )


def newest_base(cuts: list[Cut], number: int) -> Cut | None:
    """The newest published batch below `number` whose cut is nowhere above its cut; None when all were purged."""
    offsets = next(cut.offsets for cut in cuts if cut.number == number)
    below = [cut for cut in cuts if cut.number < number and cut.status == "published" and cut.at_most(offsets)]
    return max(below, key=lambda cut: cut.number, default=None)


def key_of(generation: Generation) -> dict[str, Any]:
    """The bind parameters that name a generation."""
    return {"topic": generation.topic, "generation": generation.number}
