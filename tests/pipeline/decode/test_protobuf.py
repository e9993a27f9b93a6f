# ruff: noqa: E501 -- the corpus is a table
"""Protobuf read by the compiled parser, the record-by-record one, the plain reference and the library protobuf: one function.

    decode(values) = decode_records(values) = the reference's fields of each = ParseFromString of each        to the bit

The library may reject what nobody declared and so nobody looks at; and it takes varints of more than 64 bits, and deeper groups.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf.message import DecodeError

from pipeline import Protobuf, Source
from pipeline.decode.decoded import Decoded
from pipeline.decode.protobuf_blocks import decode
from pipeline.decode.protobuf_records import decode_records
from pipeline.decode.schemas import NoSchemas, Schemas
from pipeline.plain.json_text import Invalid
from pipeline.plain.validation import NOTHING_AROUND, rows_of
from tests.support.protobufs import (
    BROKEN,
    FLAT,
    GOOD,
    NESTED,
    PIECES,
    SOURCE,
    STRANGE,
    Payment,
    by_library,
    fixed,
    group,
    library,
    made,
    mutated,
    number,
    sized,
    varint,
    zigzag,
)

FUZZED = int(os.environ.get("WATERSHED_TEST_FUZZED", "100000"))
BLOCK = 5000
NOTHING = NoSchemas()
# Why we reject what the library takes, other than a value that its column cannot hold; it does not look at numbers inside of groups.
STRICTER = re.compile(r"a varint of more than 64 bits|nested deeper than 64|field number 0|\w+: invalid UTF-8")


def differs(
    source: Source,
    values: list[bytes | None],
    told: Counter[str] | None = None,
    schemas: Schemas = NOTHING,
    one: Decoded | None = None,
) -> str:
    """What the compiled parser and the record-by-record one make differently of the values; "" when nothing. `one`: the first's answer."""
    array = pa.array(values, pa.binary())
    one, other = one or decode(source, array, schemas), decode_records(source, array, schemas)
    if told is not None:
        told.update(events=len(values), asked=one.asked, rejected=len(one.rejected), tombstones=one.tombstones)
        told.update(
            "reason: " + re.sub(r"-?[\d.]+(e\+\d+)?|'.*'|(?<=: ).*(?= where)", "…", reason)[:48]
            for reason in other.reasons
        )
    assert one.tombstones == values.count(None) and len(one.rows) + len(one.rejected) + one.tombstones == len(values)
    if one.rows.tolist() != other.rows.tolist():
        row = sorted(set(one.rows.tolist()) ^ set(other.rows.tolist()))[0]
        return f"row {row}, {values[row]!r}: compiled {'takes' if row in one.rows else 'rejects'} it"
    if one.rejected.tolist() != other.rejected.tolist() or one.reasons != other.reasons:
        return f"rejected {one.rejected} {one.reasons}, by record {other.rejected} {other.reasons}"
    for name, column in other.columns.items():
        found = one.columns[name]
        found.validate(full=True)
        same = found.equals(column) and found.type == column.type
        if not same or (pa.types.is_floating(column.type) and repr(found.to_pylist()) != repr(column.to_pylist())):
            row = next(i for i in range(len(column)) if repr(found[i]) != repr(column[i]))
            return f"{name} of {values[other.rows[row]]!r}: compiled {found[row]!r}, by record {column[row]!r}"
        breach, wanted = one.breaches.get(name), other.breaches.get(name)
        if (breach is None) != (wanted is None) or (breach is not None and not np.array_equal(breach, wanted)):
            return f"{name}: breaches {breach}, by record {wanted}"
    return ""


def same(one: dict[str, Any] | None, other: dict[str, Any] | None, n: int) -> bool:
    """True when the rows are equal, and every 16th prints alike, too."""
    return one == other and (n % 16 > 0 or exactly(one) == exactly(other))


def exactly(row: dict[str, Any] | None) -> dict[str, tuple[str, str]] | None:
    """Values that print alike, of one type: 0.0 is not -0.0, nor 1 a "1"; a zone has many classes."""
    return None if row is None else {name: (type(value).__name__, str(value)) for name, value in row.items()}


def all_differ(source: Source, values: list[bytes | None], told: Counter[str] | None = None) -> str:
    """How one of the four differs, "" when none does."""
    told = Counter() if told is None else told
    decoded = decode(source, pa.array(values, pa.binary()), NOTHING)
    if found := differs(source, values, told, one=decoded):
        return found
    reasons = dict(zip(decoded.rejected.tolist(), decoded.reasons, strict=True))
    places = {row: n for n, row in enumerate(decoded.rows.tolist())}
    columns = {name: column.to_pylist() for name, column in decoded.columns.items()}
    required = [c.name for c in source.columns if not c.nullable]
    parse = library(source).FromString
    for n, value in enumerate(values):
        if value is None:
            continue
        found: Any = {name: column[places[n]] for name, column in columns.items()} if n in places else None
        breach = found is not None and any(mask[places[n]] for mask in decoded.breaches.values())
        kept = None if found is None or breach or any(found[name] is None for name in required) else found
        try:
            plain: Any = rows_of(value, source, NOTHING_AROUND)[0]
        except Invalid:
            plain = None
        if not same(plain, kept, n):
            return f"{value!r}: {plain} by the reference, {kept} by the parsers ({reasons.get(n)})"
        try:
            message = parse(value)
        except DecodeError:
            told["the library rejects what is not looked at"] += found is not None
            continue
        wanted = by_library(source, message)
        if n in reasons and STRICTER.match(reasons[n]):
            told["we are stricter"] += 1
        elif not same(wanted, None if breach else found, n):
            parts = [n for n in found or () if wanted and exactly({n: wanted[n]}) != exactly({n: found[n]})]
            return f"{parts} {value!r}: {wanted} by the library, {found} by the parsers ({reasons.get(n)})"
        else:
            told["as the library"] += wanted is not None
    return ""


WHOLE = b"".join(GOOD.values())


def without(field: int) -> bytes:
    return b"".join(piece for number, piece in GOOD.items() if number != field)


def test_every_field_is_found_as_its_column() -> None:
    found = decode(SOURCE, pa.array([WHOLE], pa.binary()), NOTHING)
    assert found.asked == 0 and found.rows.tolist() == [0], found.reasons
    row = {name: str(column[0].as_py()) for name, column in found.columns.items()}
    assert row == {
        "id": "p-1", "n": "42", "delta": "-3", "size": "9", "checksum": str(0x04030201), "offset": "513.0000", "maybe": "3.0", "ok": "True",
        "state": "DONE", "code": "5", "real": "0.1", "small": "0.10000000149011612", "at": "2024-03-01 00:00:00.123456+00:00", "price": "12.50",
        "name": "Ann", "city": "Bern", "second_line": "zwö", "sku": "sku-1", "last_count": "-5", "last_size": "-6", "mark": "3",
        "other_state": "DONE", "wide": "7", "wrapped": "4", "title": "title", "card": "4111", "iban": "None",
        "large": "2024-03-01 00:00:00+00:00", "sent": "2024-03-01 00:00:00.123456+00:00", "day": "2024-02-29",
    }  # fmt: skip


def test_a_missing_field_is_its_default_or_null_as_its_presence_says() -> None:
    found = decode(SOURCE, pa.array([b""], pa.binary()), NOTHING)
    row = {name: column[0].as_py() for name, column in found.columns.items()}
    defaults = {
        "id": "",
        "n": 0,
        "delta": 0,
        "size": 0,
        "checksum": 0,
        "offset": 0,
        "ok": False,
        "state": "NEW",
        "real": 0.0,
        "small": 0.0,
    }
    assert {name: row[name] for name in defaults} == defaults
    assert {str(row["large"]), str(row["sent"])} == {"1970-01-01 00:00:00+00:00"}, "an int is a time, and 0 is one"
    assert {name for name in row if row[name] is None} == set(row) - set(defaults) - {"large", "sent"}
    inside = decode(SOURCE, pa.array([sized(14, b"") + sized(17, b"")], pa.binary()), NOTHING).columns
    assert (inside["name"][0].as_py(), inside["city"][0].as_py(), inside["wrapped"][0].as_py()) == ("", None, 0)


def test_the_four_agree_on_every_piece_at_every_place() -> None:
    values: list[bytes | None] = [None, b"", WHOLE, *BROKEN, *STRANGE]
    for field, pieces in PIECES.items():
        for piece in pieces:
            values += [
                without(field) + piece,
                piece + without(field),
                WHOLE + piece,
                piece + WHOLE,
                piece,
                piece + piece,
            ]
    for piece in (*STRANGE, *BROKEN):
        values += [
            piece + WHOLE,
            WHOLE + piece,
            sized(14, piece) + without(14),
            without(15) + sized(15, piece),
            sized(99, piece) + WHOLE,
        ]
        values += [
            group(99, piece) + WHOLE,
            without(12) + sized(12, piece),
            WHOLE + sized(14, sized(2, piece)),
            sized(17, piece) + WHOLE,
        ]
    told: Counter[str] = Counter()
    assert all_differ(SOURCE, values, told) == ""
    assert told["as the library"] > 1000 and 200 < told["rejected"] < len(values) / 2, told


MERGED = [
    (sized(14, sized(1, b"Ann")) + sized(14, sized(2, sized(1, b"Bern"))), {"name": "Ann", "city": "Bern"}),
    (sized(14, sized(1, b"Ann")) + sized(14, sized(1, b"Bob")), {"name": "Bob"}),
    (sized(14, sized(2, sized(2, b"a"))) + sized(14, sized(2, sized(2, b"b"))), {"second_line": "b"}),
    (sized(12, number(1, 7)) + sized(12, number(2, 5000)), {"at": "1970-01-01 00:00:07.000005+00:00"}),
    (sized(12, number(1, 2**62)) + sized(12, number(1, 7)), {"at": "1970-01-01 00:00:07.123456+00:00"}),
    (number(4, 2**64 - 1) + number(4, 1), {"size": 1}),
    (sized(13, b"no number") + sized(13, b"2.5"), {"price": "2.50"}),
    (sized(19, b"4111") + sized(20, sized(1, b"CH93")), {"card": None, "iban": "CH93"}),
    (sized(20, sized(1, b"CH93")) + number(21, 1), {"card": None, "iban": None}),
    (sized(20, sized(1, b"CH93")) + number(21, 1) + sized(20, b""), {"iban": ""}),
    (sized(20, sized(1, b"CH93")) + sized(19, b"4111"), {"card": "4111", "iban": None}),
    (number(16, 1) + sized(16, b"\2\3") + number(16, 4), {"mark": 3}),
    (number(16, 1) + fixed(16, bytes(4)) + sized(16, b"\2"), {"mark": None}),
    (sized(15, b"") * 2 + sized(15, number(3, zigzag(5)[0]) + sized(3, zigzag(-6))), {"last_size": -6, "sku": ""}),
    (number(9, 2**32 + 1), {"state": "DONE"}),
]  # fmt: skip


@pytest.mark.parametrize(("message", "wanted"), MERGED, ids=lambda p: p.hex() if isinstance(p, bytes) else "")
def test_what_is_given_twice_is_what_protobuf_makes_of_it(message: bytes, wanted: dict[str, Any]) -> None:
    value = without(14).replace(GOOD[15], b"").replace(GOOD[16], b"").replace(GOOD[19], b"") + message
    assert all_differ(SOURCE, [value, WHOLE, value]) == ""
    found = decode(SOURCE, pa.array([value], pa.binary()), NOTHING).columns
    assert {name: str(found[name][0].as_py()) for name in wanted} == {name: str(v) for name, v in wanted.items()}


REASONS = [
    (b"\x08", "cut off: a varint of 1 bytes at byte 1 of 1"),
    (number(4, 2**63), "size: 9223372036854775808 is out of range for 64 bits with a sign"),
    (number(9, 7), "state: 7 is no number of the enumeration; it has REFUNDED, NEW, DONE, LOST"),
    (sized(1, b"a\0"), "id: text with U+0000, which Postgres cannot hold"),
    (sized(1, b"a\xff"), "id: invalid UTF-8 at byte 1 of it"),
    (fixed(10, bytes.fromhex("000000000000f87f")), "real: nan where a float is declared"),
    (sized(12, number(2, 10**9)), "at: 0 seconds and 1000000000 nanoseconds are no google.protobuf.Timestamp"),
    (sized(12, number(1, -62135596800)), "at: -62135596800 seconds from 1970 are out of range: allowed are the years 2 to 9999 in UTC"),
    (sized(13, b"x"), "price: 'x' is no decimal number"),
    (b"\x10" + b"\xff" * 10, "a varint of more than 64 bits at byte 11"),
    (b"\0\1", "field number 0 at byte 1"),
    (b"\x0e", "field 1 has wire type 6 at byte 1"),
    (b"\x0c", "field 1 has wire type 4 at byte 1"),
    (b"\x9b\6" * 10_000, "nested deeper than 64 levels"),
    (b"\x0a" + varint(2**62), "a varint of more than 32 bits at byte 6"),
    (b"\x0a\x05ab", "cut off: a value of 5 bytes at byte 2 of 4"),
    (group(4, varint(5 << 3 | 4)), "group 5 ends at byte 2, and another is open"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "reason"), REASONS, ids=[reason[:30] for _, reason in REASONS])
def test_a_rejected_message_says_what_is_wrong_with_it(message: bytes, reason: str) -> None:
    assert decode(SOURCE, pa.array([message], pa.binary()), NOTHING).reasons == [reason]


def test_a_decimal_finer_than_its_scale_is_a_breach_and_no_value() -> None:
    found = decode(
        SOURCE, pa.array([WHOLE + sized(13, b"1.255"), without(13) + sized(13, b"1.255"), WHOLE], pa.binary()), NOTHING
    )
    assert found.breaches["price"].tolist() == [True, True, False] and found.columns["price"].null_count == 2
    assert found.asked == 1, "the price that was given twice"


def test_a_record_alone_is_what_it_is_in_its_block() -> None:
    """What one message leaves behind in the kernel's memory must not reach the next."""
    rng = random.Random(7)
    values: list[bytes | None] = [made(rng) for _ in range(400)]
    block = decode(SOURCE, pa.array(values, pa.binary()), NOTHING)
    rows = [
        row
        for n, value in enumerate(values)
        for row in [n]
        if len(decode(SOURCE, pa.array([value], pa.binary()), NOTHING).rows)
    ]
    assert block.rows.tolist() == rows
    sliced = decode(SOURCE, pa.array([b"x", *values, None], pa.binary()).slice(1, 400), NOTHING)
    for name, column in block.columns.items():
        alone = [decode(SOURCE, pa.array([values[row]], pa.binary()), NOTHING).columns[name][0] for row in rows[:40]]
        assert alone == list(column[:40]) and sliced.columns[name].equals(column)


@pytest.mark.parametrize("seed", [2013])
def test_the_four_agree_on_a_hundred_thousand_made_and_broken_messages(seed: int, say: Callable[[str], None]) -> None:
    print(f"seed {seed}")
    rng, told = random.Random(seed), Counter[str]()
    for block in range(FUZZED // BLOCK):
        values: list[bytes | None] = [made(rng) if rng.random() < 0.999 else None for _ in range(BLOCK)]
        values = [mutated(v, rng) if v and rng.random() < 0.2 else v for v in values]
        assert all_differ((FLAT, NESTED)[block % 2], values, told) == ""
    reasons = ", ".join(f"{n:,} {name[8:]}" for name, n in told.most_common(45) if name.startswith("reason: "))
    others = ", ".join(f"{n:,} {name}" for name, n in told.items() if not name.startswith("reason: "))
    say(f"{others}; by reason: {reasons}; 0 differences")
    assert told["events"] == FUZZED and 0.15 * FUZZED < told["rejected"] < 0.6 * FUZZED, told
    assert told["as the library"] > 0.3 * FUZZED and 0 < told["asked"] < 0.3 * FUZZED


def test_the_columns_of_the_tests_are_of_every_type_that_fields_are_read_as() -> None:
    assert {c.type.kind for c in SOURCE.columns} >= {"int", "decimal", "float", "str", "bool", "datetime", "date"}
    assert isinstance(SOURCE.format, Protobuf) and SOURCE.record is Payment
