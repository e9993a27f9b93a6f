"""Formats: the way in which a record's value holds its event. A format is part of what a source is.

decode(source, records) = decode(source, one record after the other), whatever the format
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.declared import Declared, users_file
from pipeline.base.errors import DefinitionError
from pipeline.definition import avro
from pipeline.definition.avro_columns import misfits
from pipeline.definition.record import Column, in_event


class Format(metaclass=Declared):
    """A way in which a record's value holds its event. Its repr stands in the fingerprint, but for Json(), the default."""

    def check(self, columns: Sequence[Column], explode: str | None, what: str) -> None:
        """Raise DefinitionError, which begins with `what`, when no event of this format can have one of the columns."""

    @property
    def kernels(self) -> tuple[str, ...]:
        """The modules of compiled loops that decode it, besides those that every source needs."""
        return ()

    @property
    def registered(self) -> bool:
        """True when records name their schema by the id that a registry gave it."""
        return False


@dataclass(frozen=True)
class Json(Format):
    """One JSON object, read strictly: RFC 8259, UTF-8, at most 64 levels.

    `framed=True`: the registry's magic byte and schema id stand before it, as serializers of JSON Schema write; the id is not looked up.
    """

    framed: bool = False

    def __post_init__(self) -> None:
        if type(self.framed) is not bool:
            raise DefinitionError(f"Json(framed={self.framed!r}): allowed are True and False")

    def __repr__(self) -> str:
        return "Json(framed=True)" if self.framed else "Json()"


@dataclass(frozen=True)
class Avro(Format):
    """One Avro record, in the registry's framing: a magic byte, the id of its writer's schema, its body.

    With `schema`, bodies alone, without any framing, all written by that one schema: the path of an .avsc file, relative to the file that
    says so, or the schema's own JSON text. What it becomes is that text, so a file that changes is a definition that changed.
    What the registry did not know when it was asked stays unknown for this definition: raise `asked`, and it is asked anew.
    The usual mistake: to give the schema of records that are framed; without it, each record's own is taken from the registry.
    """

    schema: str | Path | None = None
    asked: int = 1

    def __post_init__(self) -> None:
        given = self.schema
        if type(self.asked) is not int or self.asked < 1:
            raise DefinitionError(f"Avro(asked={self.asked!r}): allowed is a number from 1 on")
        if given is None:
            return
        if not isinstance(given, str | Path):
            raise DefinitionError(
                f"Avro(schema={given!r}): allowed are the path of an .avsc file and a schema's JSON text"
            )
        try:
            text = given if isinstance(given, str) and given.lstrip()[:1] in ("{", "[", '"') else _read(given)
            object.__setattr__(self, "schema", avro.canonical(text))
        except avro.SchemaError as error:
            raise DefinitionError(f"Avro(schema=...): {error}") from None
        except OSError as error:
            raise DefinitionError(f"Avro(schema={str(given)!r}) cannot be read: {error.strerror or error}") from None

    @property
    def kernels(self) -> tuple[str, ...]:
        return ("avro",)

    @property
    def registered(self) -> bool:
        return self.schema is None

    @property
    def text(self) -> str | None:
        """The schema's text, None where each record names its own."""
        return None if self.schema is None else str(self.schema)

    def check(self, columns: Sequence[Column], explode: str | None, what: str) -> None:
        """Hold the columns to the schema that all events have, where there is one."""
        if explode is not None:
            raise DefinitionError(f"{what}: explode={explode!r} with {type(self).__name__}(); it is for Json()")
        if self.text is not None:
            found = misfits(avro.parse(self.text), in_event(columns))
            if found:
                raise DefinitionError(f"{what}: {found[0]}")


def _read(path: str | Path) -> str:
    """Text of a file whose path is relative to the user's module that names it."""
    return (Path(users_file() or "x").parent / Path(path).expanduser()).read_text()
