"""Rows become JSON events as a loop over them makes events, and typed records as the layers' decoder makes records of these."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion.origin import FLATTENED, BrokenRow, Rows
from ingestion.rows_as_json import encode
from ingestion.rows_as_json_slowly import encode_slowly
from ingestion.typed import typed
from pipeline import At, Between, Default, FromText, Header, Nullable, Precision, Scale, Zone
from pipeline.base.errors import DefinitionError, OriginError
from pipeline.decode.json_records import decode_records
from pipeline.definition.record import columns

TEXTS = st.one_of(
    st.sampled_from(
        [
            *(
                "",
                " ",
                "0",
                "-0",
                "007",
                "12",
                " 12\t",
                "+5",
                "1.50",
                "1e5",
                "1E-07",
                ".5",
                "5.",
                "NaN",
                "true",
                "True",
                "false ",
            ),
            *(
                "2013-01-02",
                "2013-01-02T03:04:05Z",
                "03:04",
                'a"b',
                "a\\b",
                "a\nb",
                "\x00",
                "é",
                "𝄞",
                "a,b",
                "{}",
                "null",
            ),
            "123e4567-e89b-12d3-a456-426614174000",
        ]
    ),
    st.text(max_size=8),
)
MOMENTS = st.integers(-(10**15), 10**15).map(lambda us: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=us))
# By the Arrow type of a column: values that it may have.
ARROW: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    *((type, TEXTS) for type in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()))),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint8(), st.integers(0, 255)),
    (pa.float64(), st.floats()),
    (pa.float32(), st.floats(width=32)),
    (pa.bool_(), st.booleans()),
    (pa.decimal128(20, 9), st.decimals(-1000, 1000, places=9)),
    (pa.date32(), st.dates(date(1000, 1, 1))),
    (pa.time64("us"), st.times()),
    (pa.timestamp("us"), MOMENTS.map(lambda moment: moment.replace(tzinfo=None))),
    (pa.timestamp("us", "Europe/Berlin"), MOMENTS),
    (pa.binary(), st.binary(max_size=7)),
    (pa.binary(16), st.binary(min_size=16, max_size=16)),
    (pa.list_(pa.int32()), st.lists(st.integers(0, 9), max_size=3)),
    (pa.null(), st.none()),
]
DECLARED: list[Any] = [int, float, bool, date, datetime, time, bytes, UUID, Annotated[Decimal, Scale(2)]]
DECLARED += [
    Annotated[Decimal, Precision(38, 9)],
    Annotated[int, FromText()],
    Annotated[datetime, Zone("Europe/Berlin")],
]
NAMES = ("a", "b", "a.b", "c.d", "c", "e[0]", "e", "x y")


@st.composite
def rows(draw: st.DrawFn) -> Rows:
    count = draw(st.integers(0, 6))
    arrays, names = [], draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=6))
    for _ in names:
        type, values = draw(st.sampled_from(ARROW))
        if draw(st.integers(0, 3)) == 0:
            inner = st.fixed_dictionaries({"b": st.one_of(st.none(), values), "d": st.one_of(st.none(), TEXTS)})
            type, values = pa.struct([("b", type), ("d", pa.string())]), inner
        given = draw(st.lists(st.one_of(st.none(), values), min_size=count, max_size=count))
        arrays.append(pa.array(given, type))
    batch = (
        pa.RecordBatch.from_arrays(arrays, names)
        if names
        else pa.RecordBatch.from_arrays([pa.nulls(count)], ["nothing"])
    )
    if draw(st.booleans()):
        batch = batch.replace_schema_metadata(FLATTENED)
    return Rows(batch, np.arange(1, count + 1))


@st.composite
def records(draw: st.DrawFn) -> type:
    paths = draw(st.permutations(["a.b", "c.d", "b", "e", "a.d", '"x y"', "c.b", "f[1]"]))[: draw(st.integers(1, 6))]
    fields = []
    for n, path in enumerate(paths):
        hint = draw(st.sampled_from([str, *DECLARED]))
        fields.append((f"f{n}", Annotated[hint | None if draw(st.booleans()) else hint, At(path)]))
    return dataclasses.make_dataclass("Record", fields, frozen=True)


def parsed(value: bytes) -> Any:
    return json.loads(value, parse_float=Decimal, parse_int=Decimal)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows(), records(), st.booleans())
def test_rows_in_arrays_are_the_events_that_a_loop_makes(given: Rows, record: type, textual: bool) -> None:
    declared = columns(record)
    binary = [t for t in given.batch.schema.types if pa.types.is_binary(t) or pa.types.is_fixed_size_binary(t)]
    if binary and any(c.type.kind == "str" for c in declared):  # bytes that are no text: see below
        return
    found, expected = encode(given, declared, textual).to_pylist(), encode_slowly(given, declared, textual)
    assert len(found) == given.batch.num_rows
    for row, one, other in zip(given.batch.to_pylist(), found, expected, strict=True):
        assert parsed(one) == parsed(other), row


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows(), records(), st.booleans())
def test_every_row_is_accepted_or_rejected_as_the_decoder_of_single_events_says(
    given: Rows, record: type, textual: bool
) -> None:
    try:
        out = typed(given, record, textual)
    except OriginError as error:
        assert "there is no column" in str(error)
        return
    assert out.accepted.num_rows + len(out.rejected) == given.batch.num_rows
    assert sorted([*out.numbers, *out.rejected.numbers]) == list(given.numbers)

    class Plain:
        exploded = ()

    Plain.columns, Plain.record = columns(record), record  # type: ignore[attr-defined]
    told = decode_records(Plain(), encode(given, columns(record), textual))  # type: ignore[arg-type]
    why = dict(zip((told.rejected + 1).tolist(), told.reasons, strict=True))
    for number, reason in zip(out.rejected.numbers.tolist(), out.rejected.reasons, strict=True):
        assert why.get(number, reason) == reason
    assert set(why) <= set(out.rejected.numbers.tolist())


@dataclass(frozen=True)
class Plane:
    """One aeroplane."""

    tailnum: str
    seats: int | None
    speed: Annotated[float | None, Between(0, 1000), Nullable()]
    cost: Annotated[Decimal, Scale(2), Default(Decimal(0))]
    jet: bool
    built: date
    seen: Annotated[datetime | None, Zone("Europe/Berlin")]
    at_noon: time | None
    id: UUID
    maker: Annotated[str | None, At("made.by")]


def test_texts_become_what_they_say() -> None:
    texts = {
        "tailnum": ["N1", ""],
        "seats": [" 12 ", ""],
        "speed": ["1e2", "5000"],
        "cost": ["1.50", ""],
        "jet": ["true", "false"],
        "built": ["2013-01-02", "2012-02-29"],
        "seen": ["2013-07-02", ""],
        "at_noon": ["12:00", ""],
        "id": ["123e4567-e89b-12d3-a456-426614174000"] * 2,
        "made.by": ['a "b" \\ \t', "é"],
    }
    out = typed(Rows(pa.RecordBatch.from_pydict(texts), np.array([2, 3]), unit="line"), Plane, textual=True)
    assert not len(out.rejected) and out.unit == "line"
    one, other = out.accepted.to_pylist()
    assert one["seats"] == 12 and one["speed"] == 100.0 and one["cost"] == Decimal("1.50") and one["jet"] is True
    assert one["seen"] == datetime(2013, 7, 1, 22, tzinfo=UTC) and one["at_noon"] == time(12)
    assert one["maker"] == 'a "b" \\ \t' and one["id"] == UUID("123e4567-e89b-12d3-a456-426614174000").bytes
    assert other["tailnum"] == "" and other["seats"] is None and other["speed"] is None and other["cost"] == 0


def test_a_wrong_value_rejects_its_row_with_the_decoders_words_and_its_place() -> None:
    texts = {name: ["x", "x", "x"] for name in ("tailnum", "seats", "made.by")}
    texts |= {
        "jet": ["true", "TRUE", "true"],
        "built": ["2013-01-02", "2013-01-02", "2.1.2013"],
        "id": [str(UUID(int=1))] * 3,
    }
    texts["seats"] = ["x12", "1", "1"]
    rows = Rows(pa.RecordBatch.from_pydict(texts), np.array([2, 5, 7]), [BrokenRow(4, "torn", b"N1,")], "line")
    out = typed(rows, Plane, textual=True)
    assert out.accepted.num_rows == 0 and out.rejected.numbers.tolist() == [2, 4, 5, 7]
    assert out.rejected.reasons[0] == "seats: text where an int is declared"
    assert out.rejected.reasons[1] == "torn" and out.rejected.raw[1] == b"N1,"
    assert out.rejected.reasons[2].startswith("jet: text where")
    assert "YYYY-MM-DD" in out.rejected.reasons[3]
    assert json.loads(out.rejected.raw[0])["seats"] == "x12"


def test_a_table_without_a_needed_column_is_one_error_that_lists_its_columns() -> None:
    rows = Rows(pa.RecordBatch.from_pydict({"tailnum;seats": ["N1;2"]}), np.array([1]))
    with pytest.raises(
        OriginError, match=r"no column 'tailnum', which Plane\.tailnum needs; there are tailnum;seats\."
    ):
        typed(rows, Plane, textual=True)


def test_a_declared_column_that_stands_there_twice_is_an_error() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(["1"]), pa.array(["2"])], ["a", "a"])
    record = dataclasses.make_dataclass("R", [("a", str)], frozen=True)
    with pytest.raises(OriginError, match="2 columns 'a'"):
        typed(Rows(batch, np.array([1])), record, textual=True)


def test_an_element_that_is_repeated_is_no_text() -> None:
    record = dataclasses.make_dataclass("R", [("a", str | None), ("b", Annotated[str | None, At("c[1]")])], frozen=True)
    columns = {"a": ["x", None, None], "a[0]": [None, "x", None], "a[1]": [None, "y", None], "a.z": [None, None, "1"]}
    batch = pa.RecordBatch.from_pydict(columns | {"c[1]": ["q", None, None]}).replace_schema_metadata(FLATTENED)
    out = typed(Rows(batch, np.array([1, 2, 3])), record, textual=True)
    assert out.accepted.to_pylist() == [{"a": "x", "b": "q"}]
    assert out.rejected.reasons == ["a: an array where text is declared", "a: an object where text is declared"]


def test_bytes_in_a_column_of_text_are_text_or_no_event() -> None:
    record = dataclasses.make_dataclass("R", [("a", str)], frozen=True)
    out = typed(Rows(pa.RecordBatch.from_pydict({"a": [b"\xc3\xa9", b"\xff"]}), np.array([1, 2])), record)
    assert out.accepted.to_pylist() == [{"a": "é"}] and "invalid UTF-8" in out.rejected.reasons[0]


def test_documents_are_decoded_as_they_stand() -> None:
    record = dataclasses.make_dataclass("R", [("a", int)], frozen=True)
    documents = pa.array([b'{"a": 1}', b'{"a": "1"}', b"[", b'{"a": 2, "a": 3}'], pa.binary())
    rows = Rows.of_documents(documents, np.array([1, 2, 3, 5]), [BrokenRow(4, "torn")])
    out = typed(rows, record)
    assert out.accepted.to_pylist() == [{"a": 1}] and out.rejected.numbers.tolist() == [2, 3, 4, 5]
    assert out.rejected.reasons[3] == "a: a stands there twice"


def test_a_record_that_is_no_row_is_refused() -> None:
    record = dataclasses.make_dataclass("R", [("a", Annotated[str, Header("x")])], frozen=True)
    with pytest.raises(DefinitionError, match=r"R\.a: a row has no elements"):
        typed(Rows(pa.RecordBatch.from_pydict({"a": ["1"]}), np.array([1])), record)


def test_wide_rows_are_typed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestion.typed.ENCODED_BYTES", 100)
    record = dataclasses.make_dataclass("R", [("a", int)], frozen=True)
    batch = pa.RecordBatch.from_pydict({"a": [str(n) if n % 3 else "x" for n in range(100)]})
    out = typed(Rows(batch, np.arange(1, 101)), record, textual=True)
    assert out.accepted.column("a").to_pylist() == [n for n in range(100) if n % 3]
    assert out.numbers.tolist() == [n + 1 for n in range(100) if n % 3] and len(out.rejected) == 34
