"""An Avro schema's JSON as dicts that hold each other: every name replaced by what it stands for, so that a record may hold itself.

resolved(text) = {"kind": ..., and what that kind has}        Invalid where it is no schema
"""

import json
import re
from collections.abc import Iterable
from typing import Any

from pipeline.plain.json_text import Invalid

Resolved = dict[str, Any]
PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
TIMES = {"timestamp-millis": 1000, "timestamp-micros": 1, "timestamp-nanos": None}
LOCAL = ("local-timestamp-millis", "local-timestamp-micros", "local-timestamp-nanos")
FITS = {"int": ("date", "time-millis"), "long": ("time-micros", *TIMES, *LOCAL)}
CONNECT = {
    "io.debezium.time.Date": "date",
    "org.apache.kafka.connect.data.Date": "date",
    "io.debezium.time.Time": "time-millis",
    "org.apache.kafka.connect.data.Time": "time-millis",
    "io.debezium.time.MicroTime": "time-micros",
    "io.debezium.time.Timestamp": "timestamp-millis",
    "org.apache.kafka.connect.data.Timestamp": "timestamp-millis",
    "io.debezium.time.MicroTimestamp": "timestamp-micros",
    "io.debezium.time.NanoTimestamp": "timestamp-nanos",
}
WORD = re.compile("[A-Za-z_][A-Za-z0-9_]*")
DEEPEST, LARGEST = 200, 2**40


def resolved(text: str, references: Iterable[tuple[str, str]] = ()) -> Resolved:
    """The type that a schema's text declares; `references` are texts that it uses, with names, each after those it uses itself."""
    names: dict[str, Resolved] = {}
    for _, other in references:
        _resolve(_json(other), "", names, 0)
    return _resolve(_json(text), "", names, 0)


def _json(text: str) -> Any:
    if text.strip() in PRIMITIVES:
        return text.strip()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Invalid("a schema that is no JSON") from None


def _resolve(given: Any, namespace: str, names: dict[str, Resolved], depth: int) -> Resolved:
    if depth > DEEPEST:
        raise Invalid("a schema that is too deep")
    match given:
        case list():
            branches = [_resolve(branch, namespace, names, depth + 1) for branch in given]
            called = [branch.get("name", branch["kind"]) for branch in branches]
            if not called or "union" in called or len(set(called)) != len(called):
                raise Invalid("a union that Avro does not allow")
            return {"kind": "union", "branches": branches}
        case str():
            if given in PRIMITIVES:
                return {"kind": given}
            for name in (given if "." in given or not namespace else f"{namespace}.{given}", given):
                if name in names:
                    return names[name]
            raise Invalid(f"a type {given!r} that is declared nowhere before")
        case {"type": dict() | list() as inner}:
            return _resolve(inner, namespace, names, depth + 1)
        case {"type": "array", "items": items}:
            return {"kind": "array", "items": _resolve(items, namespace, names, depth + 1)}
        case {"type": "map", "values": items}:
            return {"kind": "map", "items": _resolve(items, namespace, names, depth + 1)}
        case {"type": "record" | "error" | "enum" | "fixed"}:
            return _named(given, namespace, names, depth)
        case {"type": "array" | "map"}:
            raise Invalid("an array or map of nothing")
        case {"type": str() as name}:
            found = _resolve(name, namespace, names, depth)
            return _logical({"kind": name}, given) if name in PRIMITIVES else found
    raise Invalid("no type")


def _named(given: dict[str, Any], namespace: str, names: dict[str, Resolved], depth: int) -> Resolved:
    name = given.get("name")
    if not isinstance(name, str) or not all(WORD.fullmatch(part) for part in name.split(".")):
        raise Invalid("a type without a name that Avro allows")
    if "." in name:
        namespace = name[: name.rindex(".")]
    else:
        namespace = given["namespace"] if isinstance(given.get("namespace"), str) else namespace
        name = f"{namespace}.{name}" if namespace else name
    if name in names:
        raise Invalid(f"{name} is declared twice")
    found = names[name] = {"kind": "record" if given["type"] == "error" else given["type"], "name": name}
    if found["kind"] == "fixed":
        size = given.get("size")
        if type(size) is not int or size < 0 or size >= LARGEST:
            raise Invalid("a fixed without a size")
        found["size"] = size
        return _logical(found, given)
    if found["kind"] == "enum":
        symbols = given.get("symbols")
        if (
            not isinstance(symbols, list)
            or not symbols
            or not all(isinstance(s, str) and WORD.fullmatch(s) for s in symbols)
        ):
            raise Invalid("an enum without symbols that Avro allows")
        found["symbols"] = symbols
        return found
    found["fields"] = {}
    if not isinstance(given.get("fields"), list):
        raise Invalid("a record without fields")
    for one in given["fields"]:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str) or "type" not in one:
            raise Invalid("a field without a name and a type")
        if not one["name"] or one["name"] in found["fields"]:
            raise Invalid("a field without a name of its own")
        found["fields"][one["name"]] = _resolve(one["type"], namespace, names, depth + 1)
    return found


def _logical(found: Resolved, given: dict[str, Any]) -> Resolved:
    """The type with its logical type, where that fits."""
    logical, kind = given.get("logicalType") or CONNECT.get(str(given.get("connect.name"))), found["kind"]
    if logical == "decimal" and kind in ("bytes", "fixed"):
        precision, scale = given.get("precision"), given.get("scale", 0)
        if type(precision) is int and type(scale) is int and 0 <= scale <= precision:
            found |= {"logical": "decimal", "scale": scale}
    elif logical == "uuid" and (kind == "string" or (kind == "fixed" and found["size"] == 16)):
        found["logical"] = "uuid"
    elif logical in FITS.get(kind, ()):
        found["logical"] = logical
    return found
