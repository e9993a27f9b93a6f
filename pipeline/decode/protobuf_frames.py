"""The message type of a record: by its frame and the registry's schemas, or by the source's own schema.

bound(source, schema, indexes) is the same for ever: schemas are immutable, and so is what is wrong with one
"""

from collections.abc import Sequence
from functools import lru_cache

from pipeline.decode.schemas import Schema, Schemas
from pipeline.decode.values import Broken
from pipeline.definition.formats import Protobuf
from pipeline.definition.protobuf_binding import Bound, bind
from pipeline.definition.protobuf_schema import NoSchema, read, types_of
from pipeline.definition.record import columns, in_event
from pipeline.definition.source import Source

MAGIC, ID_END = 0, 5


def format_of(source: Source) -> Protobuf:
    """The source's format, which is Protobuf."""
    assert isinstance(source.format, Protobuf)
    return source.format


def bare(source: Source) -> Bound:
    """The message of every record of a source that has a schema."""
    form = format_of(source)
    assert isinstance(form.schema, bytes)
    return _bare(source.record, form.schema, form.message)


@lru_cache(maxsize=64)
def _bare(record: type, descriptors: bytes, message: str | None) -> Bound:
    return bind(read(descriptors).named(message), in_event(columns(record)), whole=True)


def framed(source: Source, id: int, indexes: Sequence[int], schemas: Schemas) -> Bound | str:
    """The message that a frame names, or the reason for which its records are rejected."""
    schema = schemas.schema(id)
    if schema is None:
        return f"schema id {id}: no registry gave it out"
    if schema.kind != "PROTOBUF":
        return f"schema id {id} is {schema.kind}, where Protobuf is declared"
    found = _framed(source.record, format_of(source).message, schema, tuple(indexes))
    return found if isinstance(found, Bound) else f"schema id {id}: {found}"


@lru_cache(maxsize=256)
def _framed(record: type, message: str | None, schema: Schema, indexes: tuple[int, ...]) -> Bound | str:
    try:
        found = types_of(schema.text, schema.references).at(indexes)
        if message is not None and found.name != message:
            return f"message {found.name}, where {message} is declared"
        return bind(found, in_event(columns(record)))
    except NoSchema as reason:
        return str(reason)


def frame(value: bytes) -> tuple[int, list[int], int]:
    """(schema id, message indexes, where the message begins) of a record; Broken where it has no frame."""
    if not value:
        raise Broken("empty value")
    if value[0] != MAGIC:
        raise Broken(f"first byte {value[0]}, where a registry's frame has the magic byte 0")
    if len(value) < ID_END + 1:
        raise Broken(f"{len(value)} bytes, cut off inside of a registry's frame")
    id = int.from_bytes(value[1:ID_END], "big")
    if id == 0:
        raise Broken("schema id 0, which no registry gives out")
    count, at = _index(value, ID_END)
    if count < 0:
        raise Broken(f"{count} message indexes")
    indexes = []
    for _ in range(min(count, len(value))):
        index, at = _index(value, at)
        indexes.append(index)
    if count > len(indexes):
        raise Broken(f"{count} message indexes, cut off")
    return id, indexes or [0], at


def key_of(indexes: bytes) -> list[int]:
    """The message indexes of the bytes that a frame has for them."""
    return frame(b"\0\0\0\0\1" + indexes)[1]


def _index(value: bytes, at: int) -> tuple[int, int]:
    """(a zigzag varint, where it ends)."""
    found = 0
    for place in range(10):
        if at + place >= len(value):
            raise Broken("message indexes that are cut off")
        byte = value[at + place]
        found |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            if found >> 64:
                break
            return found >> 1 ^ -(found & 1), at + place + 1
    raise Broken("a message index of more than 64 bits")
