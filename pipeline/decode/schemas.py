"""Schemas by the ids that stand in records, as a registry gives them out.

schema(id) is the same for ever, also where it is None: otherwise f would depend on when it was asked
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Schema:
    """A writer's schema: `kind` "AVRO", "PROTOBUF" or "JSON", its text, and the texts that it refers to, by the names it has for them."""

    kind: str
    text: str
    references: tuple[tuple[str, str], ...] = ()


class Schemas(Protocol):
    """Schemas by id."""

    def schema(self, id: int) -> Schema | None:
        """The schema of an id; None for an id that nobody gave out, which is decided once and stays. It may wait for a registry."""


class NoSchemas:
    """No registry: for formats whose records name no schema."""

    def schema(self, id: int) -> Schema | None:
        """None, whatever is asked."""
        return None
