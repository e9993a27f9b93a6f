"""ops.visible: which batch of a generation answers, and the one that a rollback would go back to.

    previous is null  <=>  nothing can be rolled back: no publish yet, a rollback just now, or a purge gave it up

Its row is the first that publish, rollback and a refold's replace lock: who holds it has the generation's pointer.
"""

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.handover import Generation
from serving.ops.keys import key_of

VISIBLE = sa.text("SELECT number FROM ops.visible WHERE topic = :topic AND generation = :generation")
LOCK_VISIBLE = sa.text("""
SELECT number, previous FROM ops.visible WHERE topic = :topic AND generation = :generation FOR NO KEY UPDATE
""")
POINT = sa.text("""
UPDATE ops.visible SET previous = number, number = :number WHERE topic = :topic AND generation = :generation
""")
POINT_BACK = sa.text("""
UPDATE ops.visible SET number = previous, previous = NULL WHERE topic = :topic AND generation = :generation
""")
GIVE_UP_ROLLBACK = sa.text("""
UPDATE ops.visible SET previous = NULL WHERE topic = :topic AND generation = :generation AND previous < :keep
""")


class Visible(NamedTuple):
    """The numbers of the visible batch and of the one before it."""

    number: int
    previous: int | None


def visible_number(connection: Connection, generation: Generation) -> int:
    """The number of the visible batch, as of now."""
    return int(connection.execute(VISIBLE, key_of(generation)).scalar_one())


def lock_visible(connection: Connection, generation: Generation) -> Visible:
    """Until the end of the transaction nobody else moves the pointer."""
    row = connection.execute(LOCK_VISIBLE, key_of(generation)).one()
    return Visible(row.number, row.previous)


def point_to(connection: Connection, generation: Generation, number: int) -> None:
    """Batch `number` answers; the one before can come back."""
    connection.execute(POINT, {**key_of(generation), "number": number})


def point_back(connection: Connection, generation: Generation) -> None:
    """The one before answers again, and none can come back."""
    connection.execute(POINT_BACK, key_of(generation))


def give_up_rollback(connection: Connection, generation: Generation, keep: int) -> None:
    """A batch below number `keep` cannot come back."""
    connection.execute(GIVE_UP_ROLLBACK, {**key_of(generation), "keep": keep})
