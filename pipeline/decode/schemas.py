"""Schemas by the ids that stand in records, as a registry gives them out.

schema(id) is the same for ever, also where it is None: otherwise f would depend on when it was asked
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pipeline.definition.source import Source


@dataclass(frozen=True)
class Schema:
    """A writer's schema: `kind` "AVRO", "PROTOBUF" or "JSON", its text, and the texts that it refers to, by the names it has for them.

    Of `references` each stands behind those that it uses itself.
    """

    kind: str
    text: str
    references: tuple[tuple[str, str], ...] = ()


class Schemas(Protocol):
    """Schemas by id."""

    def schema(self, id: int) -> Schema | None:
        """The schema of an id; None for an id that nobody gave out, which is decided once and stays. It may wait for a registry."""

    def knows(self, id: int) -> bool:
        """True when schema(id) answers at once, from memory."""


SchemasOf = Callable[[Source], Schemas]  # of a source: what an id is depends on its definition


class NoSchemas:
    """No registry: for formats whose records name no schema."""

    def schema(self, id: int) -> Schema | None:
        """None, whatever is asked."""
        return None

    def knows(self, id: int) -> bool:
        """True: nothing is asked."""
        return True


NO_SCHEMAS = NoSchemas()


def no_schemas(source: Source) -> Schemas:
    """The schemas of a source whose records name none."""
    return NO_SCHEMAS
