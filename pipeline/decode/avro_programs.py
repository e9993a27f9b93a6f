"""A writer's schema and the declared columns, compiled once to a program that a kernel runs over every record of that schema.

    run(program(schema, columns), body) = the columns of the body        one row of the program is WIDTH int64: an instruction

What is declared is inlined, each step of a path once; what is not declared is skipped, each record of it by one routine for all places
where it stands, which may call itself. So a program is no longer than the schema and the paths are.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.decode.json_layout import written
from pipeline.decode.json_records import DEPTH_LIMIT
from pipeline.decode.tokens import is_token
from pipeline.definition import avro
from pipeline.definition.avro import Type
from pipeline.definition.avro_columns import ASK, TEXTS, reading
from pipeline.definition.paths import Node, tree
from pipeline.definition.record import Column
from pipeline.kernels import avro as kernel


@dataclass(frozen=True)
class Program:
    """Instructions (WIDTH int64 each) for one schema. `names` holds bytes of keys and symbols; `entries` counts declared elements."""

    rows: np.ndarray[Any, np.dtype[np.int64]]
    names: bytes
    entries: int
    uuids: int


def program(type: Type, columns: tuple[Column, ...]) -> Program:
    """Compile; every schema has a program: a column that cannot read what is there breaks the records that have it."""
    return _Compiler(columns).compiled(type)


class _Compiler:
    """The rows as far as they are made; a place in them is the number of a row."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self._columns = columns
        self._rows: list[list[int]] = []
        self._names = bytearray()
        self._entries = 0
        self._uuids = 0
        self._target = -1  # a row that is jumped to from before the row above it
        self._routines: dict[int, int] = {}  # id of a record -> its routine's row, which is not made yet while it waits
        self._waiting: list[Type] = []
        self._calls: list[tuple[int, Type]] = []

    def compiled(self, type: Type) -> Program:
        self._value(type, tree({c.name: c.path for c in self._columns}), 1, False)
        self._emit(kernel.END)
        while self._waiting:
            wanted = self._waiting.pop()
            self._routines[id(wanted)] = len(self._rows)
            for one in wanted.fields.values():
                self._skip(one, 2, True)
            self._emit(kernel.RETURN)
        for row, wanted in self._calls:
            self._rows[row][1] = self._routines[id(wanted)]
        rows = np.array([row + [0] * (kernel.WIDTH - len(row)) for row in self._rows], np.int64)
        return Program(rows.reshape(-1), bytes(self._names), self._entries, self._uuids)

    def _emit(self, *row: int) -> int:
        self._rows.append(list(row))
        return len(self._rows) - 1

    def _value(self, type: Type, want: Node | int | None, level: int, routine: bool) -> None:
        """Code for a value that a record, array or map at level - 1 holds: `want` is what is declared in it, or a column's number."""
        if want is None:
            self._skip(type, level, routine)
        elif type.kind == "union":
            self._union(type, want, level, routine)
        elif type.kind == "null":
            return  # a column is null until it is read
        elif isinstance(want, int):
            self._column(type, want)
        elif type.kind == "record" and not want.is_array:
            for name, one in type.fields.items():
                self._value(one, want.children.get(name), level + 1, routine)
        elif type.kind == ("array" if want.is_array else "map"):
            self._loop(type, want, level, routine)
        else:
            self._emit(kernel.FAIL)

    def _column(self, type: Type, number: int) -> None:
        found = reading(type, self._columns[number])
        if isinstance(found, str):
            self._emit(kernel.FAIL)
            return
        if found.conversion == ASK or is_token(self._columns[number]):
            self._emit(kernel.ASK)
            return
        if found.conversion == "enum":  # its symbols stand in rows of their own, behind the one that reads it
            row = self._emit(kernel.READ, number, kernel.ENUM, len(self._rows) + 1, len(type.symbols), 0)
            for symbol in type.symbols:
                self._emit(kernel.END, *self._name(symbol))
            self._rows[row][5] = len(self._rows)
            return
        self._uuids += found.conversion == "uuid"
        times = found.conversion in ("text_datetime", "text_epoch")
        scale = written(self._columns[number]) if times else found.scale
        self._emit(kernel.READ, number, getattr(kernel, found.conversion.upper()), scale, found.size)

    def _name(self, text: str) -> tuple[int, int]:
        start = len(self._names)
        self._names += text.encode()
        return start, len(self._names)

    def _union(self, type: Type, want: Node | int | None, level: int, routine: bool) -> None:
        nulls = [n for n, branch in enumerate(type.items) if branch.kind == "null"]
        if len(type.items) == 2 and len(nulls) == 1:
            row = self._emit(kernel.OPTION, nulls[0], 0)
            self._value(type.items[1 - nulls[0]], want, level, routine)
            self._rows[row][2] = self._target = len(self._rows)
            return
        row = self._emit(kernel.UNION, len(type.items))
        for _ in type.items:
            self._emit(kernel.JUMP, 0)
        ends = []
        for number, branch in enumerate(type.items):
            self._rows[row + 1 + number][1] = len(self._rows)
            self._value(branch, want, level, routine)
            ends.append(self._emit(kernel.JUMP, 0))
        for end in ends:
            self._rows[end][1] = len(self._rows)

    def _loop(self, type: Type, want: Node | None, level: int, routine: bool) -> None:
        """Code for an array or a map, whose declared elements are `want`'s."""
        (item,) = type.items
        children = list(want.children.items()) if want is not None else []
        children.sort(key=lambda child: child[0] if isinstance(child[0], int) else 0)
        first = self._emit(kernel.JUMP, 0) + 1 if children else 0  # over the entries
        for part, _ in children:
            names = (0, 0) if isinstance(part, int) else self._name(part)
            self._emit(kernel.END, part if isinstance(part, int) else -1, *names, 0, self._entries)
            self._entries += 1
        if children:
            self._rows[first - 1][1] = len(self._rows)
        size = item.fixed_size()
        row = self._emit(
            kernel.LOOP, first, len(children), 0, -1 if size is None else size, int(type.kind == "map"), level, 0
        )
        again = self._emit(kernel.NEXT)
        self._rows[row][3] = item.height() if size is not None else len(self._rows)
        if size is None:
            self._skip(item, level + 1, routine)
            self._emit(kernel.JUMP, again)
        for number, (_, child) in enumerate(children):
            self._rows[first + number][4] = len(self._rows)
            self._value(item, child, level + 1, routine)
            self._emit(kernel.JUMP, again)
        self._rows[row][7] = len(self._rows)

    def _skip(self, type: Type, level: int, routine: bool) -> None:
        size = type.fixed_size()
        if size is not None:
            deepest = level + type.height() - 1
            if type.kind == "record" and (routine or deepest > DEPTH_LIMIT):
                self._emit(kernel.DEEP, deepest)
            if self._rows and self._rows[-1][0] == kernel.SKIP and self._target != len(self._rows):
                self._rows[-1][1] = min(self._rows[-1][1] + size, avro.MOST_BYTES)
            elif size:
                self._emit(kernel.SKIP, size)
        elif type.kind in ("int", "long", "enum"):
            self._emit(kernel.SKIP_LONG)
        elif type.kind in TEXTS:
            self._emit(kernel.SKIP_BYTES)
        elif type.kind == "union":
            self._union(type, None, level, routine)
        elif type.kind == "record":
            if id(type) not in self._routines:
                self._routines[id(type)] = -1
                self._waiting.append(type)
            self._calls.append((self._emit(kernel.CALL, 0, level), type))
        else:
            self._loop(type, None, level, routine)
