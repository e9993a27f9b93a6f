"""One thing at a time that an Avro event may have, or have wrong; each held to all three readers.

a declared column = what Avro's resolution makes of the writer's value, in the form that JSON's columns have
"""

from __future__ import annotations

import io
import json
import random
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import fastavro
import pyarrow as pa
import pytest

from pipeline import At, Avro, Scale, Source, Zone
from pipeline.base.errors import DefinitionError
from pipeline.decode.avro_blocks import decode
from tests.pipeline.decode.test_avro_blocks import differs
from tests.support.avro import Registry, framed, sized, zigzag

TIME = {"type": "long", "logicalType": "timestamp-micros"}
NOON = 1_709_294_400_000_000


@dataclass(frozen=True)
class Event:
    """The columns of a flat event."""

    id: str
    at: datetime
    amount: Annotated[Decimal | None, Scale(2)]
    n: int | None
    note: Annotated[str | None, At("more.note")]
    tag: Annotated[str | None, At("tags[1]")]
    label: Annotated[int | None, At("labels.env")]


source = Source("avro", Event, key="id", event_time="at", identity="id", format=Avro())


def schema(**fields: Any) -> dict[str, Any]:
    """A writer's schema: id, at, and these."""
    given = {"id": "string", "at": TIME} | fields
    return {"type": "record", "name": "Event", "fields": [{"name": n, "type": t} for n, t in given.items()]}


def body(more: bytes = b"") -> bytes:
    return sized(b"x") + zigzag(NOON) + more


def decoded(writer: dict[str, Any], *bodies: bytes) -> tuple[list[dict[str, Any]], list[str]]:
    """The decoded records, and the reasons of the rejected; held to the other two readers."""
    registry, values = Registry(writer), [framed(1, b) for b in bodies]
    assert differs(source, list(values), registry, Counter()) == ""
    found = decode(source, pa.array(values, pa.binary()), registry)
    rows = pa.RecordBatch.from_pydict(dict(found.columns)).to_pylist()  # type: ignore[arg-type]
    return rows, found.reasons


def one(writer: dict[str, Any], more: bytes) -> dict[str, Any]:
    rows, reasons = decoded(writer, body(more))
    assert not reasons
    return rows[0]


def why(writer: dict[str, Any], more: bytes) -> str:
    rows, reasons = decoded(writer, body(more))
    assert not rows
    return reasons[0]


def test_a_field_that_the_writer_lacks_is_null() -> None:
    assert one(schema(), b"") == {"id": "x", "at": datetime(2024, 3, 1, 12, tzinfo=UTC)} | dict.fromkeys(
        ("amount", "n", "note", "tag", "label")
    )


@pytest.mark.parametrize(
    ("type", "held", "found"),
    [
        ("long", zigzag(-7), -7),
        ("int", zigzag(2**31 - 1), 2**31 - 1),
        (["null", "long"], b"\0", None),
        (["null", "long"], b"\2" + zigzag(5), 5),
        (["long", "null"], b"\0" + zigzag(5), 5),
        (["string", "null", "int"], b"\4" + zigzag(5), 5),
        (["string", "null", "int"], b"\2", None),
        ("null", b"", None),
        ({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1}, sized(b"\x32"), 5),
    ],
)
def test_an_int_reads_what_avro_widens_to_it(type: Any, held: bytes, found: int | None) -> None:
    assert one(schema(n=type), held)["n"] == found


@pytest.mark.parametrize(
    ("type", "held", "reason"),
    [
        ("int", zigzag(2**31), "n: 2147483648 is out of range for Avro's int"),
        ("double", b"\0" * 8, "n: Avro's double where an int is declared"),
        ("string", sized(b"5"), "n: Avro's string where an int is declared"),
        (["null", "long"], b"\4", "branch 2 of a union of 2"),
        (["null", "long"], b"\1", "branch -1 of a union of 2"),
        (["string", "null", "int"], b"\0" + sized(b"5"), "n: Avro's string where an int is declared"),
        ("long", b"\xff" * 9 + b"\x02", "n: a number of more than 64 bits as long"),
        ("long", b"\x80" * 12, "n: a number of more than 64 bits as long"),
        ("long", b"\x80", "n: the event ends inside of long"),
        ("long", b"\2\0", "1 bytes follow the event"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1}, sized(b"\x33"),
         "n: a decimal of 1 places that is not whole where an int is declared"),
    ],
)  # fmt: skip
def test_an_int_that_cannot_be_rejects_its_record(type: Any, held: bytes, reason: str) -> None:
    assert why(schema(n=type), held) == reason


@pytest.mark.parametrize(
    ("scale", "unscaled", "found"),
    [(2, 1234, "12.34"), (0, -5, "-5.00"), (4, 123400, "12.34"), (2, 0, "0.00"), (18, 10**18, "1.00"), (20, 10**21, "10.00"),
     (2, 10**18 - 1, "9999999999999999.99")],
)  # fmt: skip
def test_a_decimal_is_moved_to_the_columns_scale(scale: int, unscaled: int, found: str) -> None:
    for width in (9, 16):
        held = unscaled.to_bytes(width, "big", signed=True)
        given = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": scale}
        fixed = {"type": "fixed", "name": "F", "size": width, "logicalType": "decimal", "precision": 38, "scale": scale}
        assert one(schema(amount=given), sized(held))["amount"] == Decimal(found)
        assert one(schema(amount=fixed), held)["amount"] == Decimal(found)


def test_a_decimal_that_is_finer_than_its_scale_breaches_it_and_one_too_large_rejects() -> None:
    given = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 4}
    registry, fine, large = Registry(schema(amount=given)), (12345).to_bytes(3, "big"), (10**20).to_bytes(12, "big")
    found = decode(source, pa.array([framed(1, body(sized(v))) for v in (fine, large)], pa.binary()), registry)
    assert found.breaches["amount"].tolist() == [True]
    assert found.reasons == ["amount: a decimal that is out of range: |value| must be below 1e16"]
    assert why(schema(amount=given), sized(b"")) == "amount: a decimal of no bytes"
    assert why(schema(amount="double"), b"\0" * 8) == "amount: Avro's double where a decimal is declared"


MORE = {
    "type": "record",
    "name": "More",
    "fields": [{"name": "x", "type": "double"}, {"name": "note", "type": "string"}],
}


def test_paths_lead_through_records_arrays_and_maps() -> None:
    assert one(schema(more=MORE), b"\0" * 8 + sized("é".encode()))["note"] == "é"
    assert one(schema(more=["null", MORE]), b"\0")["note"] is None
    assert (
        one(
            schema(more={"type": "map", "values": "string"}),
            b"\4" + sized(b"a") * 2 + sized(b"note") + sized(b"b") + b"\0",
        )["note"]
        == "b"
    )
    for items in (
        zigzag(3) + b"".join(map(sized, (b"a", b"b", b"c"))),
        zigzag(-2) + zigzag(4) + sized(b"a") + sized(b"b"),
    ):
        assert one(schema(tags={"type": "array", "items": "string"}), items + b"\0")["tag"] == "b"
    assert one(schema(tags={"type": "array", "items": "string"}), zigzag(1) + sized(b"a") + b"\0")["tag"] is None
    labels = {"type": "map", "values": ["null", "int"]}
    assert one(schema(labels=labels), zigzag(1) + sized(b"env") + b"\2\12" + b"\0")["label"] == 5
    twice = (zigzag(1) + sized(b"env") + b"\2\12") * 2 + b"\0"
    assert why(schema(labels=labels), twice) == "key 'env' twice in one map"
    assert one(schema(labels=labels), twice.replace(b"env", b"any"))["label"] is None
    assert why(schema(more="string"), sized(b"x")) == "note: Avro's string at 'more' where a record is declared"
    assert why(schema(more=MORE), b"\0" * 8 + sized(b"\xc3")) == "note: invalid UTF-8 at byte 0"
    assert why(schema(more=MORE), b"\0" * 8 + sized(b"a\0")) == "note: text with U+0000, which Postgres cannot hold"


NULLS = {"type": "array", "items": "null"}
INTS = {"type": "array", "items": "int"}
HUGE = [
    (NULLS, zigzag(2**62) + b"\0", ""),  # no bytes at all
    (NULLS, zigzag(2**63 - 1) * 3 + b"\0", ""),
    (INTS, zigzag(2**62) + b"\0", "the event ends inside of int"),
    ({"type": "array", "items": "double"}, zigzag(2**62) + b"\0", "the event ends inside of an item of array"),
    ({"type": "map", "values": "null"}, zigzag(2**62) + b"\0", "the event ends inside of the size of a map's key"),
    ({"type": "map", "values": "null"}, zigzag(2**62), "the event ends inside of the size of a map's key"),
    (INTS, zigzag(-(2**63)) + b"\0\0", f"a block of {2**63} items in 0 bytes, which the event does not have"),
    (INTS, zigzag(-2) + zigzag(3) + b"\0\0\0", "a block that says it ends at byte 15 and ends at byte 14"),
    (INTS, zigzag(-1) + zigzag(2**62) + b"\0\0", f"a block of 1 items in {2**62} bytes, which the event does not have"),
    (INTS, zigzag(-1) + zigzag(-1) + b"\0\0", "a block of 1 items in -1 bytes, which the event does not have"),
]


@pytest.mark.parametrize(("type", "held", "reason"), HUGE)
def test_counts_and_sizes_that_lie_cost_nothing(type: Any, held: bytes, reason: str) -> None:
    if not reason:
        assert one(schema(nobody=type), held)["id"] == one(schema(tags=type), held)["id"] == "x"
    else:
        assert why(schema(nobody=type), held) == reason
        assert why(schema(tags=type), held)  # where an element is declared, so that it is walked
        assert why(schema(labels=type), held)


def test_a_schema_that_contains_itself_is_followed_64_levels_deep() -> None:
    node = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
    given = schema(nobody=node)
    assert one(given, b"\2" * 62 + b"\0")["id"] == "x"
    assert why(given, b"\2" * 63 + b"\0") == "nested deeper than 64 levels"
    assert why(given, b"\2" * 10_000 + b"\0") == "nested deeper than 64 levels"
    lists = {"type": "record", "name": "L", "fields": [{"name": "l", "type": {"type": "array", "items": "L"}}]}
    assert one(schema(nobody=lists), b"\2" * 30 + b"\0" * 31)["id"] == "x"
    assert why(schema(nobody=lists), b"\2" * 31 + b"\0" * 32) == "nested deeper than 64 levels"
    alone = {"type": "record", "name": "A", "fields": [{"name": "a", "type": "A"}]}
    assert why(schema(nobody=alone), b"") == "nested deeper than 64 levels"  # no such event can be


def test_records_of_several_schemas_are_read_in_one_block() -> None:
    first, second = schema(n="long"), schema(nobody="string", n=["null", "int"])
    values = [framed(1, body(zigzag(1))), framed(2, body(sized(b"?") + b"\2" + zigzag(2)))] * 3
    registry = Registry(first, second)
    assert differs(source, list(values), registry, Counter()) == ""
    assert decode(source, pa.array(values, pa.binary()), registry).columns["n"].to_pylist() == [1, 2] * 3
    assert 0 not in registry.asked


def test_a_column_that_no_event_can_have_is_refused_where_the_schema_is_given() -> None:
    with pytest.raises(DefinitionError, match="amount: the schema has nothing at 'amount'; record Event has id, at, n"):
        Source(
            "avro", Event, key="id", event_time="at", identity="id", format=Avro(schema=json.dumps(schema(n="long")))
        )


@dataclass(frozen=True)
class Small:
    """Two columns, and one that widens."""

    id: str
    at: datetime
    n: float


def test_bodies_without_frames_are_read_by_the_formats_schema(tmp_path: Any) -> None:
    file = tmp_path / "event.avsc"
    file.write_text(json.dumps(schema(n="long") | {"doc": "anything"}, indent=2))
    by_file = Source("avro", Small, key="id", event_time="at", identity="id", format=Avro(schema=file))
    by_text = Source(
        "avro", Small, key="id", event_time="at", identity="id", format=Avro(schema=json.dumps(schema(n="long")))
    )
    assert by_file == by_text and repr(by_file.format) == repr(by_text.format)
    values = [body(zigzag(3)), body(), b"", None]
    assert differs(by_file, values, Registry(), Counter()) == ""
    found = decode(by_file, pa.array(values, pa.binary()), Registry())
    assert found.columns["n"].to_pylist() == [3.0] and found.reasons == [
        "n: the event ends inside of long",
        "empty value",
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (5, "allowed are the path of an .avsc file and a schema's JSON text"),
        ("nowhere.avsc", "cannot be read: No such file"),
        ('{"type": "record"}', "has no name that Avro allows"),
        ('["int", "int"]', "a union of int, int"),
        ('"long"', "Avro's long at '' of the schema where a record is declared"),
        (json.dumps(schema(n="string")), "n: Avro's string where a float is declared, at 'n' of the schema"),
    ],
)
def test_a_schema_that_cannot_be_is_refused_where_it_is_declared(given: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=re.escape(said)):
        Source("avro", Small, key="id", event_time="at", identity="id", format=Avro(schema=given))


def test_the_reference_reads_what_fastavro_writes() -> None:
    """fastavro is somebody else's, so that the two readers cannot be wrong in the same way."""
    writer = schema(
        amount={"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2},
        n=["null", "long"], more=["null", MORE], tags={"type": "array", "items": "string"}, labels={"type": "map", "values": "int"},
        when=[{"type": "long", "logicalType": "timestamp-millis"}, "null"], day={"type": "int", "logicalType": "date"}, real="float",
    )  # fmt: skip
    parsed, rng, bodies, given = fastavro.parse_schema(writer), random.Random(3), [], []
    for n in range(500):
        one = {
            "id": f"e{n}", "at": datetime(2024, 1, 1, tzinfo=UTC) + timedelta(microseconds=rng.randrange(10**15)),
            "amount": Decimal(rng.randrange(-(10**9), 10**9)) / 100, "n": rng.choice([None, rng.randrange(-(2**63), 2**63)]),
            "more": rng.choice([None, {"x": 0.5, "note": "é" * rng.randrange(99)}]), "tags": ["t"] * rng.randrange(3),
            "labels": {"env": rng.randrange(99), "b": 1} if rng.random() < 0.5 else {}, "when": None, "day": date(2024, 1, 2), "real": 0.25,
        }  # fmt: skip
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, one)
        bodies.append(out.getvalue())
        given.append(one)
    rows, reasons = decoded(writer, *bodies)
    assert reasons == [] and len(rows) == 500
    for row, wanted in zip(rows, given, strict=True):
        more, tags = wanted["more"] or {"note": None}, [*wanted["tags"], None, None]
        assert row == {
            "id": wanted["id"], "at": wanted["at"], "amount": wanted["amount"], "n": wanted["n"],
            "note": more["note"], "tag": tags[1], "label": wanted["labels"].get("env"),
        }  # fmt: skip


@dataclass(frozen=True)
class Local:
    """A time of a clock on the wall."""

    id: str
    at: Annotated[datetime, Zone("Europe/Berlin")]


def test_a_local_timestamp_is_one_of_the_columns_zone() -> None:
    def us(text: str) -> int:
        return (datetime.fromisoformat(text).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
            microseconds=1
        )

    shown = ["2024-07-01T12:00:00", "2024-03-31T02:30:00", "2024-10-27T02:30:00", "2024-01-01T00:00:00.000001"]
    local, instant = (
        {"type": "long", "logicalType": "local-timestamp-micros"},
        {"type": "long", "logicalType": "timestamp-micros"},
    )
    values = [framed(1, sized(b"x") + zigzag(us(text))) for text in shown] + [framed(1, sized(b"x") + zigzag(2**62))]
    berlin = Source("avro", Local, key="id", event_time="at", identity="id", format=Avro())
    registry = Registry(schema() | {"fields": [{"name": "id", "type": "string"}, {"name": "at", "type": local}]})
    assert differs(berlin, [*values], registry, Counter()) == ""
    found = decode(berlin, pa.array(values, pa.binary()), registry)
    assert [t.isoformat() for t in found.columns["at"].to_pylist()] == [
        "2024-07-01T10:00:00+00:00",
        "2023-12-31T23:00:00.000001+00:00",
    ]
    assert "skipped or repeated" in found.reasons[0] and "out of range" in found.reasons[2]
    assert (
        decode(berlin, pa.array(values, pa.binary()), Registry(schema(at=instant))).columns["at"][0].as_py().hour == 12
    )
    plain = Source("avro", Small, key="id", event_time="at", identity="id", format=Avro())
    given = schema(n="long") | {"fields": [{"name": "id", "type": "string"}, {"name": "at", "type": local}]}
    assert "declare Zone(...) beside it" in decode(plain, pa.array(values, pa.binary()), Registry(given)).reasons[0]


def test_a_uuid_of_16_bytes_is_text() -> None:
    uuid = {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}
    given = {"type": "record", "name": "E", "fields": [{"name": "id", "type": uuid}, {"name": "at", "type": TIME}]}
    values = [framed(1, bytes(range(n, n + 16)) + zigzag(NOON)) for n in (0, 240)] + [framed(1, b"short")]
    assert differs(source, [*values], Registry(given), Counter()) == ""
    found = decode(source, pa.array(values, pa.binary()), Registry(given))
    assert found.columns["id"].to_pylist() == [
        "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff",
    ]


def test_schemas_may_refer_to_others() -> None:
    from pipeline.decode.schemas import Schema

    class References(Registry):
        def schema(self, id: int) -> Schema | None:
            money = {
                "type": "record",
                "name": "Money",
                "namespace": "shop",
                "fields": [{"name": "cents", "type": "long"}],
            }
            text = json.dumps(schema(more="shop.Money", n="long"))
            return Schema("AVRO", text, (("money.avsc", json.dumps(money)),)) if id == 1 else None

    values = [framed(1, body(zigzag(5) + zigzag(7)))]
    assert differs(source, [*values], References(), Counter()) == ""
    assert decode(source, pa.array(values, pa.binary()), References()).columns["n"].to_pylist() == [7]
