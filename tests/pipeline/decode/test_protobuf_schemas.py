# ruff: noqa: E501 -- texts of schemas
"""Frames, schemas and columns: which message a record is, what a schema gives its columns, and what is refused or rejected in which words."""

from __future__ import annotations

import pickle
import re
import sys
from collections import Counter
from dataclasses import dataclass, make_dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import cloudpickle
import pyarrow as pa
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from pipeline import At, Count, Protobuf, Scale, Source, View, tumbling
from pipeline.base.errors import DefinitionError, SettingsError
from pipeline.decode.protobuf_blocks import decode
from pipeline.decode.schemas import NoSchemas, Schema
from pipeline.definition.fingerprints import source_fingerprint
from pipeline.definition.protobuf_schema import NoSchema, types_of
from pipeline.plain.json_text import Invalid
from pipeline.plain.validation import NOTHING_AROUND, rows_of
from tests.pipeline.decode.test_protobuf import all_differ, differs
from tests.support.protobufs import PROTO, SOURCE, framed, number, sized

HEAD = 'syntax = "proto3"; package shop; '
ORDER = "message Order { string id = 1; int64 at = 2; string note = 3; message Line { string id = 1; int64 at = 2; message Deep { int64 at = 2; string id = 1; } } } message Refund { string id = 4; int64 at = 5; }"


@dataclass(frozen=True)
class Event:
    """Columns that every schema here has, and one that few have."""

    id: str
    at: datetime
    note: str | None


def events(message: str | None = None, schema: Any = None) -> Source:
    return Source("events", Event, key="id", event_time="at", identity="id", format=Protobuf(message, schema))


class Memory:
    """Schemas by id, kept in memory; it counts how often it is asked."""

    def __init__(self, **schemas: Schema) -> None:
        self.schemas = {int(name[1:]): schema for name, schema in schemas.items()}
        self.asked: Counter[int] = Counter()

    def schema(self, id: int) -> Schema | None:
        self.asked[id] += 1
        return self.schemas.get(id)

    def knows(self, id: int) -> bool:
        """True: it is all in memory."""
        return True


def proto(text: str, *references: tuple[str, str]) -> Schema:
    return Schema("PROTOBUF", text, references)


BODY = sized(1, b"e-1") + number(2, 1709251200000) + sized(3, b"n")
REGISTRY = Memory(
    i1=proto(HEAD + ORDER),
    i2=Schema("AVRO", '"string"'),
    i3=proto("message {"),
    i4=proto(HEAD + "message Order { int32 id = 1; int64 at = 2; }"),
    i5=proto(HEAD + 'import "other.proto"; message Order { string id = 1; int64 at = 2; Note note = 3; }', ("other.proto", HEAD + "message Note { string text = 1; }")),
    i6=proto(HEAD + 'import "../../etc/passwd"; message Order { string id = 1; }', ("../../etc/passwd", HEAD)),
    i7=proto(HEAD + 'import "gone.proto"; message Order { string id = 1; }'),
    i8=proto('syntax = "proto3"; package shop; import "confluent/meta.proto"; import "google/type/money.proto"; import "google/protobuf/any.proto"; message Order { string id = 1 [(confluent.field_meta).doc = "its id"]; google.type.Money m = 9; sint64 at = 2; }'),
    i2147483648=proto(HEAD + ORDER),
)  # fmt: skip
FRAMES = [
    (framed(1, BODY), None),
    (framed(1, BODY, b"\2\0"), None),
    (framed(1, BODY, b"\2\2"), "schema id 1: message shop.Refund, where shop.Order is declared"),
    (framed(1, BODY, b"\4\0\0"), "schema id 1: message shop.Order.Line, where"),
    (framed(1, BODY, b"\6\0\0\0"), "schema id 1: message shop.Order.Line.Deep, where"),
    (framed(1, BODY, b"\x10\0\0\0\0\0\0\0\0"), r"schema id 1: message indexes \[0, 0, 0, 0, 0, 0, 0, 0\] lead nowhere"),
    (framed(1, BODY, b"\2\x80\0"), None),
    (framed(1, BODY, b"\2\x80\x80\x80\x80\x80\x80\x80\0"), None),
    (framed(1, BODY, b"\2\4"), r"schema id 1: message indexes \[2\] lead nowhere"),
    (framed(1, BODY, b"\2\1"), r"schema id 1: message indexes \[-1\] lead nowhere"),
    (framed(1, BODY, b"\1"), "-1 message indexes"),
    (framed(1, b"", b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"), "4611686018427387903 message indexes, cut off|message indexes that are cut off"),
    (framed(1, b"", b"\xff" * 11), "a message index of more than 64 bits"),
    (framed(1, b"", b"\2"), "message indexes that are cut off"),
    (framed(1, b"", b""), "5 bytes, cut off inside of a registry's frame"),
    (b"", "empty value"),
    (b"\0\0\0", "3 bytes, cut off inside of a registry's frame"),
    (b"\1" + framed(1, BODY)[1:], "first byte 1, where a registry's frame has the magic byte 0"),
    (b'{"id":"x"}', "first byte 123, where"),
    (framed(0, BODY), "schema id 0, which no registry gives out"),
    (framed(9, BODY), "schema id 9: no registry gave it out"),
    (framed(2**32 - 1, BODY), "schema id 4294967295: no registry gave it out"),
    (framed(2**31, BODY), None),
    (framed(2, BODY), "schema id 2 is AVRO, where Protobuf is declared"),
    (framed(3, BODY), 'schema id 3: no .proto: 1:9: Expected message name.'),
    (framed(4, BODY), r"schema id 4: id: id is int32, and the column str; it takes string, enum"),
    (framed(5, sized(1, b"e-1")), r"schema id 5: note: note is shop.Note, and the column str; it takes string, enum"),
    (framed(6, BODY), "schema id 6: import '../../etc/passwd'; allowed is a path below"),
    (framed(7, BODY), "schema id 7: no .proto: gone.proto: File not found."),
    (framed(8, sized(1, b"e-1") + number(2, 2)), None),
    (framed(1, BODY + b"\x0a"), "cut off: a varint of 1 bytes"),
]  # fmt: skip


def test_a_frame_leads_to_its_message_or_is_rejected_with_its_id_and_the_reason() -> None:
    source = events("shop.Order")
    values: list[bytes | None] = [value for value, _ in FRAMES]
    assert differs(source, [*values, None, *reversed(values)], schemas=REGISTRY) == ""
    for value, reason in FRAMES:
        found = decode(source, pa.array([value], pa.binary()), REGISTRY)
        assert len(found.rows) == (reason is None), (value, found.reasons)
        assert reason is None or re.match(reason, found.reasons[0]), (value, found.reasons)
        if reason is None:
            assert rows_of(value, source, NOTHING_AROUND, REGISTRY)[0]["id"] == found.columns["id"][0].as_py() == "e-1"
        else:
            with pytest.raises(Invalid):
                rows_of(value, source, NOTHING_AROUND, REGISTRY)


def test_without_a_message_any_of_a_schema_is_read_by_the_names_of_its_fields() -> None:
    refund = sized(4, b"r-1") + number(5, 1709251200000)
    values: list[bytes | None] = [
        framed(1, BODY),
        framed(1, refund, b"\2\2"),
        framed(8, sized(1, b"e") + number(2, 4)),
        framed(1, BODY, b"\6\0\0\0"),
    ] * 3
    assert differs(events(), values, schemas=REGISTRY) == ""
    found = decode(events(), pa.array(values, pa.binary()), REGISTRY)
    assert found.columns["id"].to_pylist() == ["e-1", "r-1", "e", "e-1"] * 3
    assert found.columns["note"].to_pylist() == ["n", None, None, None] * 3, (
        "a schema that lacks a field leaves its column null"
    )
    assert found.asked == 0


def test_a_schema_is_asked_for_once_a_block_however_many_records_name_it() -> None:
    schemas = Memory(i1=proto(HEAD + ORDER))
    found = decode(events(), pa.array([framed(1, BODY), framed(7, BODY)] * 5000, pa.binary()), schemas)
    assert (len(found.rows), len(found.rejected), schemas.asked) == (5000, 5000, {1: 1, 7: 1})


def test_texts_of_enumerations_of_many_schemas_stand_in_one_block() -> None:
    record = make_dataclass("E", [("id", str), ("at", datetime), ("state", str)], frozen=True)
    source = Source("events", record, key="id", event_time="at", identity="id", format=Protobuf())
    text = HEAD + "message E { enum S { A_%s = 0; B_%s = 1; } string id = 1; int64 at = 2; S state = 3; }"
    schemas = Memory(**{f"i{n}": proto(text.replace("%s", "x" * n)) for n in (1, 2, 3)})
    values: list[bytes | None] = [
        framed(n, sized(1, b"i") + number(2, 5) + more)
        for n in (1, 2, 3, 2, 1)
        for more in (b"", number(3, 1), number(3, 2))
    ]
    assert differs(source, values, schemas=schemas) == ""
    assert decode(source, pa.array(values, pa.binary()), schemas).columns["state"].to_pylist() == [
        f"{c}_{'x' * n}" for n in (1, 2, 3, 2, 1) for c in "AB"
    ]


TWO = 'syntax = "proto2"; package shop; message Order { required string id = 1; optional int64 at = 2 [default = 7]; optional string note = 3; repeated int32 n = 4 [packed = true]; optional group Old = 5 { optional string x = 6; } }'
EDITION = 'edition = "2023"; package shop; option features.field_presence = IMPLICIT; message Order { string id = 1; int64 at = 2; string note = 3 [features.field_presence = EXPLICIT]; }'


@pytest.mark.parametrize(("text", "given", "wanted"), [
    (TWO, b"", {"id": None, "at": None, "note": None}),
    (TWO, sized(1, b"x") + sized(3, b""), {"id": "x", "at": None, "note": ""}),
    (EDITION, b"", {"id": "", "at": 0, "note": None}),
    (HEAD + ORDER, b"", {"id": "", "at": 0, "note": ""}),
    (HEAD + ORDER.replace("string note", "optional string note"), b"", {"note": None}),
    (HEAD + ORDER.replace("string note = 3;", "oneof x { string note = 3; int32 y = 9; }"), number(9, 1), {"note": None}),
])  # fmt: skip
def test_what_may_be_missing_is_what_the_schema_says(text: str, given: bytes, wanted: dict[str, Any]) -> None:
    source = events("shop.Order", text)
    assert all_differ(source, [given, BODY, given]) == ""
    found = decode(source, pa.array([given], pa.binary()), NoSchemas()).columns
    columns = {name: found[name].cast(pa.int64()) if name == "at" else found[name] for name in wanted}
    assert {name: column[0].as_py() for name, column in columns.items()} == wanted


REFUSED = [
    (str, r"n: size is uint64, and the column str; it takes string, enum", "size"),
    (datetime, r"n: real is double, and the column datetime; it takes int32, .*google.protobuf.Timestamp", "real"),
    (Annotated[Decimal, Scale(2)], r"n: real is double, and the column decimal", "real"),
    (int, r"n: marks is repeated; allowed is one of its elements, as At\('marks\[0\]'\)", "marks"),
    (str, r"n: items is repeated; allowed is one of its elements, as At\('items\[0\]'\)", "items.sku"),
    (str, r"n: customer is one shop.Payment.Customer, and not repeated; leave out \[0\]", "customer[0].name"),
    (str, r"n: customer is shop.Payment.Customer, and the column str", "customer"),
    (str, r"n: price is string, and has no fields", "price.x"),
    (int, r"n: more is a map, which no column reads", "more.key"),
    (int, r"n: createdAt is a field that another column has by its other name", "createdAt.seconds"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "told", "path"), REFUSED, ids=[path for *_, path in REFUSED])
def test_a_column_that_no_field_can_be_is_refused_where_it_is_declared(kind: Any, told: str, path: str) -> None:
    fields = [("id", str), ("at", Annotated[datetime, At("created_at")]), ("n", Annotated[kind, At(path)])]
    record = make_dataclass("Wrong", fields, frozen=True)
    with pytest.raises(DefinitionError, match=rf"^Source\(t\): {told}"):
        Source("t", record, key="id", event_time="at", identity="id", format=SOURCE.format)


def test_a_field_that_the_schema_lacks_is_refused_with_those_that_it_has() -> None:
    record = make_dataclass("Wrong", [("id", str), ("at", Annotated[datetime, At("createdat")])], frozen=True)
    with pytest.raises(
        DefinitionError, match=r"at: shop.Payment has no field 'createdat'; it has id, n, .*Did you mean 'created_at'"
    ):
        Source("t", record, key="id", event_time="at", identity="id", format=SOURCE.format)


@pytest.mark.parametrize(("make", "told"), [
    (lambda: Protobuf(schema="shop/gone.proto"), "schema 'shop/gone.proto' cannot be read: No such file or directory"),
    (lambda: Protobuf(schema="message A {"), "schema: no .proto: .*1:12: Reached end of input"),
    (lambda: Protobuf(schema=HEAD + ORDER), "the schema has no message None; allowed are shop.Order, shop.Refund"),
    (lambda: Protobuf("shop.Gone", HEAD + ORDER), "the schema has no message 'shop.Gone'; allowed are"),
    (lambda: Protobuf(schema=b"\xff"), "no serialized FileDescriptorSet"),
    (lambda: Protobuf(message=7), "message=7; allowed is a full name"),  # type: ignore[arg-type]
    (lambda: Protobuf("shop.Payment", asked=0), r"asked=0\): allowed is a number from 1 on"),
    (lambda: Protobuf(schema=7), "schema=7; allowed is the path or text of a .proto"),  # type: ignore[arg-type]
    (lambda: Source("t", SOURCE.record, key="id", event_time="at", identity="id", format=SOURCE.format, explode="more"), "explode is not for Protobuf"),
])  # fmt: skip
def test_a_format_that_cannot_be_is_refused_in_words(make: Any, told: str) -> None:
    with pytest.raises(DefinitionError, match=told) as error:
        make()
    assert "test_protobuf_schemas.py:" in str(error.value)


def test_a_schema_is_found_beside_its_module_with_its_imports_or_as_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "event.proto").write_text(
        HEAD + 'import "shop/note.proto"; message Order { string id = 1; int64 at = 2; Note n = 4; }'
    )
    (tmp_path / "shop" / "note.proto").write_text(HEAD + "message Note { string text = 1; }")
    module = tmp_path / "shop" / "declared.py"
    module.write_text("from pipeline import Protobuf\nFORMAT = Protobuf(schema='event.proto')\n")
    monkeypatch.chdir("/")
    names: dict[str, Any] = {"__name__": "declared"}
    exec(compile(module.read_text(), str(module), "exec"), names)
    found = names["FORMAT"]
    assert found.message == "shop.Order" and [f.name for f in FileDescriptorSet.FromString(found.schema).file][:1] == [
        "shop/note.proto"
    ]
    (tmp_path / "set.pb").write_bytes(found.schema)
    assert Protobuf(schema=str(tmp_path / "set.pb")) == found == Protobuf(schema=str(tmp_path / "shop" / "event.proto"))


def test_a_fingerprint_follows_what_is_read_and_nothing_else() -> None:
    of = {text: source_fingerprint(events("shop.Order", text)) for text in (
        HEAD + ORDER,
        HEAD + "/* a comment */ " + ORDER.replace("string note = 3;", "string note = 3; int32 more = 77;"),
        HEAD + ORDER.replace("string note = 3;", "optional string note = 3;"),
        HEAD + ORDER.replace("note = 3", "note = 8"),
        HEAD + ORDER.replace("int64 at = 2; string note", "sint64 at = 2; string note"),
        HEAD + ORDER.replace("string note = 3;", "oneof x { string note = 3; int32 y = 9; }"),
    )}  # fmt: skip
    own, commented, *others = of.values()
    assert own == commented and len({own, *others}) == 5
    assert len({source_fingerprint(events(m)) for m in (None, "shop.Order", "shop.Refund")} | {own}) == 4
    assert events("shop.Order", HEAD + ORDER) == events("shop.Order", "// x\n" + HEAD + ORDER) != events("shop.Order")


@pytest.mark.parametrize("source", [SOURCE, events("shop.Order")], ids=["bare", "framed"])
def test_a_definition_is_carried_to_other_processes_whole(source: Source) -> None:
    view = View(name="v", source=source, key=("id",), window=tumbling(days=1), aggregates={"n": Count()})
    for carried in (pickle.loads(pickle.dumps(source)), cloudpickle.loads(cloudpickle.dumps(view)).source):
        assert (
            carried == source
            and source_fingerprint(carried) == source_fingerprint(source)
            and hash(carried) == hash(source)
        )


def test_without_the_extra_nothing_is_rejected_for_it_and_its_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc_tools", None)
    new = HEAD + "message Order { string id = 1; int64 at = 2; } // not compiled before"
    schemas = Memory(i1=proto(new))
    for use in (
        lambda: Protobuf(schema=new),
        lambda: decode(events(), pa.array([framed(1, BODY)], pa.binary()), schemas),
    ):
        with pytest.raises(SettingsError, match=r"Protobuf needs grpc_tools, of the extra \[protobuf\]") as error:
            use()
        assert error.value.repair == "pip install '.[protobuf]'"
    monkeypatch.undo()
    assert len(decode(events(), pa.array([framed(1, BODY)], pa.binary()), schemas).rows) == 1


def test_message_types_know_their_places_in_the_file() -> None:
    types = types_of(PROTO)
    assert [types.at(path).name for path in ([0], [0, 0], [0, 0, 0], [0, 2])] == [
        "shop.Payment",
        "shop.Payment.Customer",
        "shop.Payment.Customer.Address",
        "shop.Payment.Transfer",
    ]
    with pytest.raises(NoSchema, match="lead nowhere"):
        types.at([0, 0, 1])
