"""Origins, read whole: a test's own way through parts and rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingestion import Files
from ingestion.origin import Origin, Reading, Rows
from ingestion.typed import Typed, typed
from pipeline.base.errors import OriginError


def no_secret(name: str) -> str:
    raise AssertionError(f"a secret {name} was asked for")


def reading(said: list[str] | None = None, secret: Callable[[str], str] = no_secret, **more: Any) -> Reading:
    return Reading(secret=secret, report=(said if said is not None else []).append, **more)


def stretches(origin: Origin, given: Reading | None = None) -> list[Rows]:
    given = given or reading()
    return [rows for part in origin.parts(given) for rows in origin.read(part, given)]


def rows_of(origin: Origin, given: Reading | None = None) -> list[dict[str, Any]]:
    """The rows as the origin has them."""
    return [row for rows in stretches(origin, given) for row in rows.batch.to_pylist()]


def numbers_of(origin: Origin) -> list[int]:
    return [int(n) for rows in stretches(origin) for n in rows.numbers]


def broken_of(origin: Origin) -> list[tuple[int, str, bytes]]:
    return [(b.number, b.reason, b.raw) for rows in stretches(origin) for b in rows.broken]


def typed_of(origin: Origin, record: type, given: Reading | None = None) -> list[Typed]:
    return [typed(rows, record, origin.textual) for rows in stretches(origin, given)]


def refused(origin: Files, said: str) -> OriginError:
    """The error of reading it, which names the file."""
    with pytest.raises(OriginError, match=said) as caught:
        stretches(origin)
    assert str(Path(origin.pattern).name).partition(".")[0] in str(caught.value)
    return caught.value


def records_of(origin: Origin, record: type) -> list[dict[str, Any]]:
    """The accepted records; nothing may be rejected."""
    outcomes = typed_of(origin, record)
    assert not any(len(one.rejected) for one in outcomes), [one.rejected for one in outcomes]
    return [row for one in outcomes for row in one.accepted.to_pylist()]
