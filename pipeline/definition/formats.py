"""Formats: the way in which a record's value holds its event. A format is part of what a source is.

decode(source, records) = decode(source, one record after the other), whatever the format
"""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path as File
from types import FrameType

from pipeline.base.declared import Declared, innermost
from pipeline.base.errors import DefinitionError
from pipeline.definition.paths import Path
from pipeline.definition.record import Column, in_event


class Format(metaclass=Declared):
    """A way in which a record's value holds its event. Its canonical form stands in the fingerprint, but for Json(), the default."""

    def check(self, columns: Sequence[Column], exploded: Path, what: str) -> None:
        """Raise DefinitionError, which begins with `what`, when these columns cannot be read from events of that format."""

    def canonical(self, columns: Sequence[Column]) -> str:
        """The format in a fingerprint: equal for two that read these columns alike from every record."""
        return repr(self)


@dataclass(frozen=True)
class Json(Format):
    """One JSON object, read strictly: RFC 8259, UTF-8, at most 64 levels."""


@dataclass(frozen=True, repr=False)
class Protobuf(Format):
    """A Protobuf message, in a schema registry's framing, or bare where `schema` says what it is. It needs the extra [protobuf].

    `message`: its full name, as "shop.Payment". In the framing (magic byte 0, the schema's id in four bytes, message indexes) a record's
    indexes must lead to it; without it any message is read by the names of its fields. `schema`: the path of a .proto (beside the module
    that declares it, or from the working directory; imports beside it, or in the folders above) or of a serialized FileDescriptorSet, or
    a .proto's text; without `message` its only one. The usual mistake: `schema=` for a topic whose producer uses a registry; the frame
    is then read as the message's first bytes, and nearly every record is rejected.
    """

    message: str | None = None
    schema: str | bytes | None = None

    def __post_init__(self) -> None:
        if self.message is not None and (not isinstance(self.message, str) or not self.message):
            raise DefinitionError(f'Protobuf: message={self.message!r}; allowed is a full name, as "shop.Payment"')
        if self.schema is None:
            return
        from pipeline.definition.protobuf_schema import NoSchema, descriptors_of, read

        if not isinstance(self.schema, str | bytes | File):
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
            return f"Protobuf(message={self.message!r})"
        held = self.schema if isinstance(self.schema, bytes) else self.schema.encode()
        return f"Protobuf(message={self.message!r}, schema={hashlib.sha256(held).hexdigest()[:12]})"

    def check(self, columns: Sequence[Column], exploded: Path, what: str) -> None:
        if exploded:
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


def _folder() -> File:
    """The folder of the module that declares the format; the working directory where it has none, as in a console."""
    frame: FrameType | None = sys._getframe(1)
    frames = []
    while frame is not None:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    file = (innermost(frames) or "").rpartition(":")[0]
    return (File.cwd() / file).parent if file and not file.startswith("line ") else File.cwd()


__all__ = ["Format", "Json", "Protobuf"]
