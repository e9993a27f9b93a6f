"""Declarations of the types of a second pass: what is refused with which words, and what stands in a fingerprint."""

from __future__ import annotations

import enum
import unicodedata
from datetime import UTC, time
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import pyarrow.compute as pc
import pytest

from pipeline import (
    Between,
    Clip,
    Count,
    Default,
    Derived,
    FromText,
    Last,
    Length,
    Nullable,
    OneOf,
    Pattern,
    Precision,
    Scale,
    Sum,
    Text,
)
from pipeline.base.errors import DefinitionError
from pipeline.definition.fingerprints import describe_source, source_fingerprint
from pipeline.definition.record import columns
from tests.support.definitions import record, source, view


class Side(enum.StrEnum):
    BUY = "buy"
    SELL = "sell"


class Plain(enum.Enum):
    BUY = "buy"
    SELL = "sell"


class Numbers(enum.IntEnum):
    ONE = 1


def column(hint: Any) -> Any:
    return columns(record(x=hint))[-1]


def line(hint: Any) -> str:
    """The column's line in the fingerprint."""
    return next(text for text in describe_source(source(record=record(x=hint))) if text.startswith("x: "))


REFUSED: list[tuple[Any, str]] = [
    (Decimal, r"without a scale; declare Annotated\[Decimal, Scale\(2\)\], or Precision\(38, 18\)"),
    (Annotated[Decimal, Scale(2), Precision(38, 2)], "has Scale.* and Precision.*; give one"),
    (Annotated[str, Precision(38, 2)], "binds only columns of type wide"),
    (Annotated[bytes, Pattern("a")], "binds only columns of type str"),
    (Annotated[bytes, Between(b"a", b"b")], "binds only"),
    (Annotated[UUID, Length(1, 2)], "binds only columns of type str, bytes"),
    (Annotated[UUID, OneOf("123e4567-e89b-12d3-a456-426614174000")], "is no value of type uuid"),
    (Annotated[time, OneOf(time(1, tzinfo=UTC))], "is no value of type time"),
    (Annotated[Decimal, Precision(38, 18), Default(Decimal("1e20"))], "is no value of type decimal"),
    (Annotated[Side, OneOf("buy")], "leave OneOf out"),
    (Annotated[Side, Default("short")], "breaks a constraint of its own column"),
    (Numbers, "whose values are all text"),
    (Literal["a", 1], "whose values are all text"),
    (Annotated[str, FromText()], "it is for int, decimal, wide, float, bool"),
    (Annotated[int, Text(trim=True)], "it is for str"),
    (Annotated[bytes, Between(b"a"), Clip()], "binds only"),
]


@pytest.mark.parametrize(("hint", "words"), REFUSED, ids=str)
def test_a_column_that_cannot_be_is_refused_with_what_is_allowed(hint: Any, words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        columns(record(x=hint))


@pytest.mark.parametrize("given_arguments", [(0, 0), (39, 2), (5, 6), (5, -1), (5.0, 2), (True, 0), ("5", 2)], ids=str)
def test_a_precision_that_cannot_be_is_refused(given_arguments: tuple[Any, Any]) -> None:
    with pytest.raises(DefinitionError, match="allowed are whole numbers"):
        Precision(*given_arguments)


def test_an_enumeration_is_text_that_allows_its_values_alone() -> None:
    one = column(Annotated[str, OneOf("buy", "sell")])
    assert column(Side) == column(Plain) == column(Literal["buy", "sell"]) == one
    assert column(Annotated[Plain, Default(Plain.BUY)]) == column(Annotated[Side, Default("buy")])
    assert column(Annotated[Side | None, Nullable()]).nullable


def test_what_reads_alike_has_one_line_in_the_fingerprint_and_nothing_else_has() -> None:
    lines = [
        *(
            line(h)
            for h in (Annotated[Decimal, Scale(2)], Annotated[Decimal, Precision(18, 2)], bytes, UUID, time, str)
        ),
        *(line(Annotated[Decimal, Precision(d, s)]) for d, s in ((38, 18), (38, 17), (37, 18))),
        *(line(Annotated[int, FromText()]), line(int)),
        *(line(Annotated[str, t]) for t in (Text(trim=True), Text(strip="\x00"), Text(case="lower"), Text(form="NFC"))),
        *(line(Annotated[UUID, OneOf(UUID(int=n))]) for n in (1, 2)),
        *(line(Annotated[time, Between(time(n))]) for n in (1, 2)),
    ]
    assert len(set(lines)) == len(lines)
    wide = [Annotated[Decimal, Precision(38, 18), Between(low)] for low in (1, Decimal("1.00"), Decimal("1e0"))]
    assert len({line(hint) for hint in wide}) == 1
    ends = [Decimal(f"99999999999999999999.99999999999999999{n}") for n in (8, 9)]
    lines = [line(Annotated[Decimal, Precision(38, 18), Between(end)]) for end in ends]
    assert lines[0] != lines[1], "no digit is rounded away"


def test_the_version_of_unicode_is_in_the_fingerprint_only_where_it_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = {
        "trim": Text(trim=True),
        "strip": Text(strip="\x00"),
        "case": Text(case="upper"),
        "form": Text(form="NFKC"),
    }

    def prints() -> dict[str, str]:
        return {name: line(Annotated[str, mark]) for name, mark in marks.items()}

    before = prints()
    monkeypatch.setattr(unicodedata, "unidata_version", "99.0.0")
    changed = {name for name, text in prints().items() if text != before[name]}
    assert changed == {"case", "form"}


def test_identities_are_text_whole_numbers_uuids_or_bytes() -> None:
    for kind in (UUID, bytes):
        found = source(record=record(x=kind), identity=("x", "id"))
        assert found.identities == ("x", "id")
        assert source_fingerprint(found) != source_fingerprint(source(record=record(x=kind)))
    with pytest.raises(DefinitionError, match="allowed: str, int, uuid, bytes"):
        source(record=record(x=time), identity="x")


def test_expressions_compare_and_ask_for_nulls_and_nothing_else() -> None:
    own = source(record=record(x=UUID, y=UUID | None, t=time, w=Annotated[Decimal | None, Precision(38, 18)]))
    changed = {"source": own, "aggregates": {"n": Count(), "last": Last("y")}}
    view(**changed, where=(pc.field("x") == pc.field("y")) & pc.field("y").is_valid())
    view(**changed, where=pc.field("w") > 1.5)
    for wrong in (pc.field("x") == "123e4567-e89b-12d3-a456-426614174000", pc.field("t") + pc.field("t")):
        with pytest.raises(DefinitionError, match="cannot take arguments of type"):
            view(**changed, where=wrong)
    with pytest.raises(DefinitionError, match=r"allowed are Scale\(n\), int"):
        Derived(pc.field("w") * 2, Precision(38, 18))
    with pytest.raises(DefinitionError, match="allowed are int, decimal, wide"):
        view(**changed | {"aggregates": {"s": Sum("x")}})
