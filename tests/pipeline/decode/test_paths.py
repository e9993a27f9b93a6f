# ruff: noqa: E501 -- the corpus is a table
"""Values at paths, and times in units: the compiled parser, the record-by-record one and the plain reference agree.

decode(values) = decode_records(values) = record_of(value) for each        whatever stands on the way
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import At, Epoch, Scale, Source
from pipeline.base.errors import DefinitionError
from pipeline.decode.json_blocks import decode
from pipeline.definition.paths import parse, shown, tree
from pipeline.plain.json_text import Invalid
from pipeline.plain.validation import record_of
from simulation.texts import members
from tests.pipeline.decode.test_json_blocks import differs, mutated

FUZZED = int(os.environ.get("WATERSHED_TEST_FUZZED", "100000")) // 4


@dataclass(frozen=True)
class Nested:
    """A value at every kind of place."""

    id: Annotated[str, At("event.id")]
    user: Annotated[int, At("event.context.user.id")]
    at: Annotated[datetime, At("event.at"), Epoch("s")]
    dotted: Annotated[str | None, At('"a.b"."c[0]"')]
    first: Annotated[Decimal | None, At("lines[0].price"), Scale(2)]
    third: Annotated[str | None, At("lines[2].name")]
    cell: Annotated[float | None, At("grid[1][0]")]
    sent: Annotated[datetime | None, At("sentAt"), Epoch("ns")]
    seen: Annotated[datetime | None, At("event.seen"), Epoch("us")]
    plain: bool | None


nested = Source("nested", Nested, key="user", event_time="at", identity="id")
GOOD = {
    "id": '"x"',
    "user": "7",
    "at": "1709251200.5",
    "dotted": '"d"',
    "first": "1.5",
    "third": '"t"',
    "cell": "0.5",
    "sent": "1709251200123456789",
    "seen": '"2024-03-01T00:00:00Z"',
    "plain": "true",
}
PATHS = {c.name: c.path for c in nested.columns}
TIMES = [
    *("0", "-0", "1", "-1", "0.0000001", "-0.0000001", "-0.000001", "1709251200", "1709251200.123456789", "1709251200123", "1e9", "1.7e9", "17e8", "1e12", "1e18", "1e19", "-1e12"),
    *("253402300799", "253402300799.999999", "253402300799.9999999", "253402300800", "-62104060800", "-62104060801", "-62104060800.0000001", "1e-400", "-1e-400", "0e99999", "1" * 300, "0." + "9" * 300),
    *('"1709251200"', '"1709251200.5"', '"-1"', '"1e9"', '"+1"', '" 1"', '""', '"1."', '"2024-03-01T00:00:00Z"', '"2024-03-01"', '"20240301"', '"\\u0031709251200"', "true", "null", "[]", "{}", "1" * 4001),
    *("12345678901234567890123", "123456789.01234567890123456789", "-123456789.01234567890123456789", "9223372036854775807", "9223372036854775808", "-99999999999999999999e-10", "0.00000000000000000000000001e26"),
]  # fmt: skip
# What stands where an object or an array is declared.
INSTEAD = [
    "null",
    "{}",
    "[]",
    "1",
    '"x"',
    "true",
    "[[]]",
    "[null]",
    "[null,null,null,null]",
    '{"x":null}',
    "[{}]",
    "[1,2,3]",
    "[[],[]]",
    "[[1],[2],3]",
    '{"a":{"a":1}}',
    "[",
    "{",
    "nul",
    '"',
]
WHOLE = [
    *(b'{"event":{"id":"x"},"event":{"at":1}}', b'{"event":{"id":"x","user":1,"id":"y"}}', b'{"event":{"id":"x","\\u0069d":"y"}}', b'{"\\u0065vent":{"id":"x","context":{"user":{"id":1}},"at":1}}'),
    *(b'{"event":{"more":1,"more":1,"id":"x"}}', b'{"event":{"id":"x","at":1,"context":{"user":{"id":1,"x":[{"a":1,"a":2}]}}}}', b'{"event":{"id":"x","at":1,"context":{"user":{"id":1}}}} ', b'{"event" : { "id" : "x" , "at":1 , "context":{"user":{"id":1} } } , "lines" : [ ] }'),
    *(b'{"event":{"id":"x","at":1,"context":{"user":{"id":1}}},"lines":[{"price":1},2,{"name":"n"},{"price":[1,2,{"a":"b"}]}]}', b'{"event":{"id":"x","at":1,"context":{"user":{"id":1}}},"lines":[{"price":1,}]}', b'{"event":{"id":"x","at":1,"context":{"user":{"id":1}}},"grid":[[1],[2.5,3],[4]]}'),
    *(b'{"event":{"id":"x","at":1,"context":{"user":{"id":1}}},"grid":[[1],[2.5,3],[4],]}', b'{"event":{"id":"x","at":1,"context":{"user":{"id":1}}},"grid":[[1],[2.5,3}}', b'{"event":{"id":"x","at":1,"context":{"user":{"id":1}}},"a.b":{"c[0]":"z","c":1},"a":{"b":2}}', b'{"event":[{"id":"x"}]}'),
    *(b'{"event":{"id":"x","at":1,"context":{"user":{"id":1,"deep":' + b"[" * 60 + b"]" * 60 + b"}}}}", b'{"event":{"id":"x","at":1,"context":{"user":{"id":1,"deep":' + b"[" * 61 + b"]" * 61 + b"}}}}", b'{"event":' + b"{" * 10_000, b'{"lines":' + b"[" * 10_000),
]  # fmt: skip


def event(**texts: str) -> bytes:
    return ("{" + ",".join(members([(PATHS[name], text) for name, text in {**GOOD, **texts}.items()])) + "}").encode()


def all_differ(values: list[bytes | None], asked: Counter[str] | None = None) -> str:
    """How one of the three differs, "" when none does."""
    return three_differ(nested, values, asked)


def three_differ(source: Source, values: list[bytes | None], asked: Counter[str] | None = None) -> str:
    """The same for any source, of columns without constraints."""
    if told := differs(source, values, asked):
        return told
    decoded = decode(source, pa.array(values, pa.binary()))
    needed = [column.name for column in source.columns if not column.nullable]
    rows = dict(zip(decoded.rows.tolist(), range(len(decoded.rows)), strict=True))
    for n, value in enumerate(values):
        if value is None:
            continue
        try:
            wanted: dict[str, Any] | None = record_of(value, source.columns)
        except Invalid:
            wanted = None
        found = {name: column[rows[n]].as_py() for name, column in decoded.columns.items()} if n in rows else None
        required = found is not None and None not in [found[name] for name in needed]
        fine = not any(breach[rows[n]] for breach in decoded.breaches.values()) if n in rows else False
        if (wanted is not None) != (required and fine) or (wanted is not None and wanted != found):
            return f"{value!r}: {wanted}, by the parsers {found}"
    return ""


def test_values_at_paths_are_found_wherever_they_stand() -> None:
    found = decode(nested, pa.array([event()], pa.binary()))
    row = {name: column[0].as_py() for name, column in found.columns.items()}
    assert row["at"] == datetime(2024, 3, 1, 0, 0, 0, 500_000, tzinfo=UTC)
    assert row["sent"] == datetime(2024, 3, 1, 0, 0, 0, 123_456, tzinfo=UTC), "a nanosecond is floored"
    assert (row["id"], row["user"], row["dotted"], row["first"]) == ("x", 7, "d", Decimal("1.50"))
    assert (row["third"], row["cell"], row["plain"]) == ("t", 0.5, True)


def test_the_three_agree_whatever_stands_on_the_way() -> None:
    whole = event().decode()
    values: list[bytes | None] = [None, *WHOLE, event()]
    for path in {p[:depth] for p in PATHS.values() for depth in range(1, len(p) + 1)}:
        others = [(p, GOOD[name]) for name, p in PATHS.items() if p[: len(path)] != path]
        for text in INSTEAD:
            parts = [*others, (path, text)]
            values += [("{" + ",".join(members(order)) + "}").encode() for order in (parts, parts[::-1])]
    values += [event(**{name: text}) for name in ("at", "sent", "seen") for text in TIMES]
    values += [f'{whole[:-1]},"event":{text}}}'.encode() for text in INSTEAD]
    asked: Counter[str] = Counter()
    assert all_differ(values, asked) == ""
    assert asked["asked"] == 0, "a record was left to the other parser"


@pytest.mark.parametrize("seed", [2013])
def test_the_three_agree_on_fuzzed_nested_events(seed: int, say: Callable[[str], None]) -> None:
    print(f"seed {seed}")
    rng, asked = random.Random(seed), Counter[str]()
    for _ in range(0, FUZZED, 2500):
        values: list[bytes | None] = []
        for _ in range(2500):
            names = rng.sample(list(GOOD), rng.randint(6, len(GOOD)))
            texts = {
                name: rng.choice(TIMES) if name in ("at", "sent") and rng.random() < 0.4 else GOOD[name]
                for name in names
            }
            made = ("{" + ",".join(members([(PATHS[n], t) for n, t in texts.items()])) + "}").encode()
            values.append(mutated(made, rng) if rng.random() < 0.6 else made)
        assert all_differ(values, asked) == ""
    say(
        f"{asked['events']:,} fuzzed nested events, 0 differences; {asked['rejected']:,} rejected, {asked['asked']:,} left to the other parser"
    )
    assert 0.2 * FUZZED < asked["rejected"] < 0.9 * FUZZED and asked["asked"] < 0.02 * FUZZED


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.text(min_size=1, max_size=8) | st.integers(0, 9), min_size=1, max_size=6).filter(
        lambda p: isinstance(p[0], str)
    )
)
def test_a_path_is_what_it_is_shown_as(parts: list[str | int]) -> None:
    assert parse(shown(tuple(parts))) == tuple(parts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.",
        ".a",
        "a..b",
        "[0]",
        "a[x]",
        "a[-1]",
        "a[0",
        "a.[0]",
        'a"b"',
        "a[0]b",
        '"a',
        '"\\x"',
        "items[]",
        ".".join("a" * 64),
        "a[2147483648]",
        7,
    ],
)
def test_what_is_no_path_is_refused_with_what_is_allowed(text: Any) -> None:
    with pytest.raises(DefinitionError, match=r"At\("):
        At(text)


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        ({"a": ("x",), "b": ("x",)}, "'x' cannot be one value for both"),
        ({"a": ("x",), "b": ("x", "y")}, "a value and what contains others"),
        ({"a": ("x", "y"), "b": ("x",)}, "one value"),
        ({"a": ("x", 0), "b": ("x", "y")}, "an array and an object"),
        ({"a": ("x", "y"), "b": ("x", 0, "z")}, "an array and an object"),
    ],
)  # fmt: skip
def test_two_columns_that_cannot_both_be_are_refused_by_name(paths: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError, match=f"columns 'a' and 'b': .*{told}.*give one another At"):
        tree(paths)


def test_a_field_that_cannot_be_is_refused_at_its_line() -> None:
    @dataclass(frozen=True)
    class Wrong:
        id: str
        count: Annotated[int, Epoch("s")]

    with pytest.raises(DefinitionError, match=r"Epoch.*beside a column of type int; it is for datetime") as told:
        Source("t", Wrong, key="id", event_time="count", identity="id")
    assert "test_paths.py:" in str(told.value)
    with pytest.raises(DefinitionError, match="allowed are 's', 'ms', 'us', 'ns'"):
        Epoch("minutes")
