"""The columns of a record, bound to the fields of a message type: what a decoder reads of a message, and as what.

    two types that bind alike decode alike        whatever else their messages have, and whatever their fields are named

A field that the message lacks, or a path through one, binds nothing: the column is null.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pipeline.base.errors import did_you_mean
from pipeline.definition.marks import Epoch
from pipeline.definition.paths import ELEMENT, Node, Path, shown, tree
from pipeline.definition.protobuf_schema import Field, Message, NoSchema
from pipeline.definition.record import Column

VARINTS = ("int32", "int64", "uint32", "uint64", "sint32", "sint64", "bool", "enum")
WIRE_32, WIRE_64 = ("fixed32", "sfixed32", "float"), ("fixed64", "sfixed64", "double")
INTS = ("int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "sfixed32", "fixed64", "sfixed64")
TIMESTAMP = "google.protobuf.Timestamp"
WRAPPERS = {
    f"google.protobuf.{name}Value"
    for name in ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
}
TAKES: dict[str, tuple[str, ...]] = {
    "int": (*INTS, "enum"),
    "decimal": (*INTS, "string"),
    "float": (*INTS, "float", "double"),
    "str": ("string", "enum"),
    "bool": ("bool",),
    "datetime": (*INTS, "string", TIMESTAMP),
    "date": ("string",),
    "bytes": ("bytes",),
}
OTHERS = (*INTS, "string", "enum", "bool")  # of column types that are not named above
VARINT, FIXED64, DELIMITED, START_GROUP, END_GROUP, FIXED32 = range(6)  # how a value is on the wire


def wire_of(type: str) -> int:
    """The wire type of a field's values, one by one."""
    if type == "group":
        return START_GROUP
    return VARINT if type in VARINTS else FIXED32 if type in WIRE_32 else FIXED64 if type in WIRE_64 else DELIMITED


@dataclass(frozen=True)
class Leaf:
    """A value that is read into column `number` of those in the event."""

    number: int
    column: Column
    field: Field

    @property
    def default(self) -> bool:
        """True where a missing value is its type's default."""
        return self.field.implicit and not self.empty_is_null

    @property
    def empty_is_null(self) -> bool:
        """True for a text that its column has to understand, and that cannot be missing otherwise than by being empty."""
        return self.field.implicit and self.field.type == "string" and self.column.type.kind != "str"


@dataclass(frozen=True)
class Array:
    """A repeated field: what is read of its elements, by their places."""

    field: Field
    elements: Mapping[int, "Leaf | Bound"]


@dataclass(eq=False)
class Bound:
    """A message: what is read of it, by the numbers of its fields; `oneofs`: for each of which something is read, all its fields."""

    message: Message
    fields: dict[int, "Leaf | Array | Bound"] = field(default_factory=dict)
    oneofs: dict[str, tuple[Field, ...]] = field(default_factory=dict)

    @property
    def defaults(self) -> list[Leaf]:
        """Values that are their type's default where the message is there and they are not."""
        return [one for one in self.fields.values() if isinstance(one, Leaf) and one.default]


def bind(message: Message, columns: Iterable[Column], whole: bool = False) -> Bound:
    """The columns of an event (`in_event`), bound to a message; NoSchema where one cannot be, or, if `whole`, is missing."""
    found = tuple(columns)
    return _message(message, tree({c.name: c.path for c in found}), (), found, whole)


def _message(message: Message, node: Node, path: Path, columns: tuple[Column, ...], whole: bool) -> Bound:
    bound = Bound(message)
    for part, child in node.children.items():
        here = (*path, part)
        who = _column(child, columns)
        if not isinstance(part, str):
            raise NoSchema(f"{who}: {shown(path)} is one {message.name}, and not repeated; leave out [{part}]")
        one = message.names.get(part)
        if one is None:
            if whole:
                names = [f.name for f in message.fields]
                hint = did_you_mean(part, names)
                raise NoSchema(f"{who}: {message.name} has no field {part!r}; it has {', '.join(names)}.{hint}")
            continue
        if one.number in bound.fields:
            raise NoSchema(
                f"{who}: {shown(here)} is a field that another column has by its other name; give one another At"
            )
        bound.fields[one.number] = _field(one, child, here, columns, whole, who)
        if one.oneof and one.oneof not in bound.oneofs:
            bound.oneofs[one.oneof] = tuple(f for f in message.fields if f.oneof == one.oneof)
    return bound


def _column(child: Node | int, columns: tuple[Column, ...]) -> str:
    """The name of the column, or of the first of those below."""
    while isinstance(child, Node):
        child = next(iter(child.children.values()))
    return columns[child].name


def _field(
    one: Field, child: Node | int, path: Path, columns: tuple[Column, ...], whole: bool, who: str
) -> "Leaf | Array | Bound":
    where = f"{who}: {shown(path)}"
    if one.is_map or one.type == "group":
        raise NoSchema(f"{where} is a {'map' if one.is_map else 'group'}, which no column reads")
    if not one.repeated:
        return _one(one, child, path, columns, whole, who)
    if not isinstance(child, Node) or not child.is_array:
        raise NoSchema(f"{where} is repeated; allowed is one of its elements, as At({shown((*path, 0))!r})")
    if ELEMENT in child.children:
        raise NoSchema(
            f"{where}: each element of a repeated field is not read; allowed is one, as {shown((*path, 0))!r}"
        )
    elements = {}
    for place, element in child.children.items():
        assert isinstance(place, int)
        found = _one(one, element, (*path, place), columns, whole, _column(element, columns))
        assert not isinstance(found, Array)
        elements[place] = found
    return Array(one, elements)


def _one(
    one: Field, child: Node | int, path: Path, columns: tuple[Column, ...], whole: bool, who: str
) -> "Leaf | Bound":
    where = f"{who}: {shown(path)}"
    if isinstance(child, Node):
        if one.type != "message":
            raise NoSchema(f"{where} is {one.type}, and has no fields")
        return _message(one.inside, child, path, columns, whole)
    column = columns[child]
    if one.type == "message" and one.message in WRAPPERS:
        inside = one.inside
        value = _one(inside.names["value"], child, path, columns, whole, who)
        return Bound(inside, {1: value})
    kind = one.message if one.type == "message" else one.type
    takes = TAKES.get(column.type.kind, OTHERS)
    if kind not in takes:
        raise NoSchema(f"{where} is {kind}, and the column {column.type}; it takes {', '.join(takes)}")
    return Leaf(child, column, one)


def asks(bound: Bound) -> bool:
    """True where a column has a type or a mark that only the record-by-record parser knows."""
    return any(
        leaf.column.type.kind not in TAKES
        or leaf.column.type.kind == "bytes"
        or any(not isinstance(mark, Epoch) for mark in leaf.column.marks)
        for _, leaf in leaves(bound)
    )


def leaves(bound: "Bound | Array | Leaf", path: Path = ()) -> Iterator[tuple[Path, Leaf]]:
    """Each value that is read, with the numbers and places that lead to it."""
    if isinstance(bound, Leaf):
        yield path, bound
        return
    for key, one in sorted((bound.fields if isinstance(bound, Bound) else bound.elements).items()):
        yield from leaves(one, (*path, key))


def canonical(bound: "Bound | Array | Leaf", path: Path = ()) -> Iterator[str]:
    """Lines of all that decoding depends on: equal for types that bind alike."""
    if isinstance(bound, Leaf):
        field, at = bound.field, ".".join(map(str, path))
        default = " or its default" if bound.default else ""
        yield f"{at} {bound.column.name} {field.message or field.type}{default} {dict(field.enum) or ''}".rstrip()
        return
    if isinstance(bound, Bound):
        members = sorted(sorted((f.number, wire_of(f.type)) for f in fields) for fields in bound.oneofs.values())
        yield from (f"{'.'.join(map(str, path))} one of {fields}" for fields in members)
    for key, one in sorted((bound.fields if isinstance(bound, Bound) else bound.elements).items()):
        yield from canonical(one, (*path, key))
