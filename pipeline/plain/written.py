"""Values that are written as text: bytes, UUIDs, times of day, and what marks let be text; and text itself in one form.

as_written(json value, type) = the JSON value that it stands for         cleaned(text, mark) = the text that counts
"""

import base64
import re
import unicodedata
from datetime import time
from typing import Any
from uuid import UUID

from pipeline.base.types import ColumnType
from pipeline.definition.marks import Text
from pipeline.plain.json_text import Invalid, Number

DAY_TIME = re.compile(r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?")
JSON_BLANKS = {" ", "\t", "\n", "\r"}
A_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
YES, NO = {"true", "t", "yes", "y", "on", "1"}, {"false", "f", "no", "n", "off", "0"}
WHITE_SPACE = {*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}


def read_text(value: Any) -> str:
    """The JSON value (not null) as text that may have U+0000. Raises Invalid."""
    if not isinstance(value, str):
        raise Invalid("not a string")
    if any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        raise Invalid("text with half of a surrogate pair")
    return value


def read_bytes(value: Any, type: ColumnType) -> bytes:
    """The JSON value (not null), base64, as bytes. Raises Invalid."""
    if not isinstance(value, str) or not value.isascii():
        raise Invalid("not a string in base64")
    try:
        found = base64.b64decode(value, validate=True)
    except ValueError:
        raise Invalid("this string is no base64") from None
    if base64.b64encode(found).decode() != value:
        raise Invalid("base64 that no bytes are written as")
    return found


def read_uuid(value: Any, type: ColumnType) -> bytes:
    """The JSON value (not null) as the bytes of a UUID. Raises Invalid."""
    if not isinstance(value, str) or [len(part) for part in value.split("-")] != [8, 4, 4, 4, 12]:
        raise Invalid("not a UUID of the form 8-4-4-4-12")
    if not all(c in "0123456789abcdefABCDEF-" for c in value):
        raise Invalid("not a UUID: a digit that is not hexadecimal")
    return UUID(value).bytes


def read_day_time(value: Any, type: ColumnType) -> time:
    """The JSON value (not null) as a time of day, floored to the microsecond. Raises Invalid."""
    match = DAY_TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Invalid("not a time as 23:59:59.999")
    hour, minute, second, fraction = match.groups(default="0")
    try:
        return time(int(hour), int(minute), int(second), int(fraction[:6].ljust(6, "0")))
    except ValueError as error:
        raise Invalid(f"not a time: {error}") from None


def as_written(value: Any, type: ColumnType) -> Any:
    """The JSON value that a column with FromText reads: of a text its number or bool, None of an empty one; raises Invalid."""
    if isinstance(value, str):
        while value and value[0] in JSON_BLANKS:
            value = value[1:]
        while value and value[-1] in JSON_BLANKS:
            value = value[:-1]
        if value == "":
            return None
        return _truth(value) if type.kind == "bool" else _number(value)
    if type.kind == "bool" and isinstance(value, Number):
        return _truth_of_number(value)
    return value


def _number(text: str) -> Number:
    if not A_NUMBER.fullmatch(text):
        raise Invalid("this text is no number")
    return Number(text)


def _truth(text: str) -> bool:
    lower = "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)
    if lower not in YES | NO:
        raise Invalid("this text is neither yes nor no")
    return lower in YES


def _truth_of_number(number: Number) -> bool:
    """0 and 1 in any spelling: digits without zeros in front and behind, and the places that the last one is moved."""
    if len(number.text) > 4_000:
        raise Invalid("neither 0 nor 1")
    mantissa, _, exponent = number.text.lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole.lstrip("-") + fraction).lstrip("0")
    if digits == "":
        return False
    kept = digits.rstrip("0")
    if kept == "1" and not mantissa.startswith("-") and int(exponent or 0) - len(fraction) + len(digits) == 1:
        return True
    raise Invalid("neither 0 nor 1")


def cleaned(text: str, mark: Text) -> str:
    """The text without what the mark strips, in its form and its case, and without white space around it where it trims."""
    kept = "".join(character for character in text if character not in mark.strip)
    if mark.form is not None:
        kept = unicodedata.normalize(mark.form, kept)  # type: ignore[arg-type]
    if mark.case is not None:
        kept = kept.lower() if mark.case == "lower" else kept.upper()
    if not mark.trim:
        return kept
    places = [n for n, character in enumerate(kept) if ord(character) not in WHITE_SPACE]
    return kept[places[0] : places[-1] + 1] if places else ""
