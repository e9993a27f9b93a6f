"""Kafka Connect's schema of JSON events, as JsonConverter writes it before each: how the value at a path is encoded.

encoding(schema, column) = what the schema says of the value there, as far as the column must know it        None: as JSON says it
"""

from dataclasses import dataclass
from typing import Any

from pipeline.definition.paths import Path
from pipeline.definition.record import Column

DECIMAL = "org.apache.kafka.connect.data.Decimal"
DATES = ("io.debezium.time.Date", "org.apache.kafka.connect.data.Date")
MOMENTS = {
    "io.debezium.time.Timestamp": "ms",
    "org.apache.kafka.connect.data.Timestamp": "ms",
    "io.debezium.time.MicroTimestamp": "us",
    "io.debezium.time.NanoTimestamp": "ns",
}
TIMES_OF_DAY = {
    "io.debezium.time.Time": 1000,
    "org.apache.kafka.connect.data.Time": 1000,
    "io.debezium.time.MicroTime": 1,
}
REALS = ("float", "double", "float32", "float64")


@dataclass(frozen=True)
class Encoding:
    """A way to write a value: `kind` decimal (base64 of a big-endian integer), real, days, time or moment.

    `scale`: of a decimal its decimals, of a time of day how many microseconds one is. `unit` is that of a moment.
    """

    kind: str
    scale: int = 0
    unit: str = ""


def encoding(schema: Any, path: Path, column: Column) -> Encoding | None:
    """The way to read the value at `path` of an event of that schema for the column; None: as JSON's. A schema of None: there is none."""
    kind = column.type.kind
    if schema is None:
        return Encoding("days") if kind == "date" else None
    field = _at(schema, path)
    name, type = field.get("name"), field.get("type")
    if name == DECIMAL and kind in ("decimal", "wide", "int"):
        return Encoding("decimal", _scale(field))
    if type in REALS and not name and column.type.is_decimal:
        return Encoding("real")
    if name in DATES and kind == "date":
        return Encoding("days")
    if name in MOMENTS and kind == "datetime":
        return Encoding("moment", unit=MOMENTS[name])
    if name in TIMES_OF_DAY and kind == "time":
        return Encoding("time", TIMES_OF_DAY[name])
    return None


def _at(schema: Any, path: Path) -> dict[str, Any]:
    for part in path:
        if not isinstance(schema, dict):
            return {}
        if schema.get("type") == "struct" and isinstance(schema.get("fields"), list):
            schema = next((f for f in schema["fields"] if isinstance(f, dict) and f.get("field") == part), None)
        else:
            schema = schema.get("items") if isinstance(part, int) else schema.get("values")
    return schema if isinstance(schema, dict) else {}


def _scale(field: dict[str, Any]) -> int:
    parameters = field.get("parameters")
    given = parameters.get("scale") if isinstance(parameters, dict) else None
    try:
        return min(max(int(str(given)), 0), 1000)
    except ValueError:
        return 0
