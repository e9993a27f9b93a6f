"""Formats: the way in which a record's value holds its event. A format is part of what a source is.

decode(source, records) = decode(source, one record after the other), whatever the format
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.declared import Declared, users_file
from pipeline.base.errors import DefinitionError
from pipeline.definition import avro
from pipeline.definition.avro_columns import misfits
from pipeline.definition.record import Column, in_event


class Format(metaclass=Declared):
    """A way in which a record's value holds its event. Its canonical form stands in the fingerprint, but for Json(), the default."""

    def check(self, columns: Sequence[Column], explode: str | None, what: str) -> None:
        """Raise DefinitionError, which begins with `what`, when no event of this format can have one of the columns."""

    def canonical(self, columns: Sequence[Column]) -> str:
        """The format in a fingerprint: equal for two that read these columns alike from every record."""
        return repr(self)

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


@dataclass(frozen=True, repr=False)
class Protobuf(Format):
    """A Protobuf message, in a schema registry's framing, or bare where `schema` says what it is. It needs the extra [protobuf].

    `message`: its full name, as "shop.Payment". In the framing (magic byte 0, the schema's id in four bytes, message indexes) a record's
    indexes must lead to it; without it any message is read by the names of its fields. `schema`: the path of a .proto (beside the module
    that declares it, or from the working directory; imports beside it, or in the folders above) or of a serialized FileDescriptorSet, or
    a .proto's text; without `message` its only one. What the registry did not know when it was asked stays unknown for this definition:
    raise `asked`, and it is asked anew. The usual mistake: `schema=` for a topic whose producer uses a registry; the frame
    is then read as the message's first bytes, and nearly every record is rejected.
    """

    message: str | None = None
    schema: str | bytes | None = None
    asked: int = 1

    def __post_init__(self) -> None:
        if type(self.asked) is not int or self.asked < 1:
            raise DefinitionError(f"Protobuf(asked={self.asked!r}): allowed is a number from 1 on")
        if self.message is not None and (not isinstance(self.message, str) or not self.message):
            raise DefinitionError(f'Protobuf: message={self.message!r}; allowed is a full name, as "shop.Payment"')
        if self.schema is None:
            return
        from pipeline.definition.protobuf_schema import NoSchema, descriptors_of, read

        if not isinstance(self.schema, str | bytes | Path):
            raise DefinitionError(f"Protobuf: schema={self.schema!r}; allowed is the path or text of a .proto")
        held = descriptors_of(self.schema, _folder())
        object.__setattr__(self, "schema", held)  # what it meant when it was declared, wherever it is carried to
        try:
            found = read(held).named(self.message)
        except NoSchema as error:
            raise DefinitionError(f"Protobuf: {error}") from None
        object.__setattr__(self, "message", found.name)

    def __repr__(self) -> str:
        if self.schema is None:
            return f"Protobuf(message={self.message!r}{'' if self.asked == 1 else f', asked={self.asked}'})"
        held = self.schema if isinstance(self.schema, bytes) else self.schema.encode()
        return f"Protobuf(message={self.message!r}, schema={hashlib.sha256(held).hexdigest()[:12]})"

    @property
    def kernels(self) -> tuple[str, ...]:
        return ("protobuf",)

    @property
    def registered(self) -> bool:
        return self.schema is None

    def check(self, columns: Sequence[Column], explode: str | None, what: str) -> None:
        if explode is not None:
            raise DefinitionError(f"{what}: explode is not for Protobuf; allowed is one element, as At('items[0].sku')")
        if self.schema is not None:
            self._bound_lines(columns, what)

    def canonical(self, columns: Sequence[Column]) -> str:
        """Without a schema its repr: each record names its own. With one, what it gives these columns, however it is written."""
        if self.schema is None:
            return repr(self)
        told = "\n".join(self._bound_lines(columns, "Protobuf"))
        return f"Protobuf(bare, {hashlib.sha256(told.encode()).hexdigest()[:16]})"

    def _bound_lines(self, columns: Sequence[Column], what: str) -> list[str]:
        from pipeline.definition.protobuf_binding import bind, canonical
        from pipeline.definition.protobuf_schema import NoSchema, read

        assert isinstance(self.schema, bytes)
        try:
            return list(canonical(bind(read(self.schema).named(self.message), in_event(columns), whole=True)))
        except NoSchema as error:
            raise DefinitionError(f"{what}: {error}") from None


def _folder() -> Path:
    """The folder of the user's module that is being read; the working directory in a console."""
    file = users_file()
    return (Path.cwd() / file).parent if file else Path.cwd()
