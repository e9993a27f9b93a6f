"""The event that a record's value holds, whatever its format: a function from a column to its value there, or null.

read(column) = the value in the column's own form, None where it is null or missing, TOO_FINE; Invalid with the reason
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

from pipeline.definition.debezium import Debezium
from pipeline.definition.formats import Avro, Format, Json, Protobuf
from pipeline.definition.paths import Path
from pipeline.definition.protobuf_schema import Message, MessageTypes, NoSchema, read, types_of
from pipeline.definition.record import Column
from pipeline.plain.avro_body import Body, Value
from pipeline.plain.avro_body import at as avro_at
from pipeline.plain.avro_schema import Resolved, resolved
from pipeline.plain.debezium import Encoded, Envelope, field_at, json_envelope
from pipeline.plain.json_text import TWICE, Invalid, decode
from pipeline.plain.protobuf import Wanted, fields_of, wanted_of
from pipeline.plain.protobuf import unframed as message_of

MOST_ID = 2**31 - 1


class Written(Protocol):
    """A writer's schema, as a registry has it: kind "AVRO", "JSON" or "PROTOBUF", text, and (name, text) of those it uses."""

    @property
    def kind(self) -> str: ...

    @property
    def text(self) -> str: ...

    @property
    def references(self) -> tuple[tuple[str, str], ...]: ...


class Registry(Protocol):
    """Schemas by id; None for an id that nobody gave out."""

    def schema(self, id: int) -> Written | None: ...


class NoRegistry:
    """Registry of those who use none."""

    def schema(self, id: int) -> Written | None:
        """None, whatever is asked."""
        return None


NO_REGISTRY = NoRegistry()


def event(value: bytes, format: Format, registry: Registry = NO_REGISTRY, columns: Sequence[Column] = ()) -> Any:
    """The event that a record's value holds: an object as JSON has it, or a Value of Avro. Raises Invalid.

    Of a Protobuf message it has what these columns name.
    """
    match format:
        case Json(framed=framed):
            return decode(_unframed(value)[1] if framed else value)
        case Avro(schema=None):
            id, body = _unframed(value)
            return Body(body).whole(_writer(id, registry))
        case Avro(schema=text):
            if value == b"":
                raise Invalid("empty value")
            return Body(value).whole(_resolved(str(text), ()))
        case Debezium(inner=Json(framed=False)):
            return json_envelope(value)
        case Debezium(inner=inner):
            return Envelope(event(value, inner, registry, columns), None, isinstance(inner, Avro))
        case Protobuf(schema=None):
            id, indexes, rest = message_of(value)
            found = _message(id, indexes, format.message, tuple(columns), registry)
            if isinstance(found, str):
                raise Invalid(found)
            return fields_of(rest, *found)
        case Protobuf(schema=bytes(held)):
            types = read(held)
            message = types.named(format.message)
            return fields_of(value, types, message, wanted_of(types, message, columns))
    raise TypeError(f"the reference has no rule for {format}")


def _message(
    id: int, indexes: tuple[int, ...], name: str | None, columns: tuple[Column, ...], registry: Registry
) -> tuple[MessageTypes, Message, list[Wanted]] | str:
    """The message that an id and indexes stand for, or why they stand for nothing."""
    schema = registry.schema(id)
    if schema is None or schema.kind != "PROTOBUF":
        return f"schema id {id} is no Protobuf schema"
    return _bound(id, schema.text, schema.references, indexes, name, columns)


@lru_cache(maxsize=256)
def _bound(
    id: int, text: str, references: Any, indexes: tuple[int, ...], name: str | None, columns: tuple[Column, ...]
) -> tuple[MessageTypes, Message, list[Wanted]] | str:
    try:
        types = types_of(text, references)
        message = types.at(indexes)
        if name is not None and message.name != name:
            return f"message {message.name}, where {name} is declared"
        return types, message, wanted_of(types, message, columns)
    except NoSchema as reason:
        return f"schema id {id}: {reason}"


def at(found: Any, path: Path) -> Any:
    """The value that the path leads to, None where it ends early. Raises Invalid where it leads through something else."""
    if isinstance(found, Envelope):
        value = at(found.found, ("after", *path))
        if value is None or found.avro:
            return value
        return Encoded(value, None if found.schema is None else field_at(found.schema, ("after", *path)))
    if isinstance(found, Value):
        return avro_at(found, path)
    for part in path:
        if found is None:
            return None
        if isinstance(part, str):
            if not isinstance(found, dict):
                raise Invalid(f"no object, but {part!r} is declared in it")
            found = found.get(part)
        else:
            if not isinstance(found, list):
                raise Invalid(f"no array, but its element {part} is declared")
            found = found[part] if len(found) > part else None
        if found is TWICE:
            raise Invalid(f"{part!r} is given twice")
    return found


def _unframed(value: bytes) -> tuple[int, bytes]:
    """(schema id, what stands behind it)."""
    if value[:1] != b"\0" or len(value) < 5:
        raise Invalid("no magic byte 0 and schema id before the event")
    id = int.from_bytes(value[1:5], "big")
    if id == 0 or id > MOST_ID:
        raise Invalid(f"schema id {id}")
    return id, value[5:]


def _writer(id: int, registry: Registry) -> Resolved:
    found = registry.schema(id)
    if found is None:
        raise Invalid(f"schema id {id} is unknown")
    if found.kind != "AVRO":
        raise Invalid(f"schema id {id} is of kind {found.kind}")
    return _resolved(found.text, found.references)


@lru_cache(maxsize=256)
def _resolved(text: str, references: tuple[tuple[str, str], ...]) -> Resolved:
    return resolved(text, references)
