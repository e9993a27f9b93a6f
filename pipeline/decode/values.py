"""One JSON value of one declared type -> its Python form, or a Broken with the reason.

    parse(column, value) depends on the type alone; constraints come after (pipeline.accept.validate), but for Scale, which shows as BREACH

Python forms: int and decimal are ints (a decimal unscaled), datetime is int microseconds, date is int days, str, float, bool.
Numbers arrive as int, or as Literal: the digits as they stood in the event, so that nothing is rounded before it is judged.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np

from pipeline.base.types import DECIMAL_DIGITS, INT_MAX, INT_MIN, TIME_MAX, TIME_MIN
from pipeline.definition.marks import UNITS, Epoch, Lenient, Zone
from pipeline.definition.record import Column

LITERAL_LIMIT = 4000  # characters of a number: longer ones are out of range for every type
NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
    r"(?: ?(?:([Zz]|UTC)|([+-])([0-9]{2})(?::?([0-9]{2}))?))?"
)
DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_DAY = date(1970, 1, 1).toordinal()
MICROSECOND = timedelta(microseconds=1)
TIME_MIN_US, TIME_MAX_US = (TIME_MIN - EPOCH) // MICROSECOND, (TIME_MAX - EPOCH) // MICROSECOND


class Broken(Exception):
    """A value that breaks its column's type; the text is the reason, without the column's name."""


class Literal(str):
    """A number as it stood in the event."""


class Breach:
    """A decimal with more decimals than its Scale: its constraint is broken, and its value is never needed."""


BREACH = Breach()


def parser(column: Column) -> Callable[[Any], Any]:
    """The function from a JSON value (never None) to the column's Python form; raises Broken."""
    if column.type.kind == "decimal":
        scale = column.type.scale
        return lambda value: _decimal(value, scale)
    if column.type.kind == "datetime":
        return _time_parser(column)
    return {"int": _int, "float": _float, "str": _str, "bool": _bool, "date": _date}[column.type.kind]


def unscaled(literal: str, scale: int, digits: int) -> int | Breach:
    """literal * 10^scale as an int, |it| < 10^digits; BREACH when it is not whole; Broken when it is too large or no number."""
    negative, stripped, power = _significant(literal)
    if not stripped:
        return 0
    power += scale
    if len(stripped) + power > digits:
        raise Broken(f"{shown_value(literal)} is out of range: |value| must be below 1e{digits - scale}")
    if power < 0:
        return BREACH
    value = int(stripped) * int(10**power)
    return -value if negative else value


def _significant(literal: str) -> tuple[bool, str, int]:
    """(negative, digits, power): the number is digits * 10^power; they begin and end with no zero, and 0 has none."""
    if len(literal) > LITERAL_LIMIT:
        raise Broken(f"a number of {len(literal)} characters is out of range")
    match = NUMBER.fullmatch(literal)
    if match is None:
        raise Broken(f"{shown_value(literal)} is no decimal number")
    sign, whole, fraction, exponent = match.groups()
    text = (whole + (fraction or "")).lstrip("0")
    digits = text.rstrip("0")
    return bool(sign), digits, int(exponent or "0") - len(fraction or "") + len(text) - len(digits)


def shown_value(value: Any) -> str:
    """The value as a reason shows it, shortened."""
    text = value if isinstance(value, Literal) else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def kind_of(value: Any) -> str:
    """The kind of a JSON value, as a person calls it."""
    names = {
        bool: "true or false",
        int: "a number",
        Literal: "a number",
        str: "text",
        list: "an array",
        dict: "an object",
    }
    return names.get(type(value), "null")


def _decimal(value: Any, scale: int) -> int | Breach:
    if type(value) is int:
        value = Literal(value)
    if not isinstance(value, str):
        raise Broken(f"{kind_of(value)} where a decimal is declared")
    return unscaled(value, scale, DECIMAL_DIGITS)


def _int(value: Any) -> int:
    if isinstance(value, Literal):
        found = unscaled(value, 0, 20)
        if isinstance(found, Breach):
            raise Broken(f"{shown_value(value)} is not whole")
        value = found
    elif type(value) is not int:
        raise Broken(f"{kind_of(value)} where an int is declared")
    if not INT_MIN <= value <= INT_MAX:
        raise Broken(f"{shown_value(value)} is out of range for 64 bits")
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, Literal):
        if len(value) > LITERAL_LIMIT:
            raise Broken(f"a number of {len(value)} characters is out of range")
    elif type(value) is not int:
        raise Broken(f"{kind_of(value)} where a float is declared")
    found = float(value)
    if found in (float("inf"), float("-inf")):
        raise Broken(f"{shown_value(value)} is out of range for a float")
    return found + 0.0  # -0.0 + 0.0 is 0.0


def _str(value: Any) -> str:
    if type(value) is not str:
        raise Broken(f"{kind_of(value)} where text is declared")
    if "\x00" in value:
        raise Broken("text with U+0000, which Postgres cannot hold")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Broken("text with half a surrogate pair") from None
    return value


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise Broken(f"{kind_of(value)} where a bool is declared")
    return value


def _date(value: Any) -> int:
    match = DATE.fullmatch(value) if type(value) is str else None
    if match is None:
        raise Broken(f"{shown_value(value)} where a date is declared; allowed is YYYY-MM-DD")
    try:
        return date(*map(int, match.groups())).toordinal() - EPOCH_DAY
    except ValueError as error:
        raise Broken(f"{shown_value(value)} is no date: {error}") from None


def _time_parser(column: Column) -> Callable[[Any], int]:
    epoch, zone, lenient = column.mark(Epoch), column.mark(Zone), column.mark(Lenient) is not None
    number = partial(_epoch, unit=epoch.unit) if epoch else _milliseconds

    def parse(value: Any) -> int:
        if type(value) is str and not (epoch and NUMBER.fullmatch(value)):
            return _in_range(value, _timestamp(value, zone, lenient))
        if not isinstance(value, str) and type(value) is not int:
            raise Broken(f"{kind_of(value)} where a datetime is declared")
        return _in_range(value, number(value))

    return parse


def _epoch(value: Any, unit: str) -> int:
    """Microseconds of a time that a number, or its digits as text, says; floored."""
    negative, digits, power = _significant(str(value))
    power += UNITS[unit]
    if not digits:
        return 0
    if len(digits) + power > DECIMAL_DIGITS:
        raise Broken(f"{shown_value(value)} is out of range as Epoch({unit!r}); is it counted in another unit?")
    if power >= 0:
        found = int(digits) * int(10**power)
        return -found if negative else found
    found = int(digits[: max(0, len(digits) + power)] or "0")  # the digits left out end with no zero: it was more
    return -found - 1 if negative else found


def _milliseconds(value: Any) -> int:
    milliseconds = unscaled(Literal(value), 0, DECIMAL_DIGITS)
    if isinstance(milliseconds, Breach):
        raise Broken(
            f"{shown_value(value)} is no whole number of epoch milliseconds; a time with decimals is one of Epoch(...)"
        )
    return milliseconds * 1000


def _in_range(value: Any, found: int) -> int:
    if not TIME_MIN_US <= found <= TIME_MAX_US:
        raise Broken(f"{shown_value(value)} is out of range: allowed are the years 2 to 9999 in UTC")
    return found


def _timestamp(value: str, zone: Zone | None, lenient: bool) -> int:
    match = TIMESTAMP.fullmatch(value)
    if match is None:
        raise Broken(f"{shown_value(value)} is no ISO 8601 timestamp, as 2013-01-31T13:05:00Z")
    year, month, day, hour, minute, second, fraction, zulu, sign, zone_hours, zone_minutes = match.groups()
    if not zulu and not sign and zone is None:
        raise Broken(
            f"{shown_value(value)} has no zone; write Z or +hh:mm behind it, or declare Zone(...) where it is local"
        )
    leap = lenient and second == "60"
    if second == "60" and not lenient:
        raise Broken(f"{shown_value(value)} has a second 60; Lenient() takes it as the next minute's 0")
    try:
        naive = datetime(
            int(year), int(month), int(day), int(hour), int(minute), 59 if leap else int(second or 0), tzinfo=UTC
        )
    except ValueError as error:
        raise Broken(f"{shown_value(value)} is no time: {error}") from None
    shown = (naive - EPOCH) // MICROSECOND + leap * 1_000_000 + int((fraction or "")[:6].ljust(6, "0"))
    if not zulu and not sign:
        assert zone is not None
        return _local(value, shown, zone)
    offset_hours, offset_minutes = int(zone_hours or 0), int(zone_minutes or 0)
    if offset_hours > 23 or offset_minutes > 59:
        raise Broken(f"{shown_value(value)} has a zone beyond 23:59")
    offset = (offset_hours * 60 + offset_minutes) * 60_000_000
    return shown - (-offset if sign == "-" else offset)


def _local(value: str, shown_us: int, zone: Zone) -> int:
    found, known = zone.clock.utc(np.array([shown_us], np.int64))
    if not known[0]:
        raise Broken(
            f"{shown_value(value)} is skipped or repeated by a change of the clocks in {zone.key}; send it with its offset"
        )
    return int(found[0])
