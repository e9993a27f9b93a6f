"""Reading of a record by its source's format, as the reference does: bytes in, a value for each column out.

reader(source)(value) = the record's columns, constraints kept or mended; or Invalid
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from pipeline.definition.formats import Json, Protobuf
from pipeline.definition.protobuf_schema import Message, MessageTypes, NoSchema, read, types_of
from pipeline.definition.record import in_event
from pipeline.definition.source import Source
from pipeline.plain.json_text import Invalid
from pipeline.plain.protobuf import Wanted, fields_of, unframed, wanted_of
from pipeline.plain.validation import record_from, record_of

Read = Callable[[bytes], dict[str, Any]]


def reader(source: Source, schemas: Any = None) -> Read:
    """The reading of a source's records; `schemas` has what `schema(id)` gives, for formats whose records name theirs by id."""
    match source.format:
        case Json():
            return lambda value: record_of(value, source.columns)
        case Protobuf():
            return _protobuf(source, source.format, schemas)
    raise TypeError(f"the reference has no rule for {source.format}")


def _protobuf(source: Source, form: Protobuf, schemas: Any) -> Read:
    columns = in_event(source.columns)
    if isinstance(form.schema, bytes):
        types = read(form.schema)
        message = types.named(form.message)
        wanted = wanted_of(types, message, columns)
        return lambda value: record_from(fields_of(value, types, message, wanted), source.columns)

    @cache
    def known(id: int, indexes: tuple[int, ...]) -> str | tuple[MessageTypes, Message, list[Wanted]]:
        """The message that an id and indexes stand for, or why they stand for nothing."""
        schema = schemas.schema(id) if schemas is not None else None
        if schema is None or schema.kind != "PROTOBUF":
            return f"schema id {id} is no Protobuf schema"
        try:
            types = types_of(schema.text, schema.references)
            message = types.at(indexes)
            if form.message is not None and message.name != form.message:
                return f"message {message.name}, where {form.message} is declared"
            return types, message, wanted_of(types, message, columns)
        except NoSchema as reason:
            return f"schema id {id}: {reason}"

    def framed(value: bytes) -> dict[str, Any]:
        id, indexes, rest = unframed(value)
        found = known(id, indexes)
        if isinstance(found, str):
            raise Invalid(found)
        return record_from(fields_of(rest, *found), source.columns)

    return framed
