"""Types that are read in a second pass: what each takes and refuses, written out, and the two parsers held to each other.

decode(block) = decode_records(block)        to the bit, for every text, made and broken
"""

from __future__ import annotations

import dataclasses
import enum
import random
from datetime import datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import At, Default, FromText, Nullable, Precision, Scale, Source, Text
from pipeline.decode.json_blocks import decode
from pipeline.decode.json_records import decode_records
from tests.support.events import outcome
from tests.support.strategies import hints
from tests.support.strategies_values import texts

WIDE = Annotated[Decimal, Precision(38, 18)]
INT, BOOL, FLOAT = Annotated[int, FromText()], Annotated[bool, FromText()], Annotated[float, FromText()]
MONEY, SHORT = Annotated[Decimal, Scale(2), FromText()], Annotated[Decimal, Precision(5, 2)]
ID = "123e4567-e89b-12d3-a456-426614174000"


class Side(enum.StrEnum):
    BUY = "buy"
    SELL = "sell"


ACCEPTED: list[tuple[Any, str, Any]] = [
    (WIDE, "1e-18", Decimal("0.000000000000000001")),
    (WIDE, '"-99999999999999999999.999999999999999999"', Decimal("-99999999999999999999.999999999999999999")),
    (WIDE, "18446744073709551616", Decimal("18446744073709551616.000000000000000000")),
    (WIDE, "1" + "0" * 60 + "e-60", Decimal("1.000000000000000000")),
    (WIDE, "-0.0", Decimal("0.000000000000000000")),
    (Annotated[Decimal, Precision(38, 0)], "9" * 38, Decimal("9" * 38)),
    (Annotated[Decimal, Precision(38, 38)], "-1e-38", Decimal("-1E-38")),
    (SHORT, "999.99", Decimal("999.99")),
    (bytes, '""', b""),
    (bytes, '"d2F0ZXI="', b"water"),
    (bytes, '"+/+/"', b"\xfb\xff\xbf"),
    (bytes, '"YQ\\u003d="', b"a"),
    (UUID, f'"{ID}"', UUID(ID).bytes),
    (UUID, f'"{ID.upper()}"', UUID(ID).bytes),
    (time, '"00:00"', time(0)),
    (time, '"23:59:59.999999999"', time(23, 59, 59, 999_999)),
    (time, '"13:05:00.5"', time(13, 5, 0, 500_000)),
    (Side, '"sell"', "sell"),
    (Literal["a", "b"], '"b"', "b"),
    (Annotated[Side, Default(Side.BUY)], '"short"', "buy"),
    (Annotated[Side, Default(Side.BUY)], "null", "buy"),
    (Annotated[Literal["a"] | None, Nullable()], '"b"', None),
    *((INT, text, 12) for text in ("12", '"12"', '" 12\\t"', '"12.0"', '"1.2e1"', "1.2e1")),
    *((FLOAT, text, 0.1) for text in ("0.1", '"0.1"', '"\\n1e-1 "')),
    *((MONEY, text, Decimal("1.50")) for text in ("1.5", '"1.5"', '" 1.50 "')),
    (Annotated[Decimal, Precision(20, 2), FromText()], '" 1.50 "', Decimal("1.50")),
    *(
        (BOOL, t, True)
        for t in ("true", "1", "1.0", "10e-1", '"true"', '"T"', '"YES"', '"y"', '"on"', '" 1 "', '"\\u0074"')
    ),
    *((BOOL, t, False) for t in ("false", "0", "-0.0", "0e99", '"False"', '"f"', '"No"', '"N"', '"oFF"', '"0"')),
    *((Annotated[of | None, FromText()], text, None) for of in (int, float, bool) for text in ('""', '" "', "null")),
    (Annotated[int, FromText(), Default(7)], '""', 7),
    (Annotated[str, Text(strip="\x00")], '"a\\u0000b"', "ab"),
    (Annotated[str, Text(strip="\x00 ", case="upper")], '"\\u0000 a\\u00df"', "ASS"),
    (Annotated[str, Text(trim=True, case="lower")], '"\\u2003 ANN \\u00a0"', "ann"),
    (Annotated[str, Text(form="NFC")], '"e\\u0301"', "é"),
    (Annotated[str, Text(form="NFKD")], '"\\ufb01"', "fi"),
    (Annotated[str, Text(strip="-", case="lower", trim=True)], '"- A-B -"', "ab"),
]
REJECTED: list[tuple[Any, str, str]] = [
    (WIDE, "1e20", "x: 1e20 is out of range: |value| must be below 1e20"),
    (WIDE, "1e-19", "x: more decimals than Precision(38, 18)"),
    (WIDE, '"1,5"', "x: '1,5' is no decimal number"),
    (WIDE, "true", "x: true or false where a decimal is declared"),
    (SHORT, "1000", "x: 1000 is out of range: |value| must be below 1e3"),
    (SHORT, "0.001", "x: more decimals than Precision(5, 2)"),
    (bytes, '"d2F0ZXI"', "x: 'd2F0ZXI' is no base64 with padding, as d2F0ZXI="),
    (bytes, '"d2F0ZXJ="', "x: 'd2F0ZXJ=' is base64 with bits behind its last byte"),
    (bytes, "1", "x: a number where bytes are declared"),
    *(
        (UUID, f'"{text}"', f"x: {text!r} where a UUID is declared; allowed is 123e4567-e89b-12d3-a456-426614174000")
        for text in (ID.replace("-", ""), f"{{{ID}}}", ID[:-1], ID[:-1] + "g", "")
    ),
    *(
        (time, f'"{text}"', f"x: {text!r} where a time is declared; allowed is HH:MM[:SS[.f]], 00:00 to 23:59:59")
        for text in ("24:00", "23:59:60", "13:05Z", "13:05:00.1234567890", "1:05", "13")
    ),
    (Side, '"short"', "x: breaks OneOf(options=('buy', 'sell'))"),
    (Side, "1", "x: a number where text is declared"),
    (INT, '""', "x: null, or missing, where it is not allowed"),
    (INT, '"1,5"', "x: '1,5' where a number is declared, or its digits as text"),
    (INT, '"1.5"', "x: 1.5 is not whole"),
    (INT, '"9223372036854775808"', "x: 9223372036854775808 is out of range for 64 bits"),
    (FLOAT, '"1e309"', "x: 1e309 is out of range for a float"),
    (FLOAT, '"NaN"', "x: 'NaN' where a number is declared, or its digits as text"),
    (MONEY, '"0.001"', "x: more decimals than Scale(2)"),
    *(
        (
            BOOL,
            text,
            f"x: {shown} where a bool is declared; allowed are true, t, yes, y, on, 1 and false, f, no, n, off, 0",
        )
        for text, shown in (
            ("2", "2"),
            ("-1", "-1"),
            ("0.5", "0.5"),
            ('"maybe"', "'maybe'"),
            ('"1.0"', "'1.0'"),
            ('"ſ"', "'ſ'"),
        )
    ),
    (Annotated[str, Text(trim=True)], '"a\\u0000b"', "x: text with U+0000, which Postgres cannot hold"),
    (Annotated[str, Text(strip="\x00")], '"\\ud800"', "x: text with half a surrogate pair"),
    (Annotated[str, Text(strip="\x00")], "1", "x: a number where text is declared"),
]


@pytest.mark.parametrize(("hint", "text", "want"), ACCEPTED, ids=str)
def test_what_is_accepted_has_this_value(hint: Any, text: str, want: Any) -> None:
    found, reason = outcome(hint, text)
    assert (repr(found), reason) == (repr(want), None)


@pytest.mark.parametrize(("hint", "text", "want"), REJECTED, ids=str)
def test_what_is_rejected_has_this_reason(hint: Any, text: str, want: str) -> None:
    assert outcome(hint, text) == (None, want)


# ---------------------------------------------------------------- the two parsers


def both(source: Source, values: list[bytes]) -> None:
    """The block parser says of these records what the other one says of each."""
    array = pa.array(values, pa.binary())
    fast, slow = decode(source, array), decode_records(source, array)
    assert fast.rows.tolist() == slow.rows.tolist()
    assert fast.rejected.tolist() == slow.rejected.tolist()
    for name, column in slow.columns.items():
        fast.columns[name].validate(full=True)
        assert fast.columns[name].equals(column), name
    none = np.zeros(len(fast.rows), np.bool_)
    for name in slow.columns:
        assert fast.breaches.get(name, none).tolist() == slow.breaches.get(name, none).tolist(), name


def source_of(**columns: Any) -> Source:
    record = dataclasses.make_dataclass("Event", [("id", int), ("at", datetime), *columns.items()], frozen=True)
    return Source("events", record, key="id", event_time="at", identity=None)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(hints(), st.integers(0, 2**32))
def test_a_block_of_every_text_is_what_its_records_are(hint: Any, seed: int) -> None:
    source = source_of(x=hint)
    fields = [f', "x": {text}' if text else "" for text in texts(source.columns[2]).every]
    values = [f'{{"id": {n}, "at": 0{field}}}'.encode() for n, field in enumerate(fields)]
    random.Random(seed).shuffle(values)
    both(source, values)


EVERY = source_of(
    w=Annotated[Decimal | None, Precision(38, 18)],
    s=Annotated[Decimal | None, Precision(5, 2), FromText()],
    b=bytes | None,
    u=UUID | None,
    t=time | None,
    i=Annotated[int | None, FromText()],
    f=Annotated[float | None, FromText(), At("deep.f")],
    d=Annotated[Decimal | None, Scale(2), FromText()],
    o=Annotated[bool | None, FromText()],
    x=Annotated[str | None, Text(strip="\x00", form="NFC")],
)
PIECES = [
    '"',
    "\\",
    "\\u0000",
    "\\ud83d",
    "0",
    "9",
    "e",
    "-",
    ".",
    ":",
    "=",
    " ",
    "é",
    "A",
    "{",
    "}",
    ",",
    "null",
    "\\u0041",
    "Z",
]


def mutated(value: bytes, rng: random.Random) -> bytes:
    """The event with up to three bytes or pieces put in, taken out or changed."""
    for _ in range(rng.randint(0, 3)):
        at, piece = rng.randrange(len(value) + 1), rng.choice(PIECES).encode()
        value = value[:at] + rng.choice([piece, b"", piece]) + value[at + rng.randint(0, 2) :]
    return value


def fuzzed(rng: random.Random, count: int) -> list[bytes]:
    """Events of EVERY, made of good and broken texts, most of them broken a little more."""
    pools = {c.name: texts(c) for c in EVERY.columns[2:]}
    found = []
    for n in range(count):
        said = {}
        for name, pool in pools.items():
            good = rng.random() < 0.85
            said[name] = rng.choice(rng.choice(pool.good) if good else pool.every)
        deep = said.pop("f")
        fields = [f'"{name}": {text}' for name, text in said.items() if text and len(text) < 400]
        fields += [f'"deep": {{"f": {deep}}}'] if deep and len(deep) < 400 else []
        value = f'{{"id": {n}, "at": 0, {", ".join(fields)}}}'.encode()
        found.append(mutated(value, rng) if rng.random() < 0.5 else value)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_made_and_broken_events_are_read_alike(seed: int) -> None:
    both(EVERY, fuzzed(random.Random(seed), 1500))


def test_the_fuzz_reaches_values_of_every_type_and_rejections() -> None:
    found = decode(EVERY, pa.array(fuzzed(random.Random(0), 1500), pa.binary()))
    assert len(found.rejected) > 300
    assert all(column.null_count < len(column) - 50 for column in found.columns.values())
    assert sum(int(breach.sum()) for breach in found.breaches.values()) > 5
