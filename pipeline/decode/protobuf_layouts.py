"""The bound columns of a message type, as the arrays that kernels.protobuf interprets.

one row of `table` for each (field, wire type) that is read; nodes come breadth first, the message itself is 0
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from pipeline.columns.arrays import Ints
from pipeline.decode.json_layout import written
from pipeline.definition.protobuf_binding import DELIMITED, TIMESTAMP, Array, Bound, Leaf, asks, wire_of
from pipeline.kernels import json
from pipeline.kernels import protobuf as kernel

SOURCES = (
    *("int32", "int64", "uint32", "uint64", "sint32", "sint64", "bool", "enum"),
    *("fixed32", "sfixed32", "float", "fixed64", "sfixed64", "double", "string", TIMESTAMP),
)
COLUMN_KINDS = ("int", "decimal", "float", "str", "bool", "datetime", "date")  # in the order of kernels.json's numbers


@dataclass(frozen=True, eq=False)
class Layout:
    """The arrays of one message type, but for the places of enumerations' names, which stand in `names` and follow the data's own bytes.

    `asked`: the record-by-record parser reads all of them.
    """

    table: Ints
    first: Ints
    firsts: Ints
    sizes: Ints
    names: bytes
    asked: bool
    _defaults: Ints
    _enums: Ints

    def defaults(self, base: int) -> Ints:
        """Rows (column, value, end), where `names` begin at `base`."""
        rows = self._defaults.reshape(-1, 3).copy()
        rows[rows[:, 2] > 0, 1:] += base
        return rows.ravel()

    def enums(self, base: int) -> Ints:
        """Rows (number, begin, end), where `names` begin at `base`."""
        rows = self._enums.reshape(-1, 3).copy()
        rows[:, 1:] += base
        return rows.ravel()


@dataclass
class _Building:
    nodes: list[Bound | Array]
    names: bytearray = field(default_factory=bytearray)
    enums: list[int] = field(default_factory=list)
    oneofs: int = 0

    def node(self, one: Bound | Array) -> int:
        self.nodes.append(one)
        return len(self.nodes) - 1

    def enum(self, leaf: Leaf) -> tuple[int, int]:
        """MORE and LAST of a value: the rows of an enumeration whose names are asked for."""
        if leaf.field.type != "enum" or leaf.column.type.kind != "str":
            return int(leaf.empty_is_null), 0
        low = len(self.enums) // 3
        for number, name in leaf.field.enum:
            begin = len(self.names)
            self.names += name.encode()
            self.enums += [number, begin, len(self.names)]
        return low, len(self.enums) // 3

    def row(self, key: int, one: Leaf | Bound, oneof: int) -> list[int]:
        """The row of one value: a leaf or a message."""
        if isinstance(one, Bound):
            return [key, kernel.MESSAGE, 0, self.node(one), 0, 0, 0, oneof]
        column = one.column
        source = SOURCES.index(one.field.message or one.field.type)
        kind = json.EPOCH if column.epoch else COLUMN_KINDS.index(column.type.kind)
        scale = written(column) if column.type.kind == "datetime" else column.type.scale
        return [key, source, kind, one.number, scale, *self.enum(one), oneof]

    def rows(self, node: Bound | Array) -> list[list[int]]:
        """The rows of a node, by their keys."""
        if isinstance(node, Array):
            return sorted(self.row(place, one, 0) for place, one in node.elements.items())
        member: dict[int, int] = {}
        found = []
        for fields in node.oneofs.values():
            self.oneofs += 1
            member |= dict.fromkeys((f.number for f in fields), self.oneofs)
            others = [f for f in fields if f.number not in node.fields]
            found += [[f.number << 3 | wire_of(f.type), kernel.IGNORED, *[0] * 5, self.oneofs] for f in others]
        for number, one in node.fields.items():
            if isinstance(one, Array):
                wire, inside = wire_of(one.field.type), self.node(one)
                found.append([number << 3 | wire, kernel.REPEATED, 0, inside, 0, wire, 0, 0])
                if wire != DELIMITED:
                    found.append([number << 3 | DELIMITED, kernel.PACKED, 0, inside, 0, wire, 0, 0])
                continue
            wire = wire_of(one.field.type) if isinstance(one, Leaf) else DELIMITED
            found.append(self.row(number << 3 | wire, one, member.get(number, 0)))
        return sorted(found)


@lru_cache(maxsize=256)
def layout(bound: Bound) -> Layout:
    """The layout of bound columns."""
    if asks(bound):
        none = np.zeros(0, np.int64)
        return Layout(none, none, none, none, b"", True, none, none)
    building = _Building([bound])
    first, firsts = [0], [0]
    table: list[list[int]] = []
    defaults: list[list[int]] = []
    for node in building.nodes:  # grows while it is read
        rows = building.rows(node)
        table += rows
        first.append(len(table))
        if isinstance(node, Bound):
            defaults += [_default(leaf, rows, building) for leaf in node.defaults]
        firsts.append(len(defaults))
    sizes = [len(building.nodes), building.oneofs, len(table)]
    return Layout(
        _ints(table), _ints(first), _ints(firsts), _ints(sizes), bytes(building.names), False, _ints(defaults), _ints(building.enums)
    )  # fmt: skip


def _default(leaf: Leaf, rows: list[list[int]], building: _Building) -> list[int]:
    """(column, value, end) of what is written for a missing value: 0, or the place of the name that is number 0's; 0, 0 is no text."""
    row = next(row for row in rows if row[1] < kernel.MESSAGE and row[3] == leaf.number)
    for place in range(row[5], row[6]):
        number, begin, end = building.enums[3 * place : 3 * place + 3]
        if number == 0:
            return [leaf.number, begin, end]
    return [leaf.number, 0, 0]


def _ints(found: Any) -> Ints:
    return np.array(found, np.int64).ravel()
