"""One record: decoded, every column read, constraints kept or mended.

kept(value) = value, or what the remedy makes of it, or Invalid         columns are looked at in their order
"""

import re
from collections.abc import Sequence
from typing import Any

from pipeline.definition.constraints import Between, Clip, Constraint, Default, Length, Nullable, OneOf, Pattern, Scale
from pipeline.definition.formats import Format, Json
from pipeline.definition.record import Column
from pipeline.plain.formats import NoRegistry, Registry, event
from pipeline.plain.json_text import Invalid
from pipeline.plain.values import TOO_FINE, same_type

JSON, NO_REGISTRY = Json(), NoRegistry()


def record_of(
    value: bytes, columns: Sequence[Column], format: Format = JSON, registry: Registry = NO_REGISTRY
) -> dict[str, Any]:
    """Column name -> value (None for null). Raises Invalid with the reason, which names the column."""
    read = event(value, format, registry)
    record = {}
    for column in columns:
        try:
            found = read(column)
            record[column.name] = _missing(column) if found is None else _kept(found, column)
        except Invalid as reason:
            raise Invalid(f"{column.name}: {reason}") from None
    return record


def _missing(column: Column) -> Any:
    """The value of a column that the event does not have, or as null."""
    if isinstance(column.remedy, Default):
        return same_type(column.remedy.value, column.type)
    if not column.nullable:
        raise Invalid("null or missing")
    return None


def _kept(value: Any, column: Column) -> Any:
    """The value, if it keeps the column's constraints, or what the remedy makes of it."""
    broken = [c for c in column.constraints if not _keeps(value, c, column)]
    return _mended(value, broken, column) if broken else value


def _keeps(value: Any, constraint: Constraint, column: Column) -> bool:
    if value is TOO_FINE:
        return not isinstance(constraint, Scale)  # what else it breaks does not matter: a Scale breach is never clipped
    match constraint:
        case Scale():
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
