"""Rows as JSON events, one row and one value after the other: the slow equal that rows_as_json.encode is held to.

json.loads(encode_slowly(rows)[i]) = json.loads(encode(rows)[i]), numbers compared as decimals
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

from ingestion.json_tokens import BLANKS, DAY, NUMBER, NUMBERS, dumped
from ingestion.origin import Rows
from pipeline.definition.paths import Node, Path, shown, tree
from pipeline.definition.record import Column, in_event

ABSENT = object()
BARE = re.compile(NUMBER.rstrip("$"))
MIDNIGHT = re.compile(DAY.rstrip("$"))


def encode_slowly(rows: Rows, columns: Sequence[Column], textual: bool = False) -> list[bytes]:
    """One JSON object for each row, of whatever flat and nested columns; see rows_as_json.encode."""
    if rows.documents is not None:
        return [bytes(one.as_py()) for one in rows.documents]
    declared = in_event(columns)
    root = tree({column.name: column.path for column in declared})
    types = {field.name: field.type for field in rows.batch.schema}
    events = []
    for row in rows.batch.to_pylist():
        event = _Row(row, types, declared, textual, rows.flattened).below((), root)
        events.append(dumped({} if event is ABSENT else event))
    return events


class _Row:
    """One row's values by the columns' names."""

    def __init__(
        self,
        row: Mapping[str, Any],
        types: Mapping[str, pa.DataType],
        columns: Sequence[Column],
        textual: bool,
        flattened: bool,
    ) -> None:
        self.row, self.types, self.columns, self.textual, self.flattened = row, types, columns, textual, flattened

    def below(self, path: Path, node: Node) -> Any:
        """The object or array at a path, ABSENT where the origin has nothing of it."""
        found = {part: self._at((*path, part), child) for part, child in node.children.items()}
        there = {part: value for part, value in found.items() if value is not ABSENT}
        if not there:
            return ABSENT
        if node.is_array:
            return [there.get(place) for place in range(max(p for p in there if isinstance(p, int)) + 1)]
        return there

    def _at(self, path: Path, child: Node | int) -> Any:
        names = [str(path[0])] if len(path) == 1 else []
        name = next((name for name in [*names, shown(path)] if name in self.row), None)
        found = self._of(self.row[name], self.types[name], child) if name is not None else ABSENT
        if name is None and isinstance(child, Node):
            found = self.below(path, child)
        if self.flattened:
            inside = [one for one in self.row if one.startswith(f"{shown(path)}.")]
            many = [one for one in self.row if one.startswith(f"{shown(path)}[0]")]
            if many and not (isinstance(child, Node) and child.is_array):
                found = [] if any(self.row[one] is not None for one in many) else None if found is ABSENT else found
            if inside and isinstance(child, int) and found in (None, ABSENT):
                found = {} if any(self.row[one] is not None for one in inside) else None
        return found

    def _of(self, value: Any, type: pa.DataType, child: Node | int) -> Any:
        if value is None:
            return None
        if isinstance(child, int):
            return _cell(value, type, self.columns[child], self.textual)
        if not pa.types.is_struct(type) or child.is_array:
            return value
        have = [field.name for field in type]
        return {
            part: self._of(value[part], type.field(str(part)).type, grandchild)
            for part, grandchild in child.children.items()
            if part in have
        }


def _cell(value: Any, type: pa.DataType, column: Column, textual: bool) -> Any:
    kind = column.type.kind
    if isinstance(value, bytes):
        if kind == "uuid" and pa.types.is_fixed_size_binary(type) and len(value) == 16:
            return str(UUID(bytes=value))
        return value.decode("utf-8") if kind == "str" else value
    if not isinstance(value, str) or not textual:
        return value
    if kind == "str":
        return None if column.nullable and not value else value
    value = value.strip(BLANKS)
    if not value:
        return None
    if kind in NUMBERS and BARE.fullmatch(value):
        return Decimal(value)
    if kind == "bool" and value in ("true", "false"):
        return value == "true"
    if kind == "datetime" and MIDNIGHT.fullmatch(value):
        return f"{value}T00:00:00"
    return value


__all__ = ["encode_slowly"]
