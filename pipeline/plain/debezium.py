"""A Debezium envelope, read: its operation, the image of the row behind it, and what a schema before it says of the values in there.

given(column) = the value at the column's path in `after`, as what its encoding makes of it
"""

import base64
import json
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import Any

from pipeline.base.types import INT_MAX, INT_MIN, ColumnType
from pipeline.definition.debezium import IMAGES, WITHOUT
from pipeline.definition.paths import Path
from pipeline.definition.record import Column
from pipeline.plain.json_text import Invalid, Number, decode
from pipeline.plain.values import EPOCH, TOO_FINE, date_of_day, decimal_of, read, read_time

INT, FLOAT = ColumnType("int"), ColumnType("float")
WRAPPED, SPACE = b'{"schema":', " \t\r\n"
MOMENTS = {
    "io.debezium.time.Timestamp": "ms",
    "io.debezium.time.MicroTimestamp": "us",
    "io.debezium.time.NanoTimestamp": "ns",
}
MOMENTS |= {"org.apache.kafka.connect.data.Timestamp": "ms"}
DATES = ["io.debezium.time.Date", "org.apache.kafka.connect.data.Date"]
MILLIS_OF_DAY = ["io.debezium.time.Time", "org.apache.kafka.connect.data.Time"]


class NoImage(Exception):
    """Absence of an image: the record is counted as a tombstone."""


@dataclass
class Envelope:
    """`found` is the event of the inner format; `schema` Kafka Connect's, None without one; `avro` where values carry their own types."""

    found: Any
    schema: Any
    avro: bool


@dataclass
class Encoded:
    """A JSON value in `after`, and the field of the schema that is its own ({} where it says nothing), None without any schema."""

    value: Any
    field: dict[str, Any] | None


def json_envelope(value: bytes) -> Envelope:
    """A JSON event, out of Kafka Connect's wrapper if it is in it. Raises Invalid, NoImage."""
    if not value.startswith(WRAPPED):
        return Envelope(decode(value), None, False)
    text = value.decode("latin-1")
    start = len(WRAPPED) + len(text[len(WRAPPED) :]) - len(text[len(WRAPPED) :].lstrip(SPACE))
    try:
        _, end = json.JSONDecoder().raw_decode(text, start)
        schema = json.loads(value[start:end].decode())
    except (ValueError, RecursionError):
        raise Invalid("broken JSON in the schema") from None
    rest = text[end:].lstrip(SPACE)
    for piece in (",", '"payload"', ":"):
        if not rest.startswith(piece):
            raise Invalid("no payload behind the schema")
        rest = rest[len(piece) :].lstrip(SPACE)
    rest = rest.rstrip(SPACE)
    if not rest.endswith("}"):
        raise Invalid("the wrapper is not closed")
    if rest[:-1] == "null":
        raise NoImage
    return Envelope(decode(rest[:-1].encode("latin-1")), schema, False)


def check_operation(op: Any) -> None:
    """Raise NoImage where there is none, Invalid for what is no operation."""
    if op in WITHOUT:
        raise NoImage
    if op not in IMAGES:
        raise Invalid("op: no operation of Debezium")


def field_at(schema: Any, path: Path) -> dict[str, Any]:
    """The schema's field there, {} where it has none."""
    for part in path:
        if not isinstance(schema, dict):
            return {}
        fields = schema.get("fields")
        if schema.get("type") == "struct" and isinstance(fields, list):
            same = [f for f in fields if isinstance(f, dict) and f.get("field") == part]
            schema = same[0] if same else None
        else:
            schema = schema.get("items" if isinstance(part, int) else "values")
    return schema if isinstance(schema, dict) else {}


def plain_json(given: Encoded, column: Column) -> Any:
    """The JSON value itself, where the column reads it as JSON's; the Encoded one where its schema counts."""
    kind, field = column.type.kind, given.field
    if field is None:
        return given if kind == "date" else given.value
    name, type = field.get("name"), field.get("type")
    decimal = kind in ("decimal", "wide", "int") and name == "org.apache.kafka.connect.data.Decimal"
    real = column.type.is_decimal and type in ("float", "double", "float32", "float64") and not name
    day_time = kind == "time" and name in (*MILLIS_OF_DAY, "io.debezium.time.MicroTime")
    moment = kind == "datetime" and name in MOMENTS
    return given if decimal or real or day_time or moment or (kind == "date" and name in DATES) else given.value


def read_encoded(given: Encoded, column: Column, zone: str, lenient: bool) -> Any:
    """The value as one of the column's type, or TOO_FINE. Raises Invalid."""
    kind, name, value = column.type.kind, (given.field or {}).get("name"), given.value
    if kind == "datetime":
        return read_time(value, MOMENTS[str(name)], zone, lenient)
    if kind in ("date", "time"):
        if not isinstance(value, Number):
            raise Invalid("no number")
        number = read(value, INT)
        if kind == "date":
            return date_of_day(number)
        us = number * (1000 if name in MILLIS_OF_DAY else 1)
        if not 0 <= us < 86_400_000_000:
            raise Invalid("no time of day")
        return (EPOCH + timedelta(microseconds=us)).time()
    if name is None:
        read(value, FLOAT)
        raise Invalid("a double where a decimal is declared")
    if not isinstance(value, str) or base64.b64encode(_bytes(value)).decode() != value or not value:
        raise Invalid("no base64 of a number")
    return _decimal(
        Fraction(int.from_bytes(_bytes(value), "big", signed=True), 10 ** _scale(given.field or {})), column
    )


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise Invalid("no base64") from None


def _scale(field: dict[str, Any]) -> int:
    parameters = field.get("parameters")
    try:
        return min(max(int(str(parameters.get("scale") if isinstance(parameters, dict) else None)), 0), 1000)
    except ValueError:
        return 0


def _decimal(value: Fraction, column: Column) -> Any:
    if column.type.kind == "int":
        if value.denominator != 1 or not INT_MIN <= value <= INT_MAX:
            raise Invalid("no 64-bit integer")
        return int(value)
    if abs(value) >= 10 ** (column.type.digits - column.type.scale):
        raise Invalid(f"out of the range of {column.type}")
    scaled = value * 10**column.type.scale
    return decimal_of(int(scaled), column.type.scale) if scaled.denominator == 1 else TOO_FINE
