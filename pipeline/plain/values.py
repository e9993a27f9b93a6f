"""One JSON value as a value of a column's type, or Invalid; and any Python value of a definition in the same form.

    int: int     decimal(s): Decimal with exponent -s, always     float: float, never NaN, infinite or -0.0     str: str
    bool: bool   datetime: datetime in UTC, to the microsecond    date: date
    wide: as decimal     bytes: bytes     uuid: its 16 bytes      time: time of day, to the microsecond

TooFine stands for a decimal that has more decimals than its Scale: the one breach of a constraint that is seen here.
"""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from importlib import resources
from math import floor
from typing import Any, Final
from zoneinfo import ZoneInfo

from pipeline.base.types import DECIMAL_DIGITS, INT_MAX, INT_MIN, TIME_MAX, TIME_MIN, ColumnType
from pipeline.plain.json_text import Invalid, Number
from pipeline.plain.written import read_bytes, read_day_time, read_text, read_uuid

MAX_NUMBER = 4_000  # characters; longer ones are out of range, whatever their value
JSON_NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
    r"( ?(?:[Zz]|UTC|([+-])([0-9]{2})(?::?([0-9]{2}))?))?"
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000  # in microseconds


class TooFine:
    """A number with more decimals than its column's Scale."""


TOO_FINE: Final = TooFine()


def read(value: Any, type: ColumnType) -> Any:
    """The JSON value (not null) as a value of `type`, or TOO_FINE. Raises Invalid with what is wrong."""
    return READERS[type.kind](value, type)


def _int(value: Any, type: ColumnType) -> int:
    found = _integral(_number(value))
    if found is None or not INT_MIN <= found <= INT_MAX:
        raise Invalid("out of the range of a 64-bit integer")
    return found


def _float(value: Any, type: ColumnType) -> float:
    found = float(_number(value))
    if abs(found) == float("inf"):
        raise Invalid("out of the range of a float")
    return found + 0.0  # -0.0 + 0.0 = 0.0


def _decimal(value: Any, type: ColumnType) -> Decimal | TooFine:
    if isinstance(value, str):
        if not JSON_NUMBER.fullmatch(value):
            raise Invalid("this string is no number")
        value = Number(value)
    coefficient, exponent = _parts(_number(value))
    if coefficient == 0:
        return decimal_of(0, type.scale)
    adjusted = len(str(abs(coefficient))) + exponent - 1  # 10^adjusted <= |value| < 10^(adjusted + 1)
    if adjusted >= type.digits - type.scale:
        raise Invalid(f"out of the range of {type}")
    if -exponent > type.scale:
        return TOO_FINE
    return decimal_of(coefficient * 10 ** (exponent + type.scale), type.scale)


def _str(value: Any, type: ColumnType) -> str:
    if "\x00" in read_text(value):
        raise Invalid("text with U+0000")
    return read_text(value)


def _bool(value: Any, type: ColumnType) -> bool:
    if not isinstance(value, bool):
        raise Invalid("neither true nor false")
    return value


def read_time(value: Any, epoch: str = "", zone: str = "", lenient: bool = False) -> datetime:
    """The JSON value (not null) as a time: a text, or a number of the unit `epoch`, "" for whole milliseconds. Raises Invalid.

    `zone` is the zone of a text without one, "" where there must be one; `lenient` allows a second 60.
    """
    if isinstance(value, str) and not (epoch and JSON_NUMBER.fullmatch(value)):
        return time_of(_time_us(value, zone, lenient))
    if epoch:
        return time_of(_counted_us(value, epoch))
    ms = _integral(_number(value, "neither an ISO 8601 time nor epoch milliseconds"))
    if ms is None:
        raise Invalid("epoch milliseconds out of range")
    return time_of(ms * 1000)


def _counted_us(value: Any, unit: str) -> int:
    text = _number(Number(value) if isinstance(value, str) else value, "neither an ISO 8601 time nor a number")
    coefficient, exponent = _parts(text)
    places = {"s": 6, "ms": 3, "us": 0, "ns": -3}[unit] + exponent
    if coefficient and len(str(abs(coefficient))) + places > DECIMAL_DIGITS:
        raise Invalid(f"a time out of range, counted in {unit}")
    # Far below a microsecond all that counts is the sign.
    return floor(coefficient * Fraction(10) ** max(places, -MAX_NUMBER - 10)) if coefficient else 0


def time_of(us: int) -> datetime:
    """The time that many microseconds after 1970. Raises Invalid."""
    if not epoch_us(TIME_MIN) <= us <= epoch_us(TIME_MAX):
        raise Invalid(f"a time outside of {TIME_MIN.isoformat()} to {TIME_MAX.isoformat()}")
    return EPOCH + timedelta(microseconds=us)


def date_of_day(day: int) -> date:
    """The date that many days after 1970-01-01. Raises Invalid."""
    try:
        return date.fromordinal(EPOCH.toordinal() + day)
    except (ValueError, OverflowError):
        raise Invalid("a date outside of the years 1 to 9999") from None


def _date(value: Any, type: ColumnType) -> date:
    match = DATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Invalid("not a date as 2013-01-31")
    return _calendar(*match.groups())


READERS = {
    "int": _int,
    "float": _float,
    "decimal": _decimal,
    "wide": _decimal,
    "str": _str,
    "bytes": read_bytes,
    "uuid": read_uuid,
    "time": read_day_time,
    "bool": _bool,
    "date": _date,
}


def _number(value: Any, otherwise: str = "not a number") -> str:
    if not isinstance(value, Number):
        raise Invalid(otherwise)
    if len(value.text) > MAX_NUMBER:
        raise Invalid(f"out of range: a number of more than {MAX_NUMBER} characters")
    return value.text


def _parts(text: str) -> tuple[int, int]:
    """value = coefficient * 10^exponent, the coefficient without a factor of 10; (0, 0) for zero."""
    match = JSON_NUMBER.fullmatch(text)
    assert match is not None, text
    sign, whole, fraction, exponent = match.groups(default="")
    digits = whole + fraction
    kept = digits.rstrip("0")
    if not kept:
        return 0, 0
    return int(sign + kept), int(exponent or "0") - len(fraction) + len(digits) - len(kept)


def _integral(text: str) -> int | None:
    """The value if it is a whole number, None if it is beyond any range of ours; raises Invalid for a fraction."""
    coefficient, exponent = _parts(text)
    if exponent < 0:
        raise Invalid("not a whole number")
    if exponent > 30:  # decided before a power of ten with a billion digits is built
        return None
    return coefficient * int(10**exponent)


def _calendar(year: str, month: str, day: str) -> date:
    try:
        return date(int(year), int(month), int(day))
    except ValueError as error:
        raise Invalid(f"not a date: {error}") from None


def _time_us(text: str, zone: str, lenient: bool) -> int:
    """Microseconds since 1970 of an ISO 8601 time, floored."""
    match = TIME.fullmatch(text)
    if match is None or not (match[8] or zone):
        raise Invalid("not an ISO 8601 time with a zone, as 2013-01-31T23:59:59.999Z")
    year, month, day, hour, minute, second, fraction, behind, sign, offset_hour, offset_minute = match.groups(
        default=""
    )
    if int(hour) > 23 or int(minute) > 59 or int(second or 0) > (60 if lenient else 59):
        raise Invalid("no such time of day")
    if int(offset_hour or 0) > 23 or int(offset_minute or 0) > 59:
        raise Invalid("no such zone")
    days = _calendar(year, month, day).toordinal() - EPOCH.toordinal()
    minutes = (days * 24 + int(hour)) * 60 + int(minute)
    offset = int(offset_hour or 0) * 60 + int(offset_minute or 0)
    minutes += offset if sign == "-" else -offset
    found = (minutes * 60 + int(second or 0)) * SECOND + int(fraction[:6].ljust(6, "0"))
    return found if behind else utc_of(found, zone)


def utc_of(shown_us: int, zone: str) -> int:
    """Microseconds since 1970 at which a clock in the zone shows that time; Invalid where it never does, or twice."""
    try:
        shown = EPOCH.replace(tzinfo=None) + timedelta(microseconds=shown_us)
    except OverflowError:
        raise Invalid("a time out of range") from None
    first, second = (shown.replace(tzinfo=_zone(zone), fold=fold).utcoffset() for fold in (0, 1))
    if first != second or first is None:
        raise Invalid(f"skipped or repeated by a change of the clocks in {zone}")
    return shown_us - first // timedelta(microseconds=1)


@cache
def _zone(key: str) -> ZoneInfo:
    """The zone as the package tzdata has it, not as this machine does."""
    *folders, name = ("zoneinfo", *key.split("/"))
    with resources.files(".".join(("tzdata", *folders))).joinpath(name).open("rb") as file:
        return ZoneInfo.from_file(file, key)


def decimal_of(unscaled: int, scale: int) -> Decimal:
    """unscaled / 10^scale with exponent -scale, exactly."""
    return Decimal((1 if unscaled < 0 else 0, tuple(int(d) for d in str(abs(unscaled))), -scale))


def unscaled(value: int | Decimal, scale: int) -> int:
    """value * 10^scale, which is whole."""
    whole = Fraction(value) * 10**scale
    assert whole.denominator == 1, value
    return int(whole)


def epoch_us(time: datetime) -> int:
    """Microseconds since 1970-01-01T00:00Z."""
    return (time - EPOCH) // timedelta(microseconds=1)


def same_type(value: Any, type: ColumnType) -> Any:
    """A bound, option or default of a definition (`type.accepts` it) in the form that the column's values have."""
    if type.is_decimal:
        return decimal_of(unscaled(value, type.scale), type.scale)
    if type.kind == "float":
        return float(value) + 0.0
    if type.kind == "uuid":
        return value.bytes
    return value.astimezone(UTC) if type.kind == "datetime" else value
