"""ops.generations and ops.views: a source's definitions, one row per rebuild.

at most one generation of a topic is active; a retired one never is again, and whoever works on it is refused
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.base.errors import Refused
from pipeline.handover import Generation
from serving.ops.keys import key_of

GENERATION = sa.text("""
SELECT number, topic_id, starts, source_fingerprint, definition, status FROM ops.generations
WHERE topic = :topic AND (status = :status OR number = :number)
ORDER BY number DESC LIMIT 1
""")
VIEWS = sa.text(
    "SELECT view, fingerprint, definition FROM ops.views WHERE topic = :topic AND generation = :number ORDER BY view"
)
STATUS = sa.text("SELECT status FROM ops.generations WHERE topic = :topic AND number = :number")

LOCK_GENERATIONS = sa.text("SELECT number FROM ops.generations WHERE topic = :topic ORDER BY number FOR NO KEY UPDATE")
SET_STATUS = sa.text("UPDATE ops.generations SET status = :status WHERE topic = :topic AND number = :generation")
TAKEN = sa.text("""
SELECT coalesce(max(number), 0) FROM (
  SELECT number FROM ops.generations WHERE topic = :topic
  UNION ALL SELECT generation FROM ops.views WHERE view = ANY(:views)) AS taken (number)
""")
FOREIGN_VIEW = sa.text("""
SELECT v.view, v.topic FROM ops.views v JOIN ops.generations g ON g.topic = v.topic AND g.number = v.generation
WHERE g.status = 'active' AND v.topic <> :topic AND v.view = ANY(:views) ORDER BY v.view LIMIT 1
""")


def active_generation(connection: Connection, topic: str) -> Generation | None:
    """The generation in force, or None for a topic that `watershed init` has not met."""
    return _generation(connection, topic, status="active")


def building_generation(connection: Connection, topic: str) -> Generation | None:
    """The newest generation that a rebuild is making, or None."""
    return _generation(connection, topic, status="building")


def generation_of(connection: Connection, topic: str, number: int) -> Generation | None:
    """One generation, whatever its status."""
    return _generation(connection, topic, number=number)


def status_of(connection: Connection, topic: str, number: int) -> str | None:
    """building, active or retired; None when there is no such generation."""
    return connection.execute(STATUS, {"topic": topic, "number": number}).scalar_one_or_none()


def refuse_retired(connection: Connection, generation: Generation) -> None:
    """Refused for a generation that was replaced, so that everybody who works on it stops."""
    status = status_of(connection, generation.topic, generation.number)
    if status not in ("active", "building"):
        raise Refused(
            f"generation {generation.number} of topic {generation.topic} is {status or 'not in this database'}: its definition"
            " was replaced by `watershed init --rebuild`; start this again with the views that are in force"
        )


def not_set_up(topic: str) -> Refused:
    """The error for a topic without an active generation, to be raised."""
    return Refused(f"topic {topic} is not set up in this database", repair="watershed init")


def definitions_of(connection: Connection, generation: Generation) -> dict[str, str]:
    """The recorded text of the definitions: '' -> the source's, view name -> the view's."""
    row = connection.execute(GENERATION, {"topic": generation.topic, "status": None, "number": generation.number}).one()
    key = {"topic": generation.topic, "number": generation.number}
    return {"": row.definition} | {v.view: v.definition for v in connection.execute(VIEWS, key)}


def free_number(connection: Connection, topic: str, views: Sequence[str]) -> int:
    """The next generation number of the topic, at which none of its views has tables, not even of another topic."""
    return int(connection.execute(TAKEN, {"topic": topic, "views": list(views)}).scalar_one()) + 1


def foreign_view(connection: Connection, topic: str, views: Sequence[str]) -> tuple[str, str] | None:
    """The first of these views that another topic's active generation has, and that topic."""
    found = connection.execute(FOREIGN_VIEW, {"topic": topic, "views": list(views)}).one_or_none()
    return None if found is None else (found.view, found.topic)


def lock_generations(connection: Connection, topic: str) -> None:
    """Until the end of the transaction no generation of the topic changes its status."""
    connection.execute(LOCK_GENERATIONS, {"topic": topic})


def set_generation_status(connection: Connection, generation: Generation, status: str) -> None:
    """active or retired. Who retires one fences its positions in the same transaction."""
    connection.execute(SET_STATUS, {**key_of(generation), "status": status})


def _generation(
    connection: Connection, topic: str, *, status: str | None = None, number: int | None = None
) -> Generation | None:
    row = connection.execute(GENERATION, {"topic": topic, "status": status, "number": number}).one_or_none()
    if row is None:
        return None
    views = {v.view: v.fingerprint for v in connection.execute(VIEWS, {"topic": topic, "number": row.number})}
    return Generation(topic, row.number, row.topic_id, tuple(row.starts), row.source_fingerprint, views)
