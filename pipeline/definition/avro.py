"""An Avro schema (1.12), read: the types of a writer, as a tree in which a named type may contain itself.

    parse(text) depends on the text alone        what does not decide how bytes are read is left out: doc, aliases, defaults, order

A logical type that does not fit what it stands on is passed over, as the specification says; Kafka Connect's names of types count as
logical ones (`connect.name`).
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pipeline.base.errors import WatershedError

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
SIZES = {"null": 0, "boolean": 1, "float": 4, "double": 8}
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
DEEPEST = 200  # levels of a schema's own text
MOST_BYTES = 2**40  # more than any record has
LOGICAL = {  # what a logical type may stand on
    "date": ("int",),
    "time-millis": ("int",),
    "time-micros": ("long",),
    "timestamp-millis": ("long",),
    "timestamp-micros": ("long",),
    "timestamp-nanos": ("long",),
    "local-timestamp-millis": ("long",),
    "local-timestamp-micros": ("long",),
    "local-timestamp-nanos": ("long",),
    "uuid": ("string", "fixed"),
    "decimal": ("bytes", "fixed"),
}
CONNECT = {  # names that Kafka Connect and Debezium give to what they encode
    "org.apache.kafka.connect.data.Date": "date",
    "io.debezium.time.Date": "date",
    "org.apache.kafka.connect.data.Time": "time-millis",
    "io.debezium.time.Time": "time-millis",
    "io.debezium.time.MicroTime": "time-micros",
    "org.apache.kafka.connect.data.Timestamp": "timestamp-millis",
    "io.debezium.time.Timestamp": "timestamp-millis",
    "io.debezium.time.MicroTimestamp": "timestamp-micros",
    "io.debezium.time.NanoTimestamp": "timestamp-nanos",
}


class SchemaError(WatershedError):
    """A text that is no Avro schema; it says what is wrong in it."""


@dataclass(eq=False)
class Type:
    """One type. `kind` is a primitive, or record, enum, fixed, array, map, union; what it has besides depends on that.

    `logical` "" or one of LOGICAL, of which a decimal has `scale`; `size` of fixed; `symbols` of enum; `fields` of record, by name, in
    their order; `items` the one type of an array's elements or a map's values, the branches of a union.
    """

    kind: str
    name: str = ""
    logical: str = ""
    scale: int = 0
    size: int = 0
    symbols: tuple[str, ...] = ()
    fields: "dict[str, Type]" = field(default_factory=dict)
    items: "list[Type]" = field(default_factory=list)

    @property
    def title(self) -> str:
        """The type in words: its logical type, or what it is."""
        return self.logical or (f"record {self.name}" if self.kind == "record" else self.kind)

    def fixed_size(self) -> int | None:
        """Bytes of every value of it; None where they differ."""
        return _fixed_size(self, {})

    def height(self) -> int:
        """Levels of records in a value of it, which has a fixed size."""
        return _height(self, {})


def _height(type: Type, known: dict[int, int]) -> int:
    if type.kind != "record":
        return 0
    if id(type) not in known:
        known[id(type)] = 1 + max((_height(f, known) for f in type.fields.values()), default=0)
    return known[id(type)]


def _fixed_size(type: Type, known: dict[int, int | None]) -> int | None:
    if type.kind == "fixed":
        return type.size
    if type.kind != "record":
        return SIZES.get(type.kind)
    if id(type) not in known:
        known[id(type)] = None  # one that contains itself
        sizes = [_fixed_size(f, known) for f in type.fields.values()]
        known[id(type)] = None if None in sizes else min(sum(s or 0 for s in sizes), MOST_BYTES)
    return known[id(type)]


def parse(text: str, references: Iterable[tuple[str, str]] = ()) -> Type:
    """The type that a schema's text declares; `references` are (name, text) of schemas it uses, each after those that it uses itself."""
    names: dict[str, Type] = {}
    for _, other in references:
        _type(_loaded(other), "", names, 0)
    return _type(_loaded(text), "", names, 0)


def canonical(text: str) -> str:
    """The schema's text without white space and without what decides nothing; equal texts read every event alike."""
    parse(text)
    return json.dumps(_without(_loaded(text)), separators=(",", ":"), sort_keys=True)


def _without(given: Any) -> Any:
    if isinstance(given, dict):
        return {
            key: _without(value) for key, value in given.items() if key not in ("doc", "aliases", "order", "default")
        }
    return [_without(value) for value in given] if isinstance(given, list) else given


def _loaded(text: str) -> Any:
    if text.strip() in PRIMITIVES:
        return text.strip()
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"the schema is no JSON: {error}") from None


def _type(given: Any, namespace: str, names: dict[str, Type], depth: int) -> Type:
    if depth > DEEPEST:
        raise SchemaError(f"the schema is nested deeper than {DEEPEST} levels")
    if isinstance(given, list):
        found = Type("union", items=[_type(branch, namespace, names, depth + 1) for branch in given])
        kinds = [branch.name or branch.kind for branch in found.items]
        if not kinds or "union" in kinds or len(set(kinds)) < len(kinds):
            raise SchemaError(
                f"a union of {', '.join(kinds) or 'nothing'}; allowed are different types, none of them a union"
            )
        return found
    if isinstance(given, str):
        return _named(given, namespace, names)
    kind = given.get("type") if isinstance(given, dict) else None
    if isinstance(kind, dict | list):  # {"type": {"type": "string"}}
        return _type(kind, namespace, names, depth + 1)
    if not isinstance(kind, str):
        raise SchemaError(f"{_shown(given)} is no type")
    if kind in ("array", "map"):
        key = "items" if kind == "array" else "values"
        if key not in given:
            raise SchemaError(f"{_shown(given)} has no {key!r}")
        return Type(kind, items=[_type(given[key], namespace, names, depth + 1)])
    if kind in ("record", "error", "enum", "fixed"):
        return _declared(given, "record" if kind == "error" else kind, namespace, names, depth)
    found = _named(kind, namespace, names)
    return _with_logical(Type(found.kind), given) if found.kind in PRIMITIVES else found


def _named(name: str, namespace: str, names: dict[str, Type]) -> Type:
    if name in PRIMITIVES:
        return Type(name)
    full = name if "." in name or not namespace else f"{namespace}.{name}"
    found = names.get(full) or names.get(name)
    if found is None:
        raise SchemaError(f"type {name!r} is declared nowhere before it is used")
    return found


def _declared(given: dict[str, Any], kind: str, namespace: str, names: dict[str, Type], depth: int) -> Type:
    name, own = given.get("name"), given.get("namespace")
    if not isinstance(name, str) or not all(NAME.fullmatch(part) for part in name.split(".")):
        raise SchemaError(f"{_shown(given)} has no name that Avro allows")
    if "." in name:
        namespace = name.rpartition(".")[0]
    elif isinstance(own, str):
        namespace = own
    full = name if "." in name or not namespace else f"{namespace}.{name}"
    if full in names:
        raise SchemaError(f"{full} is declared twice")
    found = names[full] = Type(kind, full)
    if kind == "fixed":
        size = given.get("size")
        if type(size) is not int or not 0 <= size < MOST_BYTES:
            raise SchemaError(f"{full} has size {size!r}")
        found.size = size
        return _with_logical(found, given)
    if kind == "enum":
        symbols = given.get("symbols")
        if (
            not isinstance(symbols, list)
            or not symbols
            or not all(isinstance(s, str) and NAME.fullmatch(s) for s in symbols)
        ):
            raise SchemaError(f"{full} has no symbols that Avro allows")
        found.symbols = tuple(symbols)
        return found
    fields = given.get("fields")
    if not isinstance(fields, list):
        raise SchemaError(f"{full} has no fields")
    for one in fields:
        called = one.get("name") if isinstance(one, dict) else None
        if not isinstance(called, str) or not called or called in found.fields or "type" not in one:
            raise SchemaError(f"{full} has a field {_shown(one)}; allowed is a name of its own and a type")
        found.fields[called] = _type(one["type"], namespace, names, depth + 1)
    return found


def _with_logical(found: Type, given: dict[str, Any]) -> Type:
    logical = given.get("logicalType") or CONNECT.get(str(given.get("connect.name")))
    if not isinstance(logical, str) or found.kind not in LOGICAL.get(logical, ()):
        return found
    if logical == "uuid" and found.kind == "fixed" and found.size != 16:
        return found
    if logical == "decimal":
        precision, scale = given.get("precision"), given.get("scale", 0)
        if type(precision) is not int or type(scale) is not int or not 0 <= scale <= precision:
            return found
        found.scale = scale
    found.logical = logical
    return found


def _shown(given: Any) -> str:
    text = json.dumps(given)
    return text if len(text) <= 60 else text[:57] + "..."
