"""From raw JSON values to columns of the declared types, record by record: what decides where pipeline.decode.json_blocks is not certain.

    in = decoded + rejected + tombstones, for every block

Strict RFC 8259: one object, UTF-8, no NaN, at most DEPTH_LIMIT levels. Unknown fields are ignored; a missing field is null; a name that a
declared path goes through is given once.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.columns.arrays import Mask, decimals, from_integers
from pipeline.decode.decoded import Decoded, Recorded
from pipeline.decode.parsers import parser
from pipeline.decode.values import BREACH, LITERAL_LIMIT, Breach, Broken, Literal, kind_of
from pipeline.definition.paths import Path, shown
from pipeline.definition.record import in_event

DEPTH_LIMIT = 64
STRINGS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


class _Object(dict[str, Any]):
    """Fields of a JSON object of which some were given twice."""

    twice: frozenset[str]


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        found = _Object(pairs)
        seen: set[str] = set()
        found.twice = frozenset(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return found


def _constant(name: str) -> Any:
    raise Broken(f"{name} is no JSON value")


def _integer(text: str) -> Any:
    return int(text) if len(text) <= 19 else Literal(text)


_load = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_float=Literal, parse_int=_integer, parse_constant=_constant
).decode


def parse_object(value: bytes) -> dict[str, Any]:
    """One event's fields; raises Broken with the reason."""
    if not value:
        raise Broken("empty value")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise Broken(f"invalid UTF-8 at byte {error.start}") from None
    if text.count("[") + text.count("{") > DEPTH_LIMIT and _depth(text) > DEPTH_LIMIT:
        raise Broken(f"nested deeper than {DEPTH_LIMIT} levels")
    try:
        found = _load(text)
    except json.JSONDecodeError as error:
        raise Broken(f"broken JSON: {error.msg} at character {error.pos}") from None
    if not isinstance(found, dict):
        raise Broken("the event is no JSON object")
    return found


def at_path(event: Any, path: Path) -> Any:
    """The value at a path of a parsed event, None where it or something on the way is null or absent; Broken where it cannot be."""
    found = event
    for depth, part in enumerate(path):
        if found is None:
            return None
        if isinstance(part, str) and isinstance(found, dict):
            if isinstance(found, _Object) and part in found.twice:
                raise Broken(f"{shown(path[: depth + 1])} stands there twice")
            found = found.get(part)
        elif isinstance(part, int) and type(found) is list:
            found = found[part] if part < len(found) else None
        else:
            wanted = "an object" if isinstance(part, str) else "an array"
            raise Broken(f"{kind_of(found)} at {shown(path[:depth])} where {wanted} is declared")
    return found


def _depth(text: str) -> int:
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", STRINGS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


Cells = list[tuple[str, Any]]  # column, value
Parsers = list[tuple[str, Path, Callable[[Any], Any]]]


def decode_records(source: Recorded, values: pa.Array) -> Decoded:
    """Decode a binary array of JSON events (null: tombstone, neither decoded nor rejected)."""
    declared = in_event(source.columns)
    depth = len(source.exploded) + 1
    own: Parsers = [(c.name, c.path, parser(c)) for c in declared if not c.of_element]
    inner: Parsers = [(c.name, c.path[depth:], parser(c)) for c in declared if c.of_element]
    columns: dict[str, list[Any]] = {c.name: [] for c in declared}
    rows, rejected, elements = list[int](), list[int](), list[int]()
    reasons: list[str] = []
    for row, value in enumerate(values.to_pylist()):
        if value is None:
            continue
        try:
            event = parse_object(value)
            cells = _cells(event, own)
            inside = [_cells(element, inner) for element in _elements_of(event, source.exploded)]
        except Broken as broken:
            rejected.append(row)
            reasons.append(str(broken))
            continue
        rows.append(row)
        elements += [row] * len(inside)
        for some in (cells, *inside):
            for name, cell in some:
                columns[name].append(cell)
    arrays = {c.name: _array(c.type, columns[c.name]) for c in declared}
    return Decoded(
        np.array(rows, np.int64),
        {name: array for name, (array, _) in arrays.items()},
        {name: breach for name, (_, breach) in arrays.items() if breach is not None},
        np.array(rejected, np.int64),
        values.null_count,
        0,
        np.array(elements, np.int64) if source.exploded else None,
        lambda: reasons,
    )


def _cells(event: Any, parsers: Parsers) -> Cells:
    """The columns of an event, or of an element; Broken with the column's name."""
    found = []
    for name, path, parse in parsers:
        try:
            given = at_path(event, path)
            found.append((name, None if given is None else parse(given)))
        except Broken as broken:
            raise Broken(f"{name}: {broken}") from None
    return found


def _elements_of(event: Any, exploded: Path) -> list[Any]:
    """The elements of the array at that path, none where it is null or nothing is exploded; each an object or null."""
    try:
        found = at_path(event, exploded) if exploded else None
    except Broken as broken:
        raise Broken(f"explode: {broken}") from None
    if found is None:
        return []
    if type(found) is not list:
        raise Broken(f"explode: {kind_of(found)} at {shown(exploded)} where an array is declared")
    for place, element in enumerate(found):
        if element is not None and not isinstance(element, dict):
            where = shown((*exploded, place))
            raise Broken(f"explode: {kind_of(element)} at {where} where an object is declared")
    return found


def _array(type: Any, cells: list[Any]) -> tuple[pa.Array, Mask | None]:
    if not type.is_decimal:
        return pa.array(cells, type.arrow), None
    breach = np.fromiter((c is BREACH for c in cells), np.bool_, len(cells))
    null = np.fromiter((c is None for c in cells), np.bool_, len(cells)) | breach
    if type.kind == "wide":
        whole = [None if c is BREACH else c for c in cells]
        return from_integers(whole, type.arrow), breach if breach.any() else None
    plain = np.fromiter((0 if c is None or c is BREACH else c for c in cells), np.int64, len(cells))
    return decimals(plain, type.scale, null), breach if breach.any() else None


__all__ = ["Breach", "DEPTH_LIMIT", "LITERAL_LIMIT", "decode_records", "parse_object"]
