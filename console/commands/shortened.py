"""Values of records as a terminal shows them, and as a document holds them whole.

    shorten(text, n) has at most n characters on one line        encoded(bytes) decodes to the same bytes

Values may be personal data: a table shows the beginning of one, and only `--json` all of it.
"""

from base64 import b64encode
from datetime import datetime
from typing import Any

VALUE_WIDTH = 48


def shorten(value: Any, width: int = VALUE_WIDTH) -> str:
    """The beginning of a value on one line; an ellipsis stands for the rest, - for null."""
    if value is None:
        return "-"
    if isinstance(value, bytes):
        value = value[: 4 * width].decode(errors="replace")
    if isinstance(value, datetime):
        value = value.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
    line = "".join(c if c.isprintable() else "·" for c in str(value)[: width + 1])
    return line if len(line) <= width else line[: width - 1] + "…"


def encoded(name: str, value: bytes | None) -> dict[str, str | None]:
    """The member `name` of a document, or `name`_base64 where the bytes are no UTF-8."""
    if value is None:
        return {name: None}
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": b64encode(value).decode("ascii")}


__all__ = ["encoded", "shorten"]
