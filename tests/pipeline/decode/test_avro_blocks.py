"""The compiled reader of Avro, the record-by-record one and the plain reference are the same function.

    decode(values) = decode_records(values) = event(value) for each        on hard cases, and on 10⁵ events of schemas made at random

Whatever the compiled one does not leave to the other, it gets right to the bit: rows, columns, breaches, rejections.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest

from pipeline import At, Avro, Scale, Source
from pipeline.base.errors import DefinitionError
from pipeline.decode.avro_blocks import decode, decode_records
from pipeline.definition.record import in_event
from pipeline.plain.formats import event
from pipeline.plain.json_text import Invalid
from pipeline.plain.values import TOO_FINE
from tests.support.avro import Registry, Schemas, framed, sized, zigzag

FUZZED = int(os.environ.get("WATERSHED_TEST_FUZZED", "100000"))
BLOCK = 400


def bits(array: pa.Array) -> bytes:
    return bytes(np.asarray(array.fill_null(0.0).to_numpy(zero_copy_only=False), np.float64).tobytes())


def differs(source: Source, values: list[bytes | None], registry: Registry, asked: Counter[str]) -> str:
    """What the three make differently of the values; "" when nothing."""
    array = pa.array(values, pa.binary())
    one, other = decode(source, array, registry), decode_records(source, array, registry)
    asked.update(events=len(values), asked=one.asked, decoded=len(one.rows))
    asked.update(re.sub(r"^\w+: |[0-9]+", "", reason)[:24] for reason in one.reasons)
    if one.rows.tolist() != other.rows.tolist():
        row = sorted(set(one.rows.tolist()) ^ set(other.rows.tolist()))[0]
        return (
            f"row {row}, {values[row]!r}: compiled {'takes' if row in one.rows else 'rejects'} it, {other.reasons[:1]}"
        )
    if one.rejected.tolist() != other.rejected.tolist() or one.reasons != other.reasons:
        return f"rejected {one.rejected} {one.reasons}, by record {other.rejected} {other.reasons}"
    for name, column in other.columns.items():
        found = one.columns[name]
        found.validate(full=True)
        same = found.equals(column) and found.type == column.type
        if not same or (pa.types.is_floating(column.type) and bits(found) != bits(column)):
            row = next(
                i for i in range(len(column)) if not found[i].equals(column[i]) or repr(found[i]) != repr(column[i])
            )
            return f"{name} of {values[other.rows[row]]!r}: compiled {found[row]!r}, by record {column[row]!r}"
        breach, wanted = one.breaches.get(name), other.breaches.get(name)
        if (breach is None) != (wanted is None) or (breach is not None and not np.array_equal(breach, wanted)):
            return f"{name}: breaches {breach}, by record {wanted}"
    return _plain(source, values, registry, one)


def _plain(source: Source, values: list[bytes | None], registry: Registry, one: Any) -> str:
    place = {row: n for n, row in enumerate(one.rows.tolist())}
    columns = {name: array.to_pylist() for name, array in one.columns.items()}
    for row, value in enumerate(values):
        if value is None:
            continue
        try:
            read = event(value, source.format, registry)
            wanted = {c.name: read(c) for c in in_event(source.columns)}
        except Invalid as reason:
            if row in place:
                return f"{value!r}: the reference rejects it, {reason}"
            continue
        if row not in place:
            return f"{value!r}: the reference takes it, {one.reasons[one.rejected.tolist().index(row)]}"
        for name, cell in wanted.items():
            breach = name in one.breaches and bool(one.breaches[name][place[row]])
            found = TOO_FINE if breach else columns[name][place[row]]
            if found != cell or type(found) is not type(cell):
                return f"{name} of {value!r}: compiled {found!r}, in plain {cell!r}"
    return ""


def mutated(value: bytes, rng: random.Random) -> bytes:
    """Bytes changed, put in, left out, or cut off."""
    at, how = rng.randrange(len(value) + 1), rng.random()
    if how < 0.3:
        return value[:at] + bytes([rng.choice([0, 1, 2, 3, 127, 128, 255])]) + value[at + 1 :]
    if how < 0.5:
        return (
            value[:at]
            + rng.choice([b"\x80", b"\xff" * 9 + b"\x01", b"\xff" * 10, zigzag(2**62), zigzag(-(2**62)), b"\x01"])
            + value[at:]
        )
    return value[:at] if how < 0.75 else value[:at] + value[at + rng.randint(1, 3) :]


def test_all_readers_agree_on_fuzzed_events_of_fuzzed_schemas(say: Callable[[str], None]) -> None:
    rng, asked = random.Random(11), Counter[str]()
    while asked["events"] < FUZZED:
        made = Schemas(rng)
        schemas = [made.event() for _ in range(rng.choice([1, 1, 2]))]
        kept = []
        for schema in schemas:
            kept.append((schema, dict(made.named)))
        made.named = {name: one for _, names in kept for name, one in names.items()}
        registry, values = Registry(*schemas), list[bytes | None]()
        source = made.source(schemas[0], Avro())
        for _ in range(BLOCK):
            id = rng.randrange(len(schemas))
            value = framed(id + 1, made.body(schemas[id]))
            values.append(mutated(value, rng) if rng.random() < 0.2 else value)
        values[rng.randrange(BLOCK)] = None
        found = differs(source, values, registry, asked)
        assert found == "", f"{found}\n{json.dumps(schemas)}\n{source.columns}"
    reasons = ", ".join(
        f"{n:,} {name}" for name, n in asked.most_common(40) if name not in ("events", "asked", "decoded")
    )
    say(
        f"{asked['events']:,} fuzzed Avro events, 0 differences; {asked['asked']:,} left to the other reader: {reasons}"
    )
    assert asked["decoded"] > 0.2 * asked["events"] and asked["asked"] < 0.02 * asked["events"]
    assert len(asked) > 20, asked


# --- one thing at a time ----------------------------------------------------------------------------------------------

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


def test_frames_that_are_broken_reject() -> None:
    registry = Registry(schema(), '{"type": "nothing"}')
    good = framed(1, body())
    values = [
        b"",
        b"\0",
        b"\0\0\0\0",
        b"\1" + good[1:],
        b"{}",
        framed(0, body()),
        framed(2**31, body()),
        framed(9, body()),
        framed(2, body()),
        good,
    ]
    assert differs(source, [*values, None], registry, Counter()) == ""
    found = decode(source, pa.array([*values, None], pa.binary()), registry)
    assert found.rows.tolist() == [9] and found.tombstones == 1
    assert found.reasons[0] == "empty value"
    assert found.reasons[3] == "the value begins with byte 1, and not with the registry's magic byte 0"
    assert found.reasons[5:] == [
        "schema id 0, which no registry gives out",
        "schema id 2147483648, which no registry gives out",
        "schema id 9, which the registry does not know",
        "schema id 2 cannot be read: type 'nothing' is declared nowhere before it is used",
    ]


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
