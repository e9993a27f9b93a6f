"""One record: decoded, every column read, constraints kept or mended.

kept(value) = value, or what the remedy makes of it, or Invalid         columns are looked at in their order
"""

import re
from collections.abc import Sequence
from typing import Any

from pipeline.definition.constraints import Between, Clip, Constraint, Default, Length, Nullable, OneOf, Pattern, Scale
from pipeline.definition.paths import Path
from pipeline.definition.record import Column
from pipeline.plain.json_text import Invalid, decode
from pipeline.plain.values import TOO_FINE, read, read_epoch, same_type


def record_of(value: bytes, columns: Sequence[Column]) -> dict[str, Any]:
    """Column name -> value (None for null) of a JSON event. Raises Invalid with the reason, which names the column."""
    return record_from(decode(value), columns)


def record_from(found: dict[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    """Column name -> value (None for null) of what was decoded. Raises Invalid with the reason, which names the column."""
    record = {}
    for column in columns:
        try:
            record[column.name] = _column(_at(found, column.path), column)
        except Invalid as reason:
            raise Invalid(f"{column.name}: {reason}") from None
    return record


def _at(found: Any, path: Path) -> Any:
    """The value that the path leads to, None where it ends early. Raises Invalid where it leads through something else."""
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
    return found


def _column(json_value: Any, column: Column) -> Any:
    if json_value is None:
        if isinstance(column.remedy, Default):
            return same_type(column.remedy.value, column.type)
        if not column.nullable:
            raise Invalid("null or missing")
        return None
    value = read_epoch(json_value, column.epoch) if column.epoch else read(json_value, column.type)
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
