"""Types and constraints of the reference; every expectation is written by hand from the rules of f."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import pytest

from pipeline import Between, Clip, Default, Length, Nullable, OneOf, Pattern, Scale
from pipeline.definition.record import columns
from pipeline.plain.json_text import Invalid
from pipeline.plain.validation import record_of
from pipeline.plain.values import decimal_of


def given(hint: Any, text: str | None) -> Any:
    """The value of the one column `x`, declared as `hint`, in the event {"x": text}; None leaves the field out."""
    record = dataclasses.make_dataclass("R", [("x", hint)])
    return record_of((f'{{"x": {text}}}' if text is not None else "{}").encode(), columns(record))["x"]


def rejected(hint: Any, text: str | None) -> bool:
    try:
        given(hint, text)
    except Invalid as reason:
        assert str(reason)
        return True
    return False


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-0", 0),
        ("-0.0e7", 0),
        ("1.0", 1),
        ("1e2", 100),
        ("12.50e1", 125),
        ("100e-2", 1),
        ("-7.000", -7),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("922337203685477580.7e1", 2**63 - 1),
        ("9007199254740993", 9007199254740993),
        ("0e999999999", 0),
        ("0." + "0" * 3000, 0),
        ("1" + "0" * 3000 + "e-3000", 1),
    ],
)
def test_an_int_is_a_number_with_a_whole_value(text: str, value: int) -> None:
    found = given(int, text)
    assert found == value and type(found) is int


@pytest.mark.parametrize(
    "text",
    [
        "9223372036854775808",
        "-9223372036854775809",
        "1e19",
        "0.5",
        "1e-1",
        "100e-3",
        "true",
        '"1"',
        "null",
        "[]",
        "{}",
        None,
        "1e999999999",
        "1e-999999999",
        "9" * 4001,
        "0." + "0" * 4000,
        "1e" + "9" * 3000,
        "-1e" + "0" * 3990 + "19",
    ],
)
def test_no_int_else(text: str | None) -> None:
    assert rejected(int, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", "0x1.0000000000000p+0"),
        ("0.1", "0x1.999999999999ap-4"),
        ("9007199254740993", "0x1.0000000000000p+53"),  # a tie: to even
        ("9007199254740993.000000001", "0x1.0000000000001p+53"),  # just above it
        ("-0.0", "0x0.0p+0"),
        ("-0", "0x0.0p+0"),
        ("-1e-999999999", "0x0.0p+0"),
        ("5e-324", "0x0.0000000000001p-1022"),
        ("1.7976931348623157e308", "0x1.fffffffffffffp+1023"),
        ("1.7976931348623158e308", "0x1.fffffffffffffp+1023"),
    ],
)
def test_a_float_is_the_nearest_double(text: str, value: str) -> None:
    assert given(float, text).hex() == value


@pytest.mark.parametrize(
    "text", ["1.7976931348623159e308", "-1e309", "1e999999999", '"1"', "true", "NaN", "1." + "0" * 4000, "[1]", None]
)
def test_no_float_else(text: str | None) -> None:
    assert rejected(float, text)


CENTS = Annotated[Decimal, Scale(2)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1", "1.00"),
        ("1.5", "1.50"),
        ("-1.25", "-1.25"),
        ("1.2500000", "1.25"),
        ("125e-2", "1.25"),
        ("0.000125e4", "1.25"),
        ('"1.25"', "1.25"),
        ('"-1.2e1"', "-12.00"),
        ("-0.0", "0.00"),
        ("0e-999999999", "0.00"),
        ("9999999999999999.99", "9999999999999999.99"),
        ("-9999999999999999.99", "-9999999999999999.99"),
        ("0.1", "0.10"),
        ("100000000000000000000e-10", "10000000000.00"),
    ],
)
def test_a_decimal_is_exact_and_has_the_exponent_of_its_scale(text: str, shown: str) -> None:
    assert str(given(CENTS, text)) == shown


@pytest.mark.parametrize("text", ["0.001", "1.255", '"0.005"', "1e-3", "1e-999999999", "9999999999999999.999"])
def test_more_decimals_than_the_scale_break_it_and_a_remedy_mends_that(text: str) -> None:
    assert rejected(CENTS, text)
    assert rejected(Annotated[Decimal, Scale(2), Between(0, 10), Clip()], text)
    assert given(Annotated[Decimal | None, Scale(2), Nullable()], text) is None
    assert given(Annotated[Decimal, Scale(2), Default(7)], text) == Decimal(7)


@pytest.mark.parametrize(
    "text",
    [
        "1e16",
        "10000000000000000",
        "-1e16",
        "10000000000000000.001",
        "1e999999999",
        "9" * 4001,
        f'"{"9" * 4001}"',
        "true",
        "[]",
        '""',
        '" 1"',
        '"1 "',
        '"+1"',
        '"01"',
        '"1."',
        '".5"',
        '"1_0"',
        '"NaN"',
        '"Infinity"',
        '"1,5"',
        '"٣"',
        '"0x1"',
        '"1\\n"',
    ],
)
def test_what_is_no_decimal_of_the_type_is_rejected_whatever_the_remedy(text: str) -> None:
    assert rejected(CENTS, text)
    assert rejected(Annotated[Decimal | None, Scale(2), Nullable()], text)
    assert rejected(Annotated[Decimal | None, Scale(2), Default(7)], text)


def test_a_str_is_any_text_but_u0000_and_half_surrogates() -> None:
    assert given(str, '"\\u0061\\ud834\\udd1e\\n"') == "a\U0001d11e\n"
    assert given(str, '""') == ""
    assert given(str, '"\uffff\u0001"'.replace("\u0001", "\\u0001")) == "\uffff\u0001"
    assert len(given(str, f'"{"x" * 5_000_000}"')) == 5_000_000
    for text in ('"\\u0000"', '"a\\ud834"', '"\\udd1e\\ud834"', "1", "true", "[]", "{}", "null"):
        assert rejected(str, text), text


def test_a_bool_is_true_or_false() -> None:
    assert given(bool, "true") is True and given(bool, "false") is False
    assert all(rejected(bool, text) for text in ("0", "1", '"true"', "null", "[]"))


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"2013-01-02T03:04:05Z"', utc(2013, 1, 2, 3, 4, 5)),
        ('"2013-01-02t03:04:05z"', utc(2013, 1, 2, 3, 4, 5)),
        ('"2013-01-02 03:04Z"', utc(2013, 1, 2, 3, 4)),
        ('"2013-01-02T03:04:05.5+01:30"', utc(2013, 1, 2, 1, 34, 5, 500_000)),
        ('"2013-01-02T03:04:05.123456000-0130"', utc(2013, 1, 2, 4, 34, 5, 123_456)),
        ('"2013-01-02T03:04:05.' + "0" * 5000 + '+05"', utc(2013, 1, 1, 22, 4, 5)),
        ('"2013-01-02T23:59:59.999999-23:59"', utc(2013, 1, 3, 23, 58, 59, 999_999)),
        ('"1969-12-31T23:59:59.999999Z"', utc(1969, 12, 31, 23, 59, 59, 999_999)),
        ('"0002-01-01T00:00:00Z"', utc(2, 1, 1)),
        ('"0001-12-31T23:00:00-01:00"', utc(2, 1, 1)),
        ('"9999-12-31T23:59:59.999999Z"', utc(9999, 12, 31, 23, 59, 59, 999_999)),
        ('"9999-12-31T23:59:59.9999999Z"', utc(9999, 12, 31, 23, 59, 59, 999_999)),
        ('"2013-01-02T03:04:05,5Z"', utc(2013, 1, 2, 3, 4, 5, 500_000)),
        ('"1969-12-31T23:59:59.999999999Z"', utc(1969, 12, 31, 23, 59, 59, 999_999)),
        ('"2013-01-02T03:04:05 UTC"', utc(2013, 1, 2, 3, 4, 5)),
        ('"2012-02-29T00:00Z"', utc(2012, 2, 29)),
        ("0", utc(1970, 1, 1)),
        ("-1", utc(1969, 12, 31, 23, 59, 59, 999_000)),
        ("1357095845123.0", utc(2013, 1, 2, 3, 4, 5, 123_000)),
        ("1.5e3", utc(1970, 1, 1, 0, 0, 1, 500_000)),
        ("-62104060800000", utc(2, 1, 1)),
        ("253402300799999", utc(9999, 12, 31, 23, 59, 59, 999_000)),
    ],
)
def test_a_datetime_is_an_iso_time_with_a_zone_or_epoch_milliseconds(text: str, value: datetime) -> None:
    found = given(datetime, text)
    assert found == value and found.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    [
        *('"2013-01-02T03:04:05"', '"2013-01-02"', '"2013-01-02T03Z"', '"20130102T030405Z"', '"2013-1-2T03:04:05Z"'),
        *('"2013-02-29T00:00Z"', '"2013-13-01T00:00Z"', '"2013-01-00T00:00Z"', '"2013-01-02T24:00:00Z"'),
        *('"2013-01-02T23:60:00Z"', '"2013-01-02T23:59:60Z"', '"2013-01-02T03:04:05.Z"'),
        *('"2013-01-02T03:04.5Z"', '"2013-01-02T03:04:05+24:00"'),
        *(
            '"2013-01-02T03:04:05+00:60"',
            '"2013-01-02T03:04:05+1"',
            '"2013-01-02T03:04:05+01:3"',
        ),
        *(
            '"2013-01-02  03:04:05Z"',
            '"2013-01-02T03:04:05Z "',
            '"2013-01-02T03:04:05Z\\n"',
            '"２０１３-01-02T03:04:05Z"',
        ),
        *('"0000-01-01T00:00Z"', '"0001-12-31T23:59:59Z"', '"0002-01-01T00:00+00:01"', '"0001-01-01T00:00+23:59"'),
        *(
            '"9999-12-31T23:59:59-00:01"',
            '"10000-01-01T00:00Z"',
            '"+2013-01-02T00:00Z"',
        ),
        *("-62104060800001", "253402300800000", "1e30", "1e999999999", "0.5", '"0"', '""', "true", "null", None, "[]"),
    ],
)
def test_no_datetime_else(text: str | None) -> None:
    assert rejected(datetime, text)


def test_a_date_is_four_two_and_two_ascii_digits() -> None:
    assert given(date, '"2012-02-29"') == date(2012, 2, 29)
    assert given(date, '"0001-01-01"') == date.min and given(date, '"9999-12-31"') == date.max
    bad = [
        '"2013-02-29"',
        '"0000-01-01"',
        '"2013-1-02"',
        '"20130102"',
        '"2013-01-02T00:00Z"',
        '"2013-01-02\\n"',
        "0",
        '"２０１３-01-02"',
    ]
    assert all(rejected(date, text) for text in bad)


def test_a_missing_field_is_null() -> None:
    assert given(int | None, None) is None and given(int | None, "null") is None
    assert rejected(int, None) and rejected(int, "null")
    assert given(Annotated[int, Default(3)], None) == 3 and given(Annotated[int | None, Default(3)], "null") == 3
    assert rejected(Annotated[int | None, Nullable(), Between(0, 1)], '"x"')


def test_between_is_closed() -> None:
    hint = Annotated[Decimal, Scale(1), Between(-1, Decimal("2.5"))]
    assert [rejected(hint, t) for t in ("-1", "-1.0", "2.5", "-1.1", "2.6")] == [False, False, False, True, True]
    assert not rejected(Annotated[int, Between(low=3)], "3") and rejected(Annotated[int, Between(low=3)], "2")
    assert not rejected(Annotated[str, Between("b", "\uffff")], '"\uffff"')
    assert rejected(Annotated[str, Between("b", "\uffff")], '"\U00010000"'), "text is ordered by code point"
    assert not rejected(Annotated[date, Between(high=date(2013, 1, 1))], '"2013-01-01"')
    assert rejected(Annotated[datetime, Between(high=utc(2013, 1, 1))], '"2013-01-01T00:00:00.000001Z"')


def test_length_counts_code_points_and_pattern_matches_the_whole_text_in_ascii() -> None:
    assert not rejected(Annotated[str, Length(1, 1)], '"\U0001d11e"') and rejected(
        Annotated[str, Length(1, 1)], '"e\u0301"'
    )
    assert rejected(Annotated[str, Length(1)], '""')
    digits = Annotated[str, Pattern(r"\d+")]
    assert [rejected(digits, t) for t in ('"12"', '"12a"', '"٣"', '"12\\n"', '""')] == [False, True, True, True, True]


def test_one_of_compares_values() -> None:
    hint = Annotated[Decimal, Scale(2), OneOf(1, Decimal("2.5"))]
    assert str(given(hint, "1.000")) == "1.00" and str(given(hint, '"25e-1"')) == "2.50" and rejected(hint, "2")
    assert rejected(Annotated[str, OneOf("EWR")], '"ewr"')


def test_clip_gives_the_nearest_bound_when_between_alone_is_broken() -> None:
    hint = Annotated[Decimal, Scale(2), Between(-1, 9), Clip()]
    assert [str(given(hint, t)) for t in ("-7", "9.01", "3")] == ["-1.00", "9.00", "3.00"]
    assert rejected(hint, "10.001"), "Scale is broken as well"
    floats = Annotated[float, Between(0, 1), Clip()]
    assert [given(floats, t).hex() for t in ("-3", "7", "0.5")] == [
        "0x0.0p+0",
        "0x1.0000000000000p+0",
        "0x1.0000000000000p-1",
    ]
    assert type(given(floats, "-3")) is float
    assert rejected(Annotated[int, Between(0, 5), OneOf(0, 1), Clip()], "-1"), "OneOf is broken as well"
    assert rejected(Annotated[int, OneOf(7, 1), Between(0, 5), Clip()], "7"), "the bound 5 is none of the options"
    assert given(Annotated[int, OneOf(7, 5), Between(0, 5), Clip()], "7") == 5


def test_default_and_null_mend_any_breach_but_no_wrong_type() -> None:
    hint = Annotated[int, Between(0, 5), Default(2)]
    assert [given(hint, t) for t in ("9", "null", "4")] == [2, 2, 4] and rejected(hint, '"9"') and rejected(hint, "1.5")
    assert given(Annotated[str | None, Length(2), Pattern("a.*"), Nullable()], '"b"') is None
    assert given(Annotated[float, Default(-0.0)], None).hex() == "0x0.0p+0"
    found = given(Annotated[datetime, Default(datetime.fromisoformat("2013-01-01T01:00:00+01:00"))], None)
    assert found == utc(2013, 1, 1) and found.utcoffset() == timedelta(0)


def test_unknown_fields_and_escaped_names() -> None:
    record = dataclasses.make_dataclass("R", [("x", int)])
    value = b'{"y": 1e999999999, "z": "\\ud800\\u0000", "\\u0078": 5, "X": 9, "": null}'
    assert record_of(value, columns(record)) == {"x": 5}


def test_decimal_of_is_exact_where_the_default_context_would_round() -> None:
    assert str(decimal_of(-(10**60) - 1, 2)) == "-1" + "0" * 58 + ".01"
