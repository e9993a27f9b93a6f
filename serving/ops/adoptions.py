"""ops.adoptions: which version of a table is in force from a cut on, until a later cut names another.

versions(cut n) = versions(cut n - 1), with those that cut n adopts over them
"""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.handover import Claim, Generation
from pipeline.handover.generation import VersionPairs
from serving.ops.keys import key_of, row_of

ADOPTIONS = sa.text("""
SELECT number, table_name, version FROM ops.adoptions
WHERE topic = :topic AND generation = :generation ORDER BY number, table_name
""")
IN_FORCE_AT = sa.text("""
SELECT DISTINCT ON (a.table_name) a.table_name, a.version
FROM ops.adoptions a JOIN ops.cuts c USING (topic, generation, number)
WHERE a.topic = :topic AND a.generation = :generation AND c.offsets[:partition + 1] <= :offset
ORDER BY a.table_name, a.number DESC
""")
INSERT_ADOPTION = sa.text("""
INSERT INTO ops.adoptions (topic, generation, number, table_name, version)
VALUES (:topic, :generation, :number, :table_name, :version)
""")
COPY_ADOPTIONS = sa.text("""
INSERT INTO ops.adoptions (topic, generation, number, table_name, version)
SELECT topic, :new, number, table_name, version
FROM ops.adoptions WHERE topic = :topic AND generation = :old AND number = ANY(:numbers)
""")


def versions_by_cut(
    connection: Connection, topic: str, generation: int, numbers: Sequence[int]
) -> dict[int, VersionPairs]:
    """Of each of these cuts, rising, the versions that are in force from it on."""
    rows = connection.execute(ADOPTIONS, {"topic": topic, "generation": generation}).all()
    found: dict[int, VersionPairs] = {}
    have: dict[str, int] = {}
    at = 0
    for number in numbers:
        while at < len(rows) and rows[at].number <= number:
            have[rows[at].table_name] = rows[at].version
            at += 1
        found[number] = tuple(sorted(have.items()))
    return found


def in_force_at(connection: Connection, claim: Claim, offset: int) -> dict[str, int]:
    """The versions in force at an offset of the claim's partition."""
    row = {**row_of(claim), "offset": offset}
    return {found.table_name: int(found.version) for found in connection.execute(IN_FORCE_AT, row)}


def insert_adoptions(connection: Connection, generation: Generation, number: int, versions: Mapping[str, int]) -> None:
    """From cut `number` on these versions are in force."""
    key = key_of(generation)
    rows = [{**key, "number": number, "table_name": name, "version": v} for name, v in sorted(versions.items())]
    if rows:
        connection.execute(INSERT_ADOPTION, rows)


def copy_adoptions(connection: Connection, old: Generation, new: Generation, numbers: Sequence[int]) -> None:
    """The adoptions of the cuts of these numbers."""
    row = {"topic": old.topic, "old": old.number, "new": new.number, "numbers": list(numbers)}
    connection.execute(COPY_ADOPTIONS, row)
