"""Values that marks let be written in other ways: numbers and bools as text, and text in one form.

as_written(json value, type) = the JSON value that it stands for         cleaned(text, mark) = the text that counts
"""

import re
import unicodedata
from typing import Any

from pipeline.base.types import ColumnType
from pipeline.definition.marks import Text
from pipeline.plain.json_text import Invalid, Number

JSON_BLANKS = {" ", "\t", "\n", "\r"}
A_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
YES, NO = {"true", "t", "yes", "y", "on", "1"}, {"false", "f", "no", "n", "off", "0"}
WHITE_SPACE = {*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}


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
