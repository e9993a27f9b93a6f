# ruff: noqa: E501 -- the strategies are tables
"""Protobuf of schemas, columns and messages that hypothesis makes up: its four readers agree.

decode(values) = decode_records(values) = the reference's fields of each = ParseFromString of each
"""

from __future__ import annotations

from dataclasses import make_dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import At, Protobuf, Scale, Source
from tests.pipeline.decode.test_protobuf import all_differ
from tests.support.protobufs import library

KINDS = {
    **{f"TYPE_{name}": (int,) for name in ("INT32", "INT64", "UINT32", "UINT64", "SINT32", "SINT64", "FIXED32", "FIXED64", "SFIXED32", "SFIXED64")},
    "TYPE_DOUBLE": (float,),
    "TYPE_FLOAT": (float,),
    "TYPE_BOOL": (bool,),
    "TYPE_STRING": (str, datetime),
}  # fmt: skip
OF_INTS = (int, float, datetime, Annotated[Decimal, Scale(3)])


@st.composite
def made_up(draw: st.DrawFn) -> tuple[Source, list[bytes]]:
    """A source with a schema of its own, and messages that the library wrote, in pieces whose order is anybody's."""
    file = FileDescriptorProto(name="made.proto", package="made", syntax="proto3")
    numbers = draw(
        st.lists(
            st.integers(1, 40) | st.integers(1, 2**29 - 2).filter(lambda n: not 19000 <= n < 20000),
            min_size=2,
            max_size=8,
            unique=True,
        )
    )
    inner = file.message_type.add(name="Inner")
    outer = file.message_type.add(name="Outer")
    fields: list[tuple[str, Any]] = [("id", str), ("at", Annotated[datetime, At("t")])]
    for name, kind in (("id", "TYPE_STRING"), ("t", "TYPE_INT64")):
        outer.field.add(name=name, number=numbers.pop(), type=FieldDescriptorProto.Type.Value(kind), label=1)
    for n, place in enumerate(numbers):
        kind = draw(st.sampled_from(sorted(KINDS)))
        of = inner if (nested := draw(st.booleans())) else outer
        repeated = draw(st.booleans())
        one = of.field.add(
            name=f"f{n}", number=place, type=FieldDescriptorProto.Type.Value(kind), label=3 if repeated else 1
        )
        if not repeated and draw(st.booleans()):
            one.oneof_index, one.proto3_optional = len(of.oneof_decl), True
            of.oneof_decl.add(name=f"_f{n}")
        if repeated and kind != "TYPE_STRING" and draw(st.booleans()):
            one.options.packed = False
        if draw(st.integers(0, 3)):
            path = ("inner." if nested else "") + f"f{n}" + (f"[{draw(st.integers(0, 2))}]" if repeated else "")
            wanted = draw(st.sampled_from(OF_INTS if KINDS[kind] == (int,) else KINDS[kind]))
            fields.append(
                (
                    f"c{n}",
                    Annotated[wanted | None, At(path)]
                    if wanted is not OF_INTS[3]
                    else Annotated[Decimal | None, Scale(3), At(path)],
                )
            )
    outer.field.add(
        name="inner", number=2**29 - 1, type=FieldDescriptorProto.TYPE_MESSAGE, label=1, type_name=".made.Inner"
    )
    held = FileDescriptorSet(file=[file]).SerializeToString()
    source = Source(
        "made",
        make_dataclass("R", fields, frozen=True),
        key="id",
        event_time="at",
        identity="id",
        format=Protobuf("made.Outer", held),
    )
    return source, _written(source, draw)


def _written(source: Source, draw: st.DrawFn) -> list[bytes]:
    """Messages that the library wrote, some of them one behind the other."""
    values: list[bytes] = []
    for _ in range(draw(st.integers(1, 5))):
        message = library(source)()
        for target in (message, message.inner) if draw(st.booleans()) else (message,):
            for field in target.DESCRIPTOR.fields:
                if field.message_type is None and draw(st.booleans()):
                    _fill(target, field, draw)
        values.append(
            message.SerializeToString() + (draw(st.sampled_from(values)) if values and draw(st.booleans()) else b"")
        )
    return values


def _fill(message: Any, field: Any, draw: st.DrawFn) -> None:
    bits = 64 if field.type in (3, 4, 6, 16, 18) else 32
    low, high = (0, 2**bits) if field.type in (4, 6, 7, 13) else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    value: st.SearchStrategy[Any] = {5: st.integers(low, high - 1), 7: st.booleans(), 9: st.text(max_size=20) | st.sampled_from(["2024-03-01T00:00:00Z", ""])}.get(
        {8: 7, 9: 9}.get(field.type, 5), st.integers(low, high - 1)
    ) if field.type not in (1, 2) else st.floats(width=64 if field.type == 1 else 32)  # fmt: skip
    if field.is_repeated:
        getattr(message, field.name).extend(draw(st.lists(value, max_size=4)))
    else:
        setattr(message, field.name, draw(value))


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(made_up())
def test_the_four_agree_on_made_up_schemas_columns_and_messages(given_: tuple[Source, list[bytes]]) -> None:
    source, values = given_
    required = replace(source, identity=None)
    assert all_differ(source, [*values, None]) == "" and all_differ(required, values[:1]) == ""
