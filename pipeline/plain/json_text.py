"""One JSON text (RFC 8259), read strictly: bytes in, a dict of the top-level object out, or Invalid with the reason.

    decode(bytes) = the object    if they are UTF-8, a JSON text, an object, at most 64 deep
                  = Invalid       otherwise

Numbers stay text (Number): what they mean depends on the column that they are for. A name that is given twice has the value TWICE, which
whoever declares it refuses.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final, NoReturn

MAX_DEPTH = 64  # of '[' and '{'; the top-level object is 1
STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


class Invalid(Exception):
    """Refusal of a record that breaks a rule of f; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number as it was written."""

    text: str


class Twice:
    """The value of a name that its object gives twice."""


TWICE: Final = Twice()


def decode(value: bytes) -> dict[str, Any]:
    """The top-level object: str, Number, bool, None, list and dict inside. Raises Invalid."""
    if value == b"":
        raise Invalid("empty value")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(f"invalid UTF-8 at byte {error.start}") from None
    _check_depth(text)
    try:
        found = DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise Invalid(f"invalid JSON at character {error.pos}: {error.msg}") from None
    if not isinstance(found, dict):
        raise Invalid("the JSON text is no object")
    return found


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    # In a text that is no JSON the count may be off, but then it is rejected either way.
    for character in STRING.sub("", text):
        if character in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise Invalid(f"nested deeper than {MAX_DEPTH}")
        elif character in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        found[name] = TWICE if name in found else value
    return found


def _no_constant(text: str) -> NoReturn:
    raise Invalid(f"{text} is no JSON")


DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=Number, parse_int=Number, parse_constant=_no_constant, strict=True
)
