"""Every constraint under every remedy, and what no remedy mends.

kept(value) = value if it keeps every constraint of its column, else the remedy's value, else the record is rejected
"""

from dataclasses import make_dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

import numpy as np
import pytest

from pipeline import Between, Clip, Default, Length, Nullable, OneOf, Pattern, Scale, Source
from tests.support.events import AT, ingest, outcome, outcome_of_event, source_of, utc

N = None
CONSTRAINTS: list[tuple[str, Any, tuple[Any, ...], list[str], list[str], dict[str, Any]]] = [
    # (name, type, constraints, JSON that keeps them, JSON that breaks them, JSON that breaks -> clipped)
    ("decimal between", Decimal, (Scale(1), Between(-80, Decimal("140.5"))), ["-80", "0", "140.5"], ["-80.1", "140.6"],
     {"-80.1": Decimal("-80.0"), "140.6": Decimal("140.5"), "1e15": Decimal("140.5")}),
    ("int between", int, (Between(0, 10),), ["0", "10"], ["-1", "11"], {"-1": 0, "9223372036854775807": 10}),
    ("int from", int, (Between(0),), ["0", "9223372036854775807"], ["-1", "-9223372036854775808"], {"-1": 0}),
    ("int to", int, (Between(high=0),), ["0", "-9223372036854775808"], ["1"], {"1": 0}),
    ("float between", float, (Between(0, 0.5),), ["0", "-0.0", "0.5"], ["-5e-324", "0.5000001"], {"-1": 0.0, "9": 0.5}),
    ("date between", date, (Between(date(2013, 1, 1), date(2013, 12, 31)),), ['"2013-01-01"', '"2013-12-31"'],
     ['"2012-12-31"', '"2014-01-01"'], {'"2012-12-31"': date(2013, 1, 1), '"2999-01-01"': date(2013, 12, 31)}),
    ("time between", datetime, (Between(utc(2013, 1, 1), utc(2014, 1, 1)),), ["1356998400000", '"2014-01-01T01:00:00+01:00"'],
     ["1356998399999", '"2014-01-01T00:00:00.000001Z"'], {"0": utc(2013, 1, 1), "1388534400001": utc(2014, 1, 1)}),
    ("text between", str, (Between("a", "m"),), ['"a"', '"lz"', '"m"'], ['"Z"', '"ma"', '""', '"\u00e9"'], {}),
    ("pattern", str, (Pattern(r"[A-Z]{3}\d?"),), ['"EWR"', '"JFK1"'], ['"ewr"', '"EWRX"', '"EWR\\n"', '"EWR\u0661"', '""'], {}),
    ("length", str, (Length(1, 3),), ['"a"', '"\\ud83c\\udf27\u00e9x"'], ['""', '"abcd"'], {}),
    ("least length", str, (Length(2),), ['"ab"', f'"{"x" * 900}"'], ['"a"'], {}),
    ("text options", str, (OneOf("EWR", "JFK"),), ['"EWR"', '"JFK"'], ['"LGA"', '"ewr"', '""'], {}),
    ("int options", int, (OneOf(1, -3),), ["1", "-3", "1.0"], ["0", "2"], {}),
    ("decimal options", Decimal, (Scale(2), OneOf(Decimal("0.5"), 1)), ["0.50", "1"], ["0.51", "0"], {}),
    ("date options", date, (OneOf(date(2013, 1, 1)),), ['"2013-01-01"'], ['"2013-01-02"'], {}),
    ("time options", datetime, (OneOf(utc(2013, 1, 1)),), ["1356998400000"], ["1356998400001"], {}),
    ("scale", Decimal, (Scale(1),), ["0.1", "1.50"], ["0.11", "1e-9"], {}),
    ("two", str, (Length(3, 3), Pattern("[a-z]+")), ['"abc"'], ['"ab"', '"ABC"', '"AB"'], {}),
]  # fmt: skip
DEFAULTS = {
    "decimal between": 3, "int between": 3, "int from": 3, "int to": -3, "float between": 0.25, "date between": date(2013, 6, 1),
    "time between": utc(2013, 6, 1), "text between": "k", "pattern": "AAA", "length": "zz", "least length": "zz",
    "text options": "JFK", "int options": -3, "decimal options": Decimal("0.5"), "date options": date(2013, 1, 1),
    "time options": utc(2013, 1, 1), "scale": Decimal("9.9"), "two": "zzz",
}  # fmt: skip
CASES = pytest.mark.parametrize(
    ("name", "type", "constraints", "kept", "broken", "clipped"), CONSTRAINTS, ids=[c[0] for c in CONSTRAINTS]
)


def hint_of(type: Any, nullable: bool, *marks: Any) -> Any:
    declared = type | None if nullable else type
    return Annotated[declared, *marks] if marks else declared


@CASES
def test_a_value_that_keeps_its_constraints_is_kept_under_every_remedy(
    name: str, type: Any, constraints: Any, kept: list[str], broken: list[str], clipped: dict[str, Any]
) -> None:
    remedies = [(), (Nullable(),), (Default(DEFAULTS[name]),)] + ([(Clip(),)] if clipped else [])
    for text in kept:
        plain = outcome(hint_of(type, True, *(c for c in constraints if isinstance(c, Scale))), text)
        assert plain[1] is None
        for remedy in remedies:
            assert outcome(hint_of(type, True, *constraints, *remedy), text) == plain


@CASES
def test_without_a_remedy_a_broken_constraint_rejects_the_record(
    name: str, type: Any, constraints: Any, kept: list[str], broken: list[str], clipped: dict[str, Any]
) -> None:
    for text in broken:
        got, reason = outcome(hint_of(type, False, *constraints), text)
        assert reason is not None, f"{text} was accepted as {got!r}"
        blamed = [f"x: breaks {c}" for c in constraints] + [
            f"x: more decimals than Scale({getattr(constraints[0], 'digits', '')})"
        ]
        assert reason in blamed


@CASES
def test_nullable_makes_a_broken_value_null(
    name: str, type: Any, constraints: Any, kept: list[str], broken: list[str], clipped: dict[str, Any]
) -> None:
    for text in [*broken, "null"]:
        assert outcome(hint_of(type, True, *constraints, Nullable()), text) == (None, None)


@CASES
def test_default_stands_in_for_a_broken_and_for_a_missing_value(
    name: str, type: Any, constraints: Any, kept: list[str], broken: list[str], clipped: dict[str, Any]
) -> None:
    default = DEFAULTS[name]
    for nullable in (False, True):
        hint = hint_of(type, nullable, *constraints, Default(default))
        for text in [*broken, "null"]:
            assert outcome(hint, text) == (default, None)
        assert outcome_of_event(hint, f'{{"id": "1", "at": {AT}}}'.encode()) == (default, None)


@CASES
def test_clip_puts_the_nearest_bound(
    name: str, type: Any, constraints: Any, kept: list[str], broken: list[str], clipped: dict[str, Any]
) -> None:
    for text, want in clipped.items():
        assert outcome(hint_of(type, False, *constraints, Clip()), text) == (want, None)


def test_clip_mends_nothing_but_between() -> None:
    hint = Annotated[Decimal, Scale(1), Between(0, 10), Clip()]
    assert outcome(hint, "10.01") == (None, "x: more decimals than Scale(1)")
    assert outcome(hint, "null") == (None, "x: null, or missing, where it is not allowed")
    options = Annotated[int, Between(0, 10), OneOf(0, 5, 99), Clip()]
    assert outcome(options, "7") == (None, f"x: breaks {OneOf(0, 5, 99)}")
    assert outcome(options, "-7")[0] is None, "the bound 0 would do, but two constraints are broken"
    assert outcome(options, "99") == (None, f"x: breaks {Between(0, 10)}"), "the bound 10 is no option"


@pytest.mark.parametrize("remedy", [Nullable(), Default(5), Clip()], ids=str)
def test_no_remedy_applies_to_a_value_of_the_wrong_type(remedy: Any) -> None:
    hint = Annotated[int | None, Between(0, 10), remedy]
    for text in ('"5"', "true", "[]", "5.5", "1e40"):
        got, reason = outcome(hint, text)
        assert reason is not None, f"{text} was accepted as {got!r}"
        assert reason.startswith("x: ")


def test_remedies_work_row_by_row_in_a_block_of_mixed_values() -> None:
    hint = Annotated[Decimal | None, Scale(1), Between(0, 10), Nullable()]
    texts = ["1", "11", "null", "0.05", "10", "-1", '"2.5"']
    values = [f'{{"id": "{i}", "at": {AT}, "x": {t}}}'.encode() for i, t in enumerate(texts)]
    got = ingest(source_of(hint), values).accepted.column("x").to_pylist()
    assert got == [1, None, None, None, 10, None, Decimal("2.5")]
    clip = source_of(Annotated[int | None, Between(0, 10), Clip()])
    values = [f'{{"id": "{i}", "at": {AT}, "x": {t}}}'.encode() for i, t in enumerate(["-5", "null", "5", "50"])]
    assert ingest(clip, values).accepted.column("x").to_pylist() == [0, None, 5, 10]


def test_the_first_reason_in_the_order_of_columns_is_given() -> None:
    record = make_dataclass(
        "Event", [("id", str), ("at", datetime), ("a", Annotated[int, Between(0, 1)]), ("b", Annotated[str, Length(1)])]
    )
    source = Source(topic="t", record=record, key="id", event_time="at", identity="id")
    texts = ['"a": 5, "b": ""', '"a": 1, "b": ""', '"b": ""', '"a": 5, "b": 1']
    values = [f'{{"id": "{i}", "at": {AT}, {t}}}'.encode() for i, t in enumerate(texts)]
    reasons = ingest(source, values).rejected.column("reason").to_pylist()
    assert reasons == [
        f"a: breaks {Between(0, 1)}",
        f"b: breaks {Length(1)}",
        "a: null, or missing, where it is not allowed",
        "b: a number where text is declared",  # a type breaks before any constraint is looked at
    ]


def test_the_event_time_and_the_identity_are_columns_like_any_other() -> None:
    record = make_dataclass(
        "Event",
        [("id", Annotated[int, Between(1)]), ("at", Annotated[datetime, Between(utc(2013, 1, 1)), Clip()]), ("x", int)],
    )
    source = Source(topic="t", record=record, key="x", event_time="at", identity="id")
    got = ingest(
        source, [b'{"id": 0, "at": 0, "x": 1}', b'{"id": 1, "at": 0, "x": 1}', b'{"id": 1.0, "at": 5, "x": 2}']
    )
    assert got.rejected.column("reason").to_pylist() == [f"id: breaks {Between(1)}"]
    assert got.accepted.column("at").to_pylist() == [utc(2013, 1, 1)]
    assert got.counts.duplicates == 1, "1 and 1.0 are one identity"


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (Annotated[float, Default(-0.0)], "null"),
        (Annotated[float, Between(-0.0, 1), Clip()], "-5"),
        (float, "-0.0"),
        (float, "-1e-999"),
    ],
    ids=str,
)
def test_a_minus_zero_is_stored_as_zero_wherever_it_comes_from(hint: Any, text: str) -> None:
    got, reason = outcome(hint, text)
    assert (got, reason) == (0.0, None)
    assert not np.signbit(got)
