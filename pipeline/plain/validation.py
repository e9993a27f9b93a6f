"""One record: decoded, every column read, constraints kept or mended.

kept(value) = value, or what the remedy makes of it, or Invalid         columns are looked at in their order
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.base.types import ColumnType
from pipeline.definition.constraints import (
    Between,
    Clip,
    Constraint,
    Default,
    Length,
    Nullable,
    OneOf,
    Pattern,
    Precision,
    Scale,
)
from pipeline.definition.marks import (
    Epoch,
    FromRecord,
    FromText,
    Header,
    Lenient,
    RecordKey,
    RecordTime,
    Text,
    Zone,
)
from pipeline.definition.record import Column, in_event
from pipeline.definition.source import Source
from pipeline.plain.avro_body import Value, as_json, is_json, read_avro
from pipeline.plain.debezium import Encoded, Envelope, check_operation, plain_json, read_encoded
from pipeline.plain.formats import NO_REGISTRY, Registry, at, event
from pipeline.plain.json_text import Invalid, Number, decode
from pipeline.plain.values import JSON_NUMBER, TOO_FINE, read, read_time, same_type
from pipeline.plain.written import as_written, cleaned, read_text


@dataclass(frozen=True)
class Around:
    """The record around an event: its key, its timestamp (-1: none) and its headers, in order."""

    key: bytes | None = None
    timestamp_ms: int = -1
    headers: Sequence[tuple[str, bytes | None]] = ()


NOTHING_AROUND = Around()


def record_of(value: bytes, columns: Sequence[Column], around: Around = NOTHING_AROUND) -> dict[str, Any]:
    """Column name -> value (None for null), of an event that is one row. Raises Invalid with the reason, which names the column."""
    return _columns(decode(value), columns, around, 0)


def rows_of(
    value: bytes, source: Source, around: Around, registry: Registry = NO_REGISTRY
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(what the record has once, its rows): one row, or one for each element of the array that is exploded. Raises Invalid."""
    found = event(value, source.format, registry, in_event(source.columns))
    if isinstance(found, Envelope):
        _check_envelope(found, source)
    once = _columns(found, [c for c in source.columns if not c.of_element], around, 0)
    if not source.exploded:
        return once, [once]
    elements = at(found, source.exploded)
    if elements is None:
        return once, []
    if not isinstance(elements, list):
        raise Invalid(f"no array, but {source.explode} is exploded")
    inner = [c for c in source.columns if c.of_element]
    rows = []
    for element in elements:
        if element is not None and not isinstance(element, dict):
            raise Invalid(f"an element of {source.explode} is no object")
        rows.append(once | _columns(element, inner, around, len(source.exploded) + 1))
    return once, rows


def _check_envelope(found: Envelope, source: Source) -> None:
    """Raise NoImage where there is no image; Invalid where the operation is none, or where a column can read none of its image's values."""
    operation = Column("op", ColumnType("str"), False, at=("op",))
    given = at(found.found, operation.path)
    op = None if given is None else read_given(given, operation)
    for column in source.columns:
        if column.path:
            read_column(at(found, column.path), column)
    check_operation(op)


def read_column(given: Any, column: Column) -> Any:
    """The column's value before constraints, None for null. Raises Invalid."""
    if isinstance(given, Encoded):
        given = plain_json(given, column)
    if isinstance(given, Value) and is_json(given, column):
        given = as_json(given)
    if column.mark(FromText) and not isinstance(given, Value | Encoded):
        given = as_written(given, column.type)
    return None if given is None else read_given(given, column)


def _columns(within: Any, columns: Sequence[Column], around: Around, depth: int) -> dict[str, Any]:
    """The columns of an event, or of an element, whose paths begin behind `depth` parts."""
    found = {}
    for column in columns:
        try:
            outside = column.mark(FromRecord)
            given = at(within, column.path[depth:]) if outside is None else _outside(outside, column, around)
            found[column.name] = _column(given, column)
        except Invalid as reason:
            raise Invalid(f"{column.name}: {reason}") from None
    return found


def _outside(mark: FromRecord, column: Column, around: Around) -> Any:
    """The value that the record has there, as a JSON value would say it; None for null."""
    if isinstance(mark, RecordTime):
        return None if around.timestamp_ms < 0 else Number(str(around.timestamp_ms))
    found = around.key if isinstance(mark, RecordKey) else None
    if isinstance(mark, Header):
        named = [value for name, value in around.headers if name == mark.name]
        found = named[-1] if named else None
    if found is None:
        return None
    try:
        text = found.decode()
    except UnicodeDecodeError:
        raise Invalid("no UTF-8") from None
    if column.type.kind == "str":
        return text
    if not JSON_NUMBER.fullmatch(text):
        raise Invalid("no number")
    return Number(text)


def _column(given: Any, column: Column) -> Any:
    value = read_column(given, column)
    if value is None:
        if isinstance(column.remedy, Default):
            return same_type(column.remedy.value, column.type)
        if not column.nullable:
            raise Invalid("null or missing")
        return None
    broken = [c for c in column.constraints if not _keeps(value, c, column)]
    return _mended(value, broken, column) if broken else value


def read_given(value: Any, column: Column) -> Any:
    """The value (not null) of an event as one of the column's type, or TOO_FINE. Raises Invalid."""
    if isinstance(value, Value):
        return read_avro(value, column, read_given)
    if isinstance(value, Encoded):
        mark = column.mark(Zone)
        return read_encoded(value, column, mark.key if mark else "", column.mark(Lenient) is not None)
    if column.type.kind != "datetime":
        text = column.mark(Text)
        found = read_text(value) if text and "\x00" in text.strip else read(value, column.type)
        return cleaned(found, text) if text else found
    epoch, zone = column.mark(Epoch), column.mark(Zone)
    return read_time(
        value, epoch.unit if epoch else "", zone.key if zone else "", lenient=column.mark(Lenient) is not None
    )


def _keeps(value: Any, constraint: Constraint, column: Column) -> bool:
    if value is TOO_FINE:
        return not isinstance(
            constraint, Scale | Precision
        )  # what else it breaks does not matter: a Scale breach is never clipped
    match constraint:
        case Scale() | Precision():
            return True
        case Between(low, high):
            above = low is None or value >= same_type(low, column.type)
            return above and (high is None or value <= same_type(high, column.type))
        case OneOf(options):
            return value in [same_type(option, column.type) for option in options]
        case Length(low, high):
            return len(value) >= low and (high is None or len(value) <= high)
        case Pattern(regex):
            return re.fullmatch(regex, value, re.ASCII) is not None
    raise AssertionError(constraint)


def _mended(value: Any, broken: list[Constraint], column: Column) -> Any:
    match column.remedy:
        case Nullable():
            return None
        case Default(default):
            return same_type(default, column.type)
        case Clip() if len(broken) == 1 and isinstance(broken[0], Between):
            return _clipped(value, broken[0], column)
    raise Invalid(f"breaks {', '.join(str(c) for c in broken)}")


def _clipped(value: Any, between: Between, column: Column) -> Any:
    low = between.low is not None and value < same_type(between.low, column.type)
    bound = same_type(between.low if low else between.high, column.type)
    if not all(_keeps(bound, other, column) for other in column.constraints):
        raise Invalid(f"breaks {between}, and the nearest bound breaks another constraint")
    return bound
