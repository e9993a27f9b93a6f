"""ops.cuts, the ledger: every chosen cut of a generation, by number, each beside its batch.

number < number'  =>  cut[p] <= cut'[p] for every partition p
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.base.errors import StoreError
from pipeline.handover import Claim, Cut, Generation
from pipeline.handover.generation import VersionPairs
from serving.ops.adoptions import copy_adoptions, versions_by_cut
from serving.ops.batches import copy_batches, insert_batch
from serving.ops.keys import key_of, row_of

CUTS = sa.text("""
SELECT c.number, c.date, c.offsets, c.chosen_at, b.status, b.complete, b.staged_from
FROM ops.cuts c JOIN ops.batches b USING (topic, generation, number)
WHERE c.topic = :topic AND c.generation = :generation ORDER BY c.number
""")

CHOSEN_CUTS = sa.text("""
SELECT DISTINCT c.offsets[:partition + 1] AS cut FROM ops.cuts c JOIN ops.batches b USING (topic, generation, number)
WHERE c.topic = :topic AND c.generation = :generation AND b.status IN ('chosen', 'adopted')
  AND c.offsets[:partition + 1] > :start AND c.offsets[:partition + 1] <= :end
ORDER BY cut
""")
INSERT_CUT = sa.text("""
INSERT INTO ops.cuts (topic, generation, number, date, offsets, chosen_at)
VALUES (:topic, :generation, :number, :date, CAST(:offsets AS bigint[]), clock_timestamp())
ON CONFLICT (topic, generation, date) DO NOTHING
""")
PUBLISHED_AT = sa.text("""
SELECT max(c.number) FROM ops.cuts c JOIN ops.batches b USING (topic, generation, number)
WHERE c.topic = :topic AND c.generation = :generation AND c.offsets = CAST(:offsets AS bigint[])
  AND b.status IN ('published', 'purged')
""")
COPY_CUTS = sa.text("""
INSERT INTO ops.cuts (topic, generation, number, date, offsets, chosen_at)
SELECT topic, :new, number, date, offsets || CAST(:added AS bigint[]), chosen_at
FROM ops.cuts WHERE topic = :topic AND generation = :old AND number = ANY(:numbers)
""")


def read_cuts(connection: Connection, topic: str, generation: int) -> list[Cut]:
    """All of them, batch 0 first."""
    rows = connection.execute(CUTS, {"topic": topic, "generation": generation}).all()
    versions = versions_by_cut(connection, topic, generation, [row.number for row in rows])
    return [_cut(topic, generation, row, versions[row.number]) for row in rows]


def _cut(topic: str, generation: int, row: Any, versions: VersionPairs) -> Cut:
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
        versions,
    )


def newest_base(cuts: list[Cut], number: int) -> Cut | None:
    """The newest published batch below `number` whose cut is nowhere above its cut; None when all were purged."""
    offsets = next(cut.offsets for cut in cuts if cut.number == number)
    below = [cut for cut in cuts if cut.number < number and cut.status == "published" and cut.at_most(offsets)]
    return max(below, key=lambda cut: cut.number, default=None)


def cut_in(cuts: Sequence[Cut], generation: Generation, number: int) -> Cut:
    """The cut of this number; StoreError when there is none."""
    for cut in cuts:
        if cut.number == number:
            return cut
    raise StoreError(f"topic {generation.topic}, generation {generation.number} has no cut number {number}")


def chosen_within(connection: Connection, claim: Claim, end: int) -> list[int]:
    """The chosen cuts in (claim.position, end], rising: where a commit must end, or begin the next segment."""
    row = {**row_of(claim), "start": claim.position, "end": end}
    return [int(found.cut) for found in connection.execute(CHOSEN_CUTS, row)]


def insert_cut(
    connection: Connection,
    generation: Generation,
    number: int,
    offsets: Sequence[int],
    date: date | None = None,
    status: str = "chosen",
) -> bool:
    """A cut as of now, and its batch in that status; False, changing nothing, when the date has one."""
    row = {**key_of(generation), "number": number, "date": date, "offsets": list(offsets)}
    if not connection.execute(INSERT_CUT, row).rowcount:
        return False
    insert_batch(connection, generation, number, status)
    return True


def published_at(connection: Connection, generation: Generation, offsets: Sequence[int]) -> int | None:
    """The number of the batch published at that cut, purged since or not; never a withdrawn one's at the same cut."""
    found: int | None = connection.execute(PUBLISHED_AT, {**key_of(generation), "offsets": list(offsets)}).scalar_one()
    return found


def copy_cuts(connection: Connection, old: Generation, new: Generation, numbers: Sequence[int]) -> None:
    """The cuts of these numbers and their batches, of which nothing is staged; added partitions begin at their start.

    What was published is chosen again: staged and published anew, or covered. The rest of the ledger keeps its meaning.
    """
    added = list(new.starts[old.partitions :])
    row = {"topic": old.topic, "old": old.number, "new": new.number, "numbers": list(numbers), "added": added}
    connection.execute(COPY_CUTS, row)
    copy_adoptions(connection, old, new, numbers)
    copy_batches(connection, old, new, numbers)
