"""How the reference reads a record, by its source's format: bytes in, a value for each column out.

reader(source)(value) = the record's columns, constraints kept or mended; or Invalid
"""

from collections.abc import Callable
from typing import Any

from pipeline.definition.formats import Json, Protobuf
from pipeline.definition.protobuf_schema import NoSchema, types_of
from pipeline.definition.record import in_event
from pipeline.definition.source import Source
from pipeline.plain.json_text import Invalid
from pipeline.plain.protobuf import fields_of, of_bare, unframed
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

    def bare(value: bytes) -> dict[str, Any]:
        assert isinstance(form.schema, bytes)
        types, message = of_bare(form.schema, form.message)
        return record_from(fields_of(value, types, message, columns), source.columns)

    def framed(value: bytes) -> dict[str, Any]:
        id, indexes, rest = unframed(value)
        schema = schemas.schema(id) if schemas is not None else None
        if schema is None or schema.kind != "PROTOBUF":
            raise Invalid(f"schema id {id} is no Protobuf schema")
        try:
            types = types_of(schema.text, schema.references)
            message = types.at(indexes)
        except NoSchema as reason:
            raise Invalid(f"schema id {id}: {reason}") from None
        if form.message is not None and message.name != form.message:
            raise Invalid(f"message {message.name}, where {form.message} is declared")
        return record_from(fields_of(rest, types, message, columns), source.columns)

    return bare if form.schema is not None else framed
