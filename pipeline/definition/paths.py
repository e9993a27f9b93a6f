"""Paths to values in an event, as the mark At takes them, and the tree that they make together.

At("context.user.id")  the field id of the object user of the object context        At("tags[0]")  the first element of the array tags
At('"a.b".c')          a name with dots stands in quotes                            At("items[].sku")  a field of each element of items

null or absent on the way  =>  the column is null        anything else than the object or array that is due  =>  the record is rejected
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.base.errors import DefinitionError

Path = tuple[str | int, ...]  # names of objects' fields, and places in arrays
ELEMENT = -1  # the place that stands for each element of an array that is exploded
MOST_PARTS, MOST_INDEX = 63, 2**31 - 1
PART = re.compile(r'(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<name>[^."\[\]]+)|\[(?P<index>[0-9]*)\]')


def parse(text: object, what: str = "At") -> Path:
    """The parts of a path; `[]`, each element of an array, is ELEMENT. DefinitionError, which begins with `what`, where it is none."""
    if not isinstance(text, str) or not text:
        raise DefinitionError(f"{what}({text!r}): allowed is a path as 'context.user.id', 'tags[0]' or '\"a.b\".c'")
    parts: list[str | int] = []
    at = 0
    while at < len(text):
        dotted = bool(parts) and text[at] == "."
        at += dotted
        found = PART.match(text, at)
        place = found["index"] if found else None
        if found is None or (place is None) == (bool(parts) and not dotted) or (place is not None and not parts):
            raise DefinitionError(
                f"{what}({text!r}): no name or [place] at character {at}; a name with dots or brackets stands in quotes, as '\"a.b\".c'"
            )
        parts.append(_name(found[0]) if place is None else int(place) if place else ELEMENT)
        at = found.end()
    if text.endswith(".") or len(parts) > MOST_PARTS or any(isinstance(p, int) and p > MOST_INDEX for p in parts):
        raise DefinitionError(
            f"{what}({text!r}): allowed are at most {MOST_PARTS} parts, none of them empty, places up to {MOST_INDEX}"
        )
    if parts.count(ELEMENT) > 1 or (ELEMENT in parts and not isinstance((*parts, 0)[parts.index(ELEMENT) + 1], str)):
        raise DefinitionError(
            f"{what}({text!r}): [] stands for each element of the one array that is exploded, and a field of it follows, as 'items[].sku'"
        )
    return tuple(parts)


def _name(text: str) -> str:
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        raise DefinitionError(
            f"At(...): {text} is no quoted name; quotes and backslashes in it have a backslash before them"
        ) from None


def shown(path: Path) -> str:
    """The path as At takes it."""
    found = ""
    for part in path:
        if isinstance(part, int):
            found += "[]" if part == ELEMENT else f"[{part}]"
            continue
        plain = PART.fullmatch(part)
        name = part if plain is not None and plain["name"] else json.dumps(part, ensure_ascii=False)
        found += f".{name}" if found else name
    return found


@dataclass
class Node:
    """An object or array on the way to declared values: what is asked of it, by name or place; a leaf is a column's number."""

    children: "dict[str | int, Node | int]" = field(default_factory=dict)

    @property
    def is_array(self) -> bool:
        return any(isinstance(part, int) for part in self.children)


def tree(paths: Mapping[str, Path]) -> Node:
    """The paths of columns, by the columns' names in their order, as one tree; DefinitionError where two cannot both be."""
    root, owner = Node(), dict[Path, str]()
    for number, (column, path) in enumerate(paths.items()):
        node = root
        for depth, part in enumerate(path):
            here = path[: depth + 1]
            if node.children and isinstance(part, int) != node.is_array:
                raise _both(column, owner[path[:depth]], path[:depth], "an array and an object")
            last = depth == len(path) - 1
            child = node.children.setdefault(part, number if last else Node())
            if last and child != number:
                raise _both(column, owner[here], here, "one value")
            if not last and isinstance(child, int):
                raise _both(column, owner[here], here, "a value and what contains others")
            owner.setdefault(here, column)
            owner.setdefault((), column)
            if isinstance(child, Node):
                node = child
    return root


def _both(column: str, other: str, path: Path, what: str) -> DefinitionError:
    return DefinitionError(
        f"columns {other!r} and {column!r}: {shown(path)!r} cannot be {what} for both; give one another At"
    )
