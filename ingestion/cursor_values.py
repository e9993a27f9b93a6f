"""Values of cursor columns as text, as they are kept between two readings.

from_text(as_text(v), kind of v) = v
"""

from datetime import date, datetime
from decimal import Decimal
from typing import Any


def as_text(value: Any) -> str:
    """A cursor value as it is kept."""
    return value.isoformat() if isinstance(value, date) else str(value)


def from_text(text: str, kind: str) -> Any:
    """The value that `as_text` wrote, of a column of that kind (pipeline.definition.table.CURSOR_KINDS)."""
    read: Any = {"int": int, "decimal": Decimal, "datetime": datetime.fromisoformat, "date": date.fromisoformat}[kind]
    return read(text)


__all__ = ["as_text", "from_text"]
