"""Formats of a sample, read for a profile: what a record's value holds, as JSON would have it, and what a module says of the format.

    read(value) = an event of dict, list, str, Number, bool, bytes and None        None: a record without an event; BrokenEvent: no event

A value that a schema types shows it by its form: a time as ISO 8601, a decimal with a point, a double with an exponent, so that no Decimal
is drafted from it. Whole values are read here, declared or not, by the readers of the reference.
"""

import base64
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import isfinite
from typing import Any

from ingestion.profile import BrokenEvent, Number, read_json
from ingestion.sample import Sample
from pipeline.base.types import ColumnType
from pipeline.decode.schemas import NO_SCHEMAS, Schemas
from pipeline.definition.debezium import IMAGES, WITHOUT
from pipeline.definition.formats import Avro, Protobuf
from pipeline.definition.protobuf_schema import Field, Message, read
from pipeline.definition.record import Column
from pipeline.plain import json_text, protobuf
from pipeline.plain.avro_body import Body, Value
from pipeline.plain.avro_schema import Resolved, resolved
from pipeline.plain.debezium import DATES, MOMENTS, NoImage, field_at, json_envelope
from pipeline.plain.formats import event as event_of
from pipeline.plain.json_text import Invalid

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9, "millis": 10**3, "micros": 10**6, "nanos": 10**9}
NEARLY_ALL = 0.9
LEVELS = 8  # of messages inside of messages that are looked into
DECIMAL = "org.apache.kafka.connect.data.Decimal"
KINDS = {"float": "float", "double": "float", "bool": "bool", "string": "str", "enum": "str", "bytes": "bytes"}


@dataclass(frozen=True)
class Form:
    """A format of events. `names` are what `declared`, its argument in the module, imports; "" for JSON, which needs none.

    `changes`: events are changes of rows, so that no column of a row is an event's identity.
    """

    read: Callable[[bytes], dict[str, Any] | None] = read_json
    declared: str = ""
    names: tuple[str, ...] = ()
    changes: bool = False
    schemas: Schemas = NO_SCHEMAS


JSON = Form()


# --- Debezium ----------------------------------------------------------------------------------------------------------------


def recognised(sample: Sample) -> Form:
    """Debezium's form where nearly all events of a sample of JSON that can be read are envelopes of it; else plain JSON."""
    events = envelopes = 0
    for _, _, value, _ in sample.values():
        if value is None:
            continue
        try:
            found = read_json(value)
        except BrokenEvent:
            continue
        inside = found.get("payload") if {"schema", "payload"} == set(found) else found
        if inside is not None:
            events += 1
            envelopes += isinstance(inside, dict) and _is_envelope(inside)
    if not events or envelopes < NEARLY_ALL * events:
        return JSON
    return Form(_image, "Debezium(Json())", ("Debezium", "Json"), changes=True)


def _is_envelope(event: dict[str, Any]) -> bool:
    rows = [event[name] for name in ("before", "after") if name in event]
    return (
        type(event.get("op")) is str  # a Number is one too
        and isinstance(event.get("source"), dict)
        and bool(rows)
        and all(row is None or isinstance(row, dict) for row in rows)
    )


def _image(value: bytes) -> dict[str, Any] | None:
    """The new image in an envelope, with what its schema says of values; None where it has none."""
    try:
        envelope = json_envelope(value)
    except NoImage:
        return None
    except Invalid as invalid:
        raise BrokenEvent(str(invalid)) from None
    op, after = envelope.found.get("op"), envelope.found.get("after")
    if op in WITHOUT:
        return None
    if op not in IMAGES or not isinstance(after, dict):
        raise BrokenEvent("it is no change event of Debezium with a new image")
    schema = {} if envelope.schema is None else field_at(envelope.schema, ("after",))
    return {name: _connect(one, field_at(schema, (name,))) for name, one in after.items()}


def _connect(value: Any, field: dict[str, Any]) -> Any:
    """A JSON value by the field of Kafka Connect's schema that is its own."""
    name = str(field.get("name"))
    if isinstance(value, json_text.Number):
        if name in MOMENTS or name in DATES:
            whole = Decimal(value.text)
            return _day(whole) if name in DATES else _moment(Fraction(whole), MOMENTS[name])
        real = field.get("type") in ("float", "double", "float32", "float64")
        return _real(float(value.text)) if real else Number(value.text)
    if isinstance(value, str) and name == DECIMAL:
        try:
            scale = int(str((field.get("parameters") or {}).get("scale", 0)))
            return _decimal(base64.b64decode(value, validate=True), scale)
        except ValueError:
            raise BrokenEvent("a decimal that is no base64") from None
    if isinstance(value, dict):
        return {key: _connect(one, field_at(field, (key,))) for key, one in value.items()}
    if isinstance(value, list):
        return [_connect(one, {}) for one in value]
    if value is json_text.TWICE:
        raise BrokenEvent("a name stands twice in one object")
    return value


# --- Avro --------------------------------------------------------------------------------------------------------------------


def avro(shown: str, format: Avro, schemas: Schemas) -> Form:
    """Avro by a schema, which the module names as `shown`, or in the registry's framing, whose schemas are given."""

    def read_value(value: bytes) -> dict[str, Any] | None:
        try:
            found = _whole(value, format, schemas)
        except Invalid as invalid:
            raise BrokenEvent(str(invalid)) from None
        event = _of_avro(found)
        if not isinstance(event, dict):
            raise BrokenEvent("it is no record of Avro")
        return event

    return Form(read_value, f"Avro({shown})", ("Avro",), schemas=schemas)


def _whole(value: bytes, format: Avro, schemas: Schemas) -> Value:
    if format.text is None:
        found: Value = event_of(value, format, registry=schemas)
        return found
    return Body(value).whole(_resolved(format.text))


@lru_cache(maxsize=16)
def _resolved(text: str) -> Resolved:
    return resolved(text)


def _of_avro(value: Value) -> Any:
    kind, logical, held = value.type["kind"], value.type.get("logical", ""), value.held
    if kind == "record":
        return {name: _of_avro(one) for name, one in held.items()}
    if kind == "map":
        return {_text(key): _of_avro(one) for key, one in held}
    if kind == "array":
        return [None] * min(sum(many for many, _ in held), 10**6)  # no more than how many there are is asked of one
    if kind in ("int", "long"):
        if logical.startswith("timestamp-"):
            return _moment(Fraction(held), logical.rpartition("-")[2])
        return _day(Decimal(held)) if logical == "date" else Number(held)
    if kind == "enum":
        if held not in range(len(value.type["symbols"])):
            raise BrokenEvent("a symbol that its enumeration does not have")
        return value.type["symbols"][held]
    if kind in ("float", "double"):
        return _real(*struct.unpack("<f" if kind == "float" else "<d", held))
    if kind == "boolean":
        return held == b"\1"
    if logical == "decimal":
        return _decimal(held, value.type["scale"])
    if kind == "fixed" and logical == "uuid":
        return str(uuid.UUID(bytes=held))
    return _text(held) if kind == "string" else held


# --- Protobuf ----------------------------------------------------------------------------------------------------------------


def message(shown: str, format: Protobuf) -> Form:
    """Bare messages of one type, whose schema the module names as `shown`."""
    assert isinstance(format.schema, bytes)
    types = read(format.schema)
    its = types.named(format.message)
    wanted = [(column.path, column) for column in _columns(its, (), ())]

    def read_value(value: bytes) -> dict[str, Any] | None:
        try:
            return _of_message(protobuf.fields_of(value, types, its, wanted), its)
        except Invalid as invalid:
            raise BrokenEvent(str(invalid)) from None

    return Form(read_value, f'Protobuf("{its.name}", schema={shown})', ("Protobuf",))


def _columns(its: Message, above: tuple[str | int, ...], inside: tuple[str, ...]) -> list[Column]:
    """A column for each scalar in a message; of what is repeated for the first element, which shows how many there are."""
    found: list[Column] = []
    for field in its.fields:
        path = (*above, field.name, *((0,) if field.repeated else ()))
        if field.is_map or field.type == "group":
            continue
        kind = _kind(field)
        if kind:
            found.append(Column(field.name, ColumnType(kind), True, at=path))
        elif field.message not in inside and len(inside) < LEVELS:
            below = _columns(field.inside, path, (*inside, field.message))
            found += below[:1] if field.repeated else below
    return found


def _kind(field: Field) -> str:
    """The kind of a column that the field fills; "" for a message."""
    if field.type != "message":
        return KINDS.get(field.type, "int")
    if field.message == "google.protobuf.Timestamp":
        return "datetime"
    wraps = field.message.removeprefix("google.protobuf.").removesuffix("Value")
    return _kind(field.inside.fields[0]) if wraps in protobuf.SCALARS else ""


def _of_message(found: dict[str, Any], its: Message) -> dict[str, Any]:
    event: dict[str, Any] = {}
    for name, value in found.items():
        field = its.names[name]
        if isinstance(value, list):
            event[name] = [None] * len(value)
        elif isinstance(value, dict):
            event[name] = _of_message(value, field.inside)
        elif isinstance(value, json_text.Number):
            event[name] = _real(float(value.text)) if _kind(field) == "float" else Number(value.text)
        elif isinstance(value, str) and _kind(field) == "bytes":
            event[name] = base64.b64decode(value)
        else:
            event[name] = value
    return event


# --- values ------------------------------------------------------------------------------------------------------------------


def _moment(number: Fraction, unit: str) -> str:
    try:
        return (EPOCH + timedelta(microseconds=number * 10**6 // PER_SECOND[unit])).isoformat()
    except OverflowError:
        raise BrokenEvent("a time beyond every year") from None


def _day(number: Decimal) -> str:
    try:
        return (EPOCH + timedelta(days=int(number))).date().isoformat()
    except OverflowError:
        raise BrokenEvent("a day beyond every year") from None


def _decimal(held: bytes, scale: int) -> Number:
    """A decimal of big-endian bytes, with all its decimals, and a point also where it has none."""
    number = int.from_bytes(held, "big", signed=True)
    sign, digits = "-" if number < 0 else "", str(abs(number)).rjust(scale + 1, "0")
    return Number(f"{sign}{digits[: len(digits) - scale]}.{digits[len(digits) - scale :]}")


def _real(number: float) -> Number:
    if not isfinite(number):
        raise BrokenEvent("a number that is not finite")
    text = repr(number)
    return Number(text if "e" in text else f"{text}e0")


def _text(held: bytes) -> str:
    try:
        return held.decode()
    except UnicodeDecodeError:
        raise BrokenEvent("text that is no UTF-8") from None


__all__ = ["JSON", "Form", "avro", "message", "recognised"]
