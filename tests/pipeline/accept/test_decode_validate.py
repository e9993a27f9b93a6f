"""What is accepted and what is rejected, with the reason, written out: events as bytes in, rows and reasons out.

in = accepted + duplicates + rejected + tombstones
"""

import json
import resource
import time
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from pipeline import Between, Nullable, Scale
from pipeline.accept.accept import REJECTED_SCHEMA
from pipeline.decode.json_blocks import DEPTH_LIMIT, decode
from tests.support.events import AT, ingest, outcome, outcome_of_event, source_of, utc

DECIMAL = Annotated[Decimal, Scale(2)]


ACCEPTED: list[tuple[Any, str, Any]] = [
    # decimals: numbers or strings, trailing zeros aside
    (DECIMAL, "1.25", Decimal("1.25")),
    (DECIMAL, '"1.25"', Decimal("1.25")),
    (DECIMAL, "1.2500000", Decimal("1.25")),
    (DECIMAL, "1", Decimal("1.00")),
    (DECIMAL, "-0", Decimal("0.00")),
    (DECIMAL, "-0.00", Decimal("0.00")),
    (DECIMAL, "1.25e0", Decimal("1.25")),
    (DECIMAL, "125E-2", Decimal("1.25")),
    (DECIMAL, "1e+3", Decimal("1000.00")),
    (DECIMAL, "0e999999999", Decimal("0.00")),
    (DECIMAL, "9999999999999999.99", Decimal("9999999999999999.99")),
    (DECIMAL, "-9999999999999999.99", Decimal("-9999999999999999.99")),
    (DECIMAL, "0." + "0" * 3000, Decimal("0.00")),
    (DECIMAL, "0.1" + "0" * 3000, Decimal("0.10")),
    (Annotated[Decimal, Scale(12)], "0.000000000001", Decimal("0.000000000001")),
    (Annotated[Decimal, Scale(0)], "999999999999999999", Decimal(10**18 - 1)),
    (Annotated[Decimal, Scale(2)], "2.67", Decimal("2.67")),  # a double would be 2.66999...
    # ints
    (int, "9223372036854775807", 2**63 - 1),
    (int, "-9223372036854775808", -(2**63)),
    (int, "1.0", 1),
    (int, "1e3", 1000),
    (int, "-0", 0),
    # floats
    (float, "0.1", 0.1),
    (float, "-0.0", 0.0),
    (float, "-0", 0.0),
    (float, "1", 1.0),
    (float, "9007199254740993", 9007199254740992.0),
    (float, "1e-400", 0.0),
    (float, "5e-324", 5e-324),
    (float, "1.7976931348623157e308", 1.7976931348623157e308),
    # text
    (str, '""', ""),
    (str, '"a\\nb"', "a\nb"),
    (str, '"\\u00e9"', "é"),
    (str, '"\\ud83c\\udf27"', "\U0001f327"),
    (str, '"null"', "null"),
    (bool, "true", True),
    (bool, "false", False),
    (date, '"2012-02-29"', date(2012, 2, 29)),
    (date, '"0001-01-01"', date(1, 1, 1)),
    (date, '"9999-12-31"', date(9999, 12, 31)),
    # times: ISO 8601 with a zone, or epoch milliseconds
    (datetime, '"2013-01-31T13:05:00Z"', utc(2013, 1, 31, 13, 5)),
    (datetime, '"2013-01-31t13:05:00z"', utc(2013, 1, 31, 13, 5)),
    (datetime, '"2013-01-31 13:05:00+00:00"', utc(2013, 1, 31, 13, 5)),
    (datetime, '"2013-01-31T13:05Z"', utc(2013, 1, 31, 13, 5)),
    (datetime, '"2013-01-31T13:05:00.123456Z"', utc(2013, 1, 31, 13, 5, 0, 123456)),
    (datetime, '"2013-01-31T13:05:00.5Z"', utc(2013, 1, 31, 13, 5, 0, 500000)),
    (datetime, '"2013-01-31T13:05:00.123456000Z"', utc(2013, 1, 31, 13, 5, 0, 123456)),
    (datetime, '"2013-01-31T13:05:00+05:30"', utc(2013, 1, 31, 7, 35)),
    (datetime, '"2013-01-31T13:05:00-0500"', utc(2013, 1, 31, 18, 5)),
    (datetime, '"2013-01-31T13:05:00+05"', utc(2013, 1, 31, 8, 5)),
    (datetime, "1359637500000", utc(2013, 1, 31, 13, 5)),
    (datetime, "1359637500000.0", utc(2013, 1, 31, 13, 5)),
    (datetime, "-1", utc(1969, 12, 31, 23, 59, 59, 999000)),
    (datetime, "0", utc(1970, 1, 1)),
    (datetime, '"9999-12-31T23:59:59.999999Z"', utc(9999, 12, 31, 23, 59, 59, 999999)),
    (datetime, '"0002-01-01T00:00:00Z"', utc(2, 1, 1)),
    (datetime, "253402300799999", utc(9999, 12, 31, 23, 59, 59, 999000)),
    # null where it is allowed
    (int | None, "null", None),
    (Annotated[Decimal | None, Scale(2)], "null", None),
]

REJECTED: list[tuple[Any, str, str]] = [
    # numbers out of range, or over the scale
    (DECIMAL, "1.255", "x: more decimals than Scale(2)"),
    (DECIMAL, '"1.255"', "x: more decimals than Scale(2)"),
    (DECIMAL, "1e-3", "x: more decimals than Scale(2)"),
    (DECIMAL, "1e-999999999", "x: more decimals than Scale(2)"),
    (DECIMAL, "0." + "0" * 50 + "1", "x: more decimals than Scale(2)"),
    (DECIMAL, "10000000000000000", "x: 10000000000000000 is out of range: |value| must be below 1e16"),
    (DECIMAL, "1e999999999", "x: 1e999999999 is out of range: |value| must be below 1e16"),
    (DECIMAL, "1" * 4001, "x: a number of 4001 characters is out of range"),
    (int, "9223372036854775808", "x: 9223372036854775808 is out of range for 64 bits"),
    (int, "-9223372036854775809", "x: -9223372036854775809 is out of range for 64 bits"),
    (int, "99999999999999999999", "x: 99999999999999999999 is out of range for 64 bits"),
    (int, "1e30", "x: 1e30 is out of range: |value| must be below 1e20"),
    (int, "1.5", "x: 1.5 is not whole"),
    (float, "1e309", "x: 1e309 is out of range for a float"),
    (float, "-1e309", "x: -1e309 is out of range for a float"),
    (float, "1" * 4001, "x: a number of 4001 characters is out of range"),
    # NaN and Infinity
    (float, "NaN", "NaN is no JSON value"),
    (float, "Infinity", "Infinity is no JSON value"),
    (float, "-Infinity", "-Infinity is no JSON value"),
    (float, '"NaN"', "x: text where a float is declared"),
    (DECIMAL, '"NaN"', "x: 'NaN' is no decimal number"),
    (DECIMAL, '"Infinity"', "x: 'Infinity' is no decimal number"),
    # wrong types; numbers as strings are for decimals alone
    (int, '"1"', "x: text where an int is declared"),
    (float, '"1.5"', "x: text where a float is declared"),
    (int, "true", "x: true or false where an int is declared"),
    (int, "[1]", "x: an array where an int is declared"),
    (int, '{"a": 1}', "x: an object where an int is declared"),
    (DECIMAL, "true", "x: true or false where a decimal is declared"),
    (DECIMAL, "[]", "x: an array where a decimal is declared"),
    (DECIMAL, '""', "x: '' is no decimal number"),
    (DECIMAL, '" 1"', "x: ' 1' is no decimal number"),
    (DECIMAL, '"1,5"', "x: '1,5' is no decimal number"),
    (DECIMAL, '"+1"', "x: '+1' is no decimal number"),
    (DECIMAL, '"01"', "x: '01' is no decimal number"),
    (DECIMAL, '"1."', "x: '1.' is no decimal number"),
    (DECIMAL, '"0x10"', "x: '0x10' is no decimal number"),
    (DECIMAL, '"1_000"', "x: '1_000' is no decimal number"),
    (DECIMAL, '"\\u0661"', "x: '\u0661' is no decimal number"),  # an Arabic digit, which Python's int() would take
    (str, "1", "x: a number where text is declared"),
    (str, "1.5", "x: a number where text is declared"),
    (str, "true", "x: true or false where text is declared"),
    (str, '"a\\u0000b"', "x: text with U+0000, which Postgres cannot hold"),
    (str, '"\\ud83c"', "x: text with half a surrogate pair"),
    (bool, "1", "x: a number where a bool is declared"),
    (bool, '"true"', "x: text where a bool is declared"),
    (date, '"2013-02-29"', "x: '2013-02-29' is no date: day is out of range for month"),
    (date, '"2013-1-1"', "x: '2013-1-1' where a date is declared; allowed is YYYY-MM-DD"),
    (date, '"2013-01-01T00:00:00Z"', "x: '2013-01-01T00:00:00Z' where a date is declared; allowed is YYYY-MM-DD"),
    (date, "15706", "x: 15706 where a date is declared; allowed is YYYY-MM-DD"),
    # times without a zone, beyond the years, and no times
    (
        datetime,
        '"2013-01-31T13:05:00"',
        "x: '2013-01-31T13:05:00' has no zone; write Z or +hh:mm behind it, or declare Zone(...) where it is local",
    ),
    (datetime, '"2013-01-31"', "x: '2013-01-31' is no ISO 8601 timestamp, as 2013-01-31T13:05:00Z"),
    (datetime, '"1359637500000"', "x: '1359637500000' is no ISO 8601 timestamp, as 2013-01-31T13:05:00Z"),
    (
        datetime,
        '"9999-12-31T23:59:59-00:01"',
        "x: '9999-12-31T23:59:59-00:01' is out of range: allowed are the years 2 to 9999 in UTC",
    ),
    (
        datetime,
        '"0001-12-31T23:59:59Z"',
        "x: '0001-12-31T23:59:59Z' is out of range: allowed are the years 2 to 9999 in UTC",
    ),
    (datetime, '"0000-01-01T00:00:00Z"', "x: '0000-01-01T00:00:00Z' is no time: year 0 is out of range"),
    (
        datetime,
        '"10000-01-01T00:00:00Z"',
        "x: '10000-01-01T00:00:00Z' is no ISO 8601 timestamp, as 2013-01-31T13:05:00Z",
    ),
    (datetime, "253402300800000", "x: 253402300800000 is out of range: allowed are the years 2 to 9999 in UTC"),
    (datetime, "1e18", "x: 1e18 is out of range: |value| must be below 1e18"),
    (
        datetime,
        "1359637500000.5",
        "x: 1359637500000.5 is no whole number of epoch milliseconds; a time with decimals is one of Epoch(...)",
    ),
    (datetime, '"2013-01-31T24:00:00Z"', "x: '2013-01-31T24:00:00Z' is no time: hour must be in 0..23"),
    (
        datetime,
        '"2012-06-30T23:59:60Z"',
        "x: '2012-06-30T23:59:60Z' has a second 60; Lenient() takes it as the next minute's 0",
    ),
    (datetime, '"2013-01-31T13:05:00+24:00"', "x: '2013-01-31T13:05:00+24:00' has a zone beyond 23:59"),
    (
        datetime,
        '"\\u0662013-01-31T13:05:00Z"',
        "x: '\u0662013-01-31T13:05:00Z' is no ISO 8601 timestamp, as 2013-01-31T13:05:00Z",
    ),
    (datetime, "true", "x: true or false where a datetime is declared"),
    # null where it is not allowed
    (int, "null", "x: null, or missing, where it is not allowed"),
    (DECIMAL, "null", "x: null, or missing, where it is not allowed"),
    (str, "null", "x: null, or missing, where it is not allowed"),
]


def shown(case: Any) -> str:
    return str(case)[:50]


@pytest.mark.parametrize(("hint", "text", "want"), ACCEPTED, ids=shown)
def test_a_value_is_accepted_as_its_rule_says(hint: Any, text: str, want: Any) -> None:
    got, reason = outcome(hint, text)
    assert reason is None
    assert got == want
    if isinstance(want, float):
        assert np.signbit(got) == np.signbit(want)


@pytest.mark.parametrize(("hint", "text", "want"), REJECTED, ids=shown)
def test_a_value_is_rejected_with_its_reason(hint: Any, text: str, want: str) -> None:
    got, reason = outcome(hint, text)
    assert reason is not None, f"accepted as {got!r}"
    assert reason == want


GOOD = f'{{"id": "1", "at": {AT}, "x": 1}}'.encode()


@pytest.mark.parametrize(
    "value",
    [
        GOOD,
        b" \t\r\n" + GOOD + b"\n",
        GOOD.replace(b"}", b', "unknown": {"deep": [1, {"x": null}]}}'),
        GOOD.replace(b"}", b', "unknown": "\\ud83c"}'),
        GOOD.replace(b"}", b', "unknown": 1e999999}'),
        GOOD.replace(b"}", b', "unknown": ' + b"9" * 5000 + b"}"),
        GOOD.replace(b'"x"', b'"\\u0078"'),
        GOOD.replace(b"}", b', "u": ' + b"[" * (DEPTH_LIMIT - 1) + b"]" * (DEPTH_LIMIT - 1) + b"}"),
        GOOD.replace(b"}", b', "u": "' + b"[" * 500 + b'\\"{"}'),
        GOOD.replace(b"}", ', "\u00e9": "\U0001f327"}'.encode()),
    ],
    ids=lambda v: repr(v[-40:]),
)
def test_an_event_is_accepted_whatever_else_it_carries(value: bytes) -> None:
    assert outcome_of_event(int, value) == (1, None)


BROKEN_EVENTS: list[tuple[bytes, str]] = [
    (b"", "empty value"),
    (b" ", "broken JSON: Expecting value at character 1"),
    (GOOD[:-1], "broken JSON: Expecting ',' delimiter at character"),
    (b"{", "broken JSON: Expecting property name enclosed in double quotes at character 1"),
    (GOOD + b"x", "broken JSON: Extra data at character"),
    (GOOD + GOOD, "broken JSON: Extra data at character"),
    (GOOD.replace(b"}", b",}"), "broken JSON: "),
    (GOOD.replace(b'"x": 1', b'"x": 01'), "broken JSON: "),
    (GOOD.replace(b'"x": 1', b'"x": +1'), "broken JSON: Expecting value"),
    (GOOD.replace(b'"x": 1', b'"x": .5'), "broken JSON: Expecting value"),
    (GOOD.replace(b'"x": 1', b'"x": 1.'), "broken JSON: "),
    (GOOD.replace(b'"', b"'"), "broken JSON: Expecting property name"),
    (GOOD.replace(b'"1"', b'"a\nb"'), "broken JSON: Invalid control character"),
    (GOOD.replace(b'"1"', b'"\\x41"'), "broken JSON: Invalid \\escape"),
    (GOOD + b"\x00", "broken JSON: Extra data"),
    (b"\xef\xbb\xbf" + GOOD, "broken JSON: Expecting value at character 0"),  # a byte order mark
    (GOOD.replace(b'"1"', b'"\xff"'), "invalid UTF-8 at byte 8"),
    (GOOD.replace(b'"1"', b'"\xed\xa0\x80"'), "invalid UTF-8 at byte 8"),  # a surrogate, encoded
    (GOOD.replace(b'"1"', b'"\xc0\x80"'), "invalid UTF-8 at byte 8"),  # an overlong NUL
    (GOOD.decode().encode("utf-16"), "invalid UTF-8 at byte 0"),
    (b"[" + GOOD + b"]", "the event is no JSON object"),
    (b"null", "the event is no JSON object"),
    (b"1", "the event is no JSON object"),
    (b'"text"', "the event is no JSON object"),
    (b"NaN", "NaN is no JSON value"),
    (GOOD.replace(b"}", b', "u": NaN}'), "NaN is no JSON value"),
    (GOOD.replace(b"}", b', "x": 1}'), "x: x stands there twice"),
    (GOOD.replace(b"}", b', "\\u0078": 2}'), "x: x stands there twice"),
    (GOOD.replace(b"}", b', "u": ' + b"[" * DEPTH_LIMIT + b"]" * DEPTH_LIMIT + b"}"), "nested deeper than 64 levels"),
    (b"[" * 100_000, "nested deeper than 64 levels"),
    (b'{"a":' * 100_000, "nested deeper than 64 levels"),
    (f'{{"id": "1", "at": {AT}}}'.encode(), "x: null, or missing, where it is not allowed"),
    (f'{{"at": {AT}, "x": 1}}'.encode(), "id: null, or missing, where it is not allowed"),
    (b'{"id": "1", "x": 1}', "at: null, or missing, where it is not allowed"),
    (b"{}", "id: null, or missing, where it is not allowed"),
    (f'{{"id": 1, "at": {AT}, "x": "a"}}'.encode(), "id: a number where text is declared"),
]


@pytest.mark.parametrize(("value", "want"), BROKEN_EVENTS, ids=lambda v: repr(v[:30]))
def test_a_broken_event_is_rejected_with_its_reason(value: bytes, want: str) -> None:
    got, reason = outcome_of_event(int, value)
    assert reason is not None, f"accepted as {got!r}"
    assert reason.startswith(want)


def test_a_block_of_everything_gives_each_record_its_own_outcome() -> None:
    """Broken records beside good ones change nothing for their neighbours, and every record is accounted for."""
    values: list[bytes | None] = [None]
    for number, (value, _) in enumerate(BROKEN_EVENTS):
        values += [value, GOOD.replace(b'"1"', f'"n{number}"'.encode()), None]
    got = ingest(source_of(int), [*values, GOOD, GOOD])
    assert (got.counts.accepted, got.counts.rejected) == (len(BROKEN_EVENTS) + 1, len(BROKEN_EVENTS))
    assert (got.counts.duplicates, got.counts.tombstones) == (1, len(BROKEN_EVENTS) + 1)
    assert got.counts.records == len(values) + 2
    assert got.accepted.column("x").to_pylist() == [1] * got.counts.accepted
    assert got.rejected.schema.equals(REJECTED_SCHEMA)
    wanted = zip(got.rejected.to_pylist(), BROKEN_EVENTS, strict=True)
    assert all(row["value"] == value and row["reason"].startswith(reason) for row, (value, reason) in wanted)
    offsets = got.rejected.column("offset").to_pylist()
    assert offsets == sorted(offsets)


def test_a_block_of_tombstones_alone_and_one_without_records() -> None:
    assert ingest(source_of(int), [None, None]).counts.tombstones == 2
    empty = ingest(source_of(int), [])
    assert (empty.counts.records, empty.accepted.num_rows, empty.rejected.num_rows, empty.witness) == (0, 0, 0, None)


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (b'{"id": "1", "at": ' + AT.encode() + b', "x": "' + b"\xc3\xa9" * 2_500_000 + b'"}', None),
        (b'{"id": "1", "at": ' + AT.encode() + b', "x": "' + b"[" * 5_000_000 + b'"}', None),
        (b'{"id": "1", "at": ' + AT.encode() + b', "x": "a", "u": [' + b"[]," * 1_700_000 + b"0]}", None),
        (b'{"id": "1", "at": ' + AT.encode() + b', "x": "' + b"[" * 5_000_000, "broken JSON: Unterminated string"),
        (b"\\" * 5_000_000, "broken JSON: Expecting value at character 0"),
        (b"[" * 5_000_000, "nested deeper than 64 levels"),
        (b'"[' * 2_500_000, ""),
        (b'{"x": ' + b"1" * 5_000_000 + b"}", "x: text where"),
    ],
    ids=["text", "brackets in text", "many arrays", "unterminated", "backslashes", "deep", "quotes", "digits"],
)
def test_values_of_5_mb_are_judged_in_bounded_time_and_memory(value: bytes, want: str | None) -> None:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    got, reason = outcome_of_event(str, value)
    assert time.process_time() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024  # KiB
    if want is None:
        assert reason is None
        assert len(got) in (1, 2_500_000, 5_000_000)
    else:
        assert reason is not None
        assert len(reason) < 200


# --- properties --------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("id", "at", "x", "u")) | st.text(), inner, max_size=5)
    ),
    max_leaves=8,
)
EVENTS = st.one_of(
    st.none(),
    st.binary(max_size=30),
    JSON.map(lambda v: json.dumps(v).encode()),
    st.fixed_dictionaries({"id": st.text(max_size=2), "at": st.integers(-(10**13), 10**13), "x": JSON}).map(
        lambda v: json.dumps(v).encode()
    ),
    st.sampled_from([GOOD, *(value for value, _ in BROKEN_EVENTS if len(value) < 1000)]),
)
X = [int, float, str, bool, date, datetime, DECIMAL, Annotated[Decimal | None, Scale(2), Between(0, 1), Nullable()]]


@settings(max_examples=200, deadline=None, database=None)
@given(values=st.lists(EVENTS, max_size=12), hint=st.sampled_from(X))
def test_whatever_comes_every_record_is_accounted_for(values: list[bytes | None], hint: Any) -> None:
    got = ingest(source_of(hint), values)
    got.accepted.validate(full=True)
    got.rejected.validate(full=True)
    assert got.counts.records == len(values)
    assert (got.counts.accepted, got.counts.rejected) == (got.accepted.num_rows, got.rejected.num_rows)
    assert got.counts.tombstones == values.count(None)
    assert all(got.rejected.column("reason").to_pylist())


@settings(max_examples=200, deadline=None, database=None)
@given(values=st.lists(EVENTS, max_size=10), hint=st.sampled_from(X))
def test_a_block_decodes_as_its_records_do_one_by_one(values: list[bytes | None], hint: Any) -> None:
    source = source_of(hint)
    block = decode(source, pa.array(values, pa.binary()))
    alone = [decode(source, pa.array([value], pa.binary())) for value in values]
    assert block.rows.tolist() == [i for i, d in enumerate(alone) if len(d.rows)]
    assert block.rejected.tolist() == [i for i, d in enumerate(alone) if len(d.rejected)]
    assert block.reasons == [reason for d in alone for reason in d.reasons]
    for name, column in block.columns.items():
        assert column.to_pylist() == [cell for d in alone for cell in d.columns[name].to_pylist()]


@settings(max_examples=120, deadline=None, database=None)
@given(
    unscaled=st.integers(1 - 10**18, 10**18 - 1),
    scale=st.integers(0, 12),
    zeros=st.integers(0, 9),
    power=st.integers(-25, 25),
)
def test_every_way_to_write_a_decimal_is_the_same_decimal(unscaled: int, scale: int, zeros: int, power: int) -> None:
    value = Decimal(unscaled).scaleb(-scale)
    hint = Annotated[Decimal, Scale(scale)]
    digits = Decimal((int(unscaled < 0), tuple(map(int, str(abs(unscaled) * 10**zeros))), -scale - zeros - power))
    for text in (f"{value:f}", f'"{value:f}"', f"{digits:f}e{power}", f"{digits:f}E{power:+d}"):
        assert outcome(hint, text) == (value, None)
