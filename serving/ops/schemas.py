"""ops.schemas: what each schema id in a source's records stands for, decided once.

    a row of (topic, source fingerprint, id) never changes        text is null  <=>  the registry did not know the id when it was asked

So f depends on the log and this table, and not on when a registry was asked. A source that is declared anew decides anew; what was known
for the old one is known for it too, for a registry never gives an id to another schema.
"""

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.decode.schemas import Schema

FIND = sa.text("""
SELECT kind, text, others FROM ops.schemas WHERE topic = :topic AND source_fingerprint = :fingerprint AND id = :id
""")
INHERIT = sa.text("""
INSERT INTO ops.schemas (topic, source_fingerprint, id, kind, text, others)
SELECT topic, :fingerprint, id, kind, text, others FROM ops.schemas
WHERE topic = :topic AND id = :id AND text IS NOT NULL ORDER BY decided_at LIMIT 1
ON CONFLICT DO NOTHING
""")
DECIDE = sa.text("""
INSERT INTO ops.schemas (topic, source_fingerprint, id, kind, text, others)
VALUES (:topic, :fingerprint, :id, :kind, :text, :others) ON CONFLICT DO NOTHING
""")


def find(connection: Connection, topic: str, fingerprint: str, id: int) -> tuple[bool, Schema | None]:
    """(decided, the schema, None for an id that is unknown)."""
    row = connection.execute(FIND, {"topic": topic, "fingerprint": fingerprint, "id": id}).one_or_none()
    if row is None or row.text is None:
        return row is not None, None
    return True, Schema(row.kind, row.text, tuple((name, text) for name, text in json.loads(row.others)))


def inherit(connection: Connection, topic: str, fingerprint: str, id: int) -> None:
    """Take over what the id was known to stand for when the source was declared otherwise."""
    connection.execute(INHERIT, {"topic": topic, "fingerprint": fingerprint, "id": id})


def decide(connection: Connection, topic: str, fingerprint: str, id: int, found: Schema | None) -> None:
    """Write down what the registry said, unless somebody has decided meanwhile."""
    row: dict[str, Any] = {
        "topic": topic,
        "fingerprint": fingerprint,
        "id": id,
        "kind": None,
        "text": None,
        "others": "[]",
    }
    if found is not None:
        row |= {"kind": found.kind, "text": found.text, "others": json.dumps(found.references)}
    connection.execute(DECIDE, row)
