"""One JSON value of one declared column -> its Python form, whatever the type: those of values.py, and the ones of a second pass.

    parse(column, value) depends on the type and on its marks alone        None: FromText's empty text, which is null

Python forms of these: a wide decimal is an int, unscaled, of any size; bytes and UUIDs are bytes; a time is int microseconds from midnight.
"""

import binascii
import re
from collections.abc import Callable
from typing import Any

from pipeline.decode.tokens import keeps_nul
from pipeline.decode.values import Breach, Broken, Literal, kind_of, shown_value, unscaled
from pipeline.decode.values import parser as plain_parser
from pipeline.definition.marks import FromText
from pipeline.definition.record import Column

BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
UUID = re.compile(r"([0-9a-fA-F]{8})-([0-9a-fA-F]{4})-([0-9a-fA-F]{4})-([0-9a-fA-F]{4})-([0-9a-fA-F]{12})")
TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:\.([0-9]{1,9}))?)?")
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
BLANKS = " \t\n\r"
WORDS = dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True) | dict.fromkeys(
    ("false", "f", "no", "n", "off", "0"), False
)


def parser(column: Column) -> Callable[[Any], Any]:
    """The function from a JSON value (never None) to the column's Python form; raises Broken."""
    if column.mark(FromText):
        return _written(column)
    match column.type.kind:
        case "wide":
            return lambda value: _wide(value, column.type.scale, column.type.digits)
        case "bytes":
            return _bytes
        case "uuid":
            return _uuid
        case "time":
            return _time
        case "str" if keeps_nul(column):
            return _text
    return plain_parser(column)


def _wide(value: Any, scale: int, digits: int) -> int | Breach:
    if type(value) is int:
        value = Literal(value)
    if not isinstance(value, str):
        raise Broken(f"{kind_of(value)} where a decimal is declared")
    return unscaled(value, scale, digits)


def _bytes(value: Any) -> bytes:
    if type(value) is not str:
        raise Broken(f"{kind_of(value)} where bytes are declared")
    if not BASE64.fullmatch(value):
        raise Broken(f"{shown_value(value)} is no base64 with padding, as d2F0ZXI=")
    found = binascii.a2b_base64(value)
    if binascii.b2a_base64(found, newline=False).decode() != value:
        raise Broken(f"{shown_value(value)} is base64 with bits behind its last byte")
    return found


def _uuid(value: Any) -> bytes:
    match = UUID.fullmatch(value) if type(value) is str else None
    if match is None:
        raise Broken(f"{shown_value(value)} where a UUID is declared; allowed is 123e4567-e89b-12d3-a456-426614174000")
    return bytes.fromhex("".join(match.groups()))


def _time(value: Any) -> int:
    match = TIME.fullmatch(value) if type(value) is str else None
    if match is None:
        raise Broken(f"{shown_value(value)} where a time is declared; allowed is HH:MM[:SS[.f]], 00:00 to 23:59:59")
    hour, minute, second, fraction = match.groups(default="")
    return ((int(hour) * 60 + int(minute)) * 60 + int(second or 0)) * 1_000_000 + int(fraction[:6].ljust(6, "0"))


def _text(value: Any) -> str:
    if type(value) is not str:
        raise Broken(f"{kind_of(value)} where text is declared")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise Broken("text with half a surrogate pair")
    return value


def _written(column: Column) -> Callable[[Any], Any]:
    """The parser of a column that FromText stands beside."""
    if column.type.kind == "bool":
        return _truth
    if column.type.kind == "wide":
        scale, digits = column.type.scale, column.type.digits

        parse: Callable[[Any], Any] = lambda value: _wide(value, scale, digits)  # noqa: E731
    else:
        parse = plain_parser(column)

    def written(value: Any) -> Any:
        if type(value) is str:
            value = value.strip(BLANKS)
            if not value:
                return None
            if not NUMBER.fullmatch(value):
                raise Broken(f"{shown_value(value)} where a number is declared, or its digits as text")
            return parse(Literal(value))
        return parse(value)

    return written


def _truth(value: Any) -> bool | None:
    if type(value) is bool:
        return value
    found: bool | None = None
    if type(value) is str:
        word = value.strip(BLANKS)
        if not word:
            return None
        found = WORDS.get(word.lower()) if word.isascii() else None
    elif type(value) is int or isinstance(value, Literal):
        number = unscaled(Literal(value), 0, 20)
        found = None if isinstance(number, Breach) else {0: False, 1: True}.get(number)
    if found is None:
        allowed = "true, t, yes, y, on, 1 and false, f, no, n, off, 0"
        raise Broken(f"{shown_value(value)} where a bool is declared; allowed are {allowed}")
    return found
