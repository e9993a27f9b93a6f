"""Debezium's envelopes: which of a changelog's records have an image of a row, and how Kafka Connect writes the values in it.

{"op": "c" | "r" | "u", "after": {...}}  ->  the event is `after`        {"op": "d" | "t" | "m"}  ->  no event: a tombstone
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.base.errors import DefinitionError
from pipeline.base.types import ColumnType
from pipeline.definition.formats import Avro, Format, Json
from pipeline.definition.record import Column, in_event

AFTER, OP = "after", "op"
IMAGES = ("c", "r", "u")  # create, read (of a snapshot), update
WITHOUT = ("d", "t", "m")  # delete, truncate, message


@dataclass(frozen=True)
class Debezium(Format):
    """Change events of a database, as Debezium writes them; `inner` is how: Json() (with or without Kafka Connect's schema) or Avro().

    `rows="after"`: each new image of a row (op c, r and u) is an event, and columns' paths begin in it. What has none (deletions,
    truncations, messages, and Kafka's own tombstones) is skipped, and counted as tombstones. So an aggregate counts changes, not rows.
    The usual mistake: to sum a column of a table so, which counts a row again at each update.
    """

    inner: Format
    rows: str = AFTER
    version: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Json | Avro):
            raise DefinitionError(f"Debezium({self.inner!r}): allowed are Json() and Avro()")
        if self.rows == "latest":
            raise DefinitionError(
                'Debezium(rows="latest"): the newest row of each key is not there yet; it comes with views of latest rows.'
                ' Allowed is rows="after", where each new image is an event'
            )
        if self.rows != AFTER:
            raise DefinitionError(f'Debezium(rows={self.rows!r}): allowed is "after"')
        if self.version is not None:
            raise DefinitionError(
                f'Debezium(version={self.version!r}): a version orders the rows of rows="latest", and rows="after" has none'
            )

    @property
    def kernels(self) -> tuple[str, ...]:
        return ("avro",) if isinstance(self.inner, Avro) else ("avro", "tokens")

    @property
    def registered(self) -> bool:
        return self.inner.registered

    def check(self, columns: Sequence[Column], explode: str | None, what: str) -> None:
        """Hold the columns to what `after` can have."""
        if explode is not None:
            raise DefinitionError(f"{what}: explode={explode!r} with Debezium(); it is for Json()")
        op = Column("op", ColumnType("str"), False, at=(OP,))
        self.inner.check([op, *(replace(c, at=(AFTER, *c.path)) for c in in_event(columns))], None, what)
