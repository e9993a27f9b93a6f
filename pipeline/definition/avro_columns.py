"""A declared column against a writer's Avro type: how it reads a value of that type, and what it can never read.

    reading(type, column) = a Reading, or what is there and what is declared, in words        it depends on the two alone

Numbers widen as Avro's resolution has it, a string and bytes read as text; a logical type says what a number or bytes mean.
"""

from dataclasses import dataclass

from pipeline.definition.avro import Type
from pipeline.definition.marks import UNITS, FromText, Zone
from pipeline.definition.paths import shown
from pipeline.definition.record import Column

TIME_UNITS = {"timestamp-millis": UNITS["ms"], "timestamp-micros": UNITS["us"], "timestamp-nanos": UNITS["ns"]}
LOCAL_UNITS = {f"local-{name}": unit for name, unit in TIME_UNITS.items()}
ASK = "ask"  # the record-by-record reader decides
NUMBERS = ("int", "long")
TEXTS = ("string", "bytes")
DECLARED = {
    "int": "an int",
    "wide": "a decimal",
    "bytes": "bytes",
    "uuid": "a UUID",
    "time": "a time",
    "decimal": "a decimal",
    "float": "a float",
    "str": "text",
    "bool": "a bool",
    "datetime": "a datetime",
    "date": "a date",
}


@dataclass(frozen=True)
class Reading:
    """A way in which a column reads a writer's type: a conversion of kernels.avro, by its name, and its two parameters."""

    conversion: str
    scale: int = 0
    size: int = -1


def is_json(type: Type, column: Column) -> bool:
    """True where the column reads such a value as it reads JSON's text, number or bool."""
    text = type.kind == "string" and column.type.kind in ("wide", "bytes", "uuid", "time")
    plain = type.kind in ("string", "int", "long", "boolean") and not type.logical
    return text or (plain and (column.mark(FromText) is not None or column.type.kind == "wide"))


def reading(type: Type, column: Column) -> Reading | str:
    """The way in which a column reads a value of the type; in words what is there and what is declared, where it cannot."""
    kind, logical = column.type.kind, type.logical
    unit = UNITS[column.epoch] if column.epoch else UNITS["ms"]
    bits = 32 if type.kind == "int" else 64
    if is_json(type, column):
        return Reading(ASK)
    if type.kind == "boolean" and kind == "bool":
        return Reading("bool")
    if type.kind in ("float", "double") and kind == "float":
        return Reading("float32" if type.kind == "float" else "float64")
    if type.kind in NUMBERS:
        if kind == "int":
            return Reading("long", size=bits)
        if kind == "float" and not logical:
            return Reading("long_float", size=bits)
        if kind == "decimal" and not logical:
            return Reading("long_decimal", column.type.scale, bits)
        if kind == "datetime" and (not logical or logical in TIME_UNITS):
            return Reading("long_time", TIME_UNITS.get(logical, unit), bits)
        if kind == "datetime" and logical in LOCAL_UNITS and column.mark(Zone) is not None:
            return Reading("long_clock", LOCAL_UNITS[logical], bits)
        if kind == "date" and logical == "date":
            return Reading("long_date", size=bits)
    if type.kind == "int" and kind == "time" and logical == "time-millis":
        return Reading(ASK)
    if type.kind == "long" and kind == "time" and logical == "time-micros":
        return Reading(ASK)
    if (
        (kind == "bytes" and type.kind in ("bytes", "fixed"))
        or (kind == "wide" and logical == "decimal")
        or (kind == "uuid" and logical == "uuid" and type.kind == "fixed")
    ):
        return Reading(ASK)
    if type.kind == "enum" and kind == "str":
        return Reading("enum")
    if logical == "decimal" and kind in ("decimal", "int"):
        size = type.size if type.kind == "fixed" else -1
        return Reading("decimal" if kind == "decimal" else "decimal_int", column.type.scale - type.scale, size)
    if logical == "uuid" and type.kind == "fixed" and kind == "str":
        return Reading("uuid", size=type.size)
    if type.kind in TEXTS and logical != "decimal" and kind == "str":
        return Reading("text")
    if type.kind == "string" and logical != "uuid" and kind in ("decimal", "datetime", "date"):
        return Reading("text_epoch" if column.epoch else f"text_{kind}", column.type.scale)
    local = "; declare Zone(...) beside it" if kind == "datetime" and logical in LOCAL_UNITS else ""
    return f"Avro's {type.title} where {DECLARED.get(kind, kind)} is declared{local}"


def misfits(type: Type, columns: tuple[Column, ...]) -> list[str]:
    """For a schema that every event has: what is declared and no event can have, in words; nothing where all fits."""
    return [text for column in columns if (text := _misfit(type, column, 0))]


def _misfit(type: Type, column: Column, depth: int) -> str:
    """The obstacle to reading the column from depth on of its path; "" where some branch of it can be read."""
    if type.kind == "union":
        found = [_misfit(branch, column, depth) for branch in type.items if branch.kind != "null"]
        return found[0] if found and all(found) else ""
    where = shown(column.path[:depth])
    if depth == len(column.path):
        how = reading(type, column)
        return f"{column.name}: {how}, at {where!r} of the schema" if isinstance(how, str) else ""
    part = column.path[depth]
    if type.kind == "record" and isinstance(part, str):
        if part in type.fields:
            return _misfit(type.fields[part], column, depth + 1)
        have = ", ".join(type.fields) or "no field"
        return f"{column.name}: the schema has nothing at {shown(column.path[: depth + 1])!r}; {type.title} has {have}"
    if type.kind == ("map" if isinstance(part, str) else "array"):
        return _misfit(type.items[0], column, depth + 1)
    wanted = "a record" if isinstance(part, str) else "an array"
    return f"{column.name}: Avro's {type.title} at {where!r} of the schema where {wanted} is declared"
