"""Declared columns as the tree of names and places that kernels.json walks, and how each value may be written.

parse_events(layout(columns)) has one row of outputs for each of `columns`, in their order
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from pipeline.decode.tokens import is_token
from pipeline.definition.marks import UNITS, Epoch, Lenient, Zone
from pipeline.definition.paths import Path, shown, tree
from pipeline.definition.record import Column, columns, in_event
from pipeline.kernels import json, times

KINDS = {
    "int": json.INT,
    "decimal": json.DECIMAL,
    "float": json.FLOAT,
    "str": json.STR,
    "bool": json.BOOL,
    "datetime": json.DATETIME,
    "date": json.DATE,
}


Array = np.ndarray[Any, Any]
Arrays = tuple[Array, Array, Array, Array, Array, Array, Array]


@dataclass(frozen=True)
class Layout:
    """The seven arrays names, starts, first, targets, places, kinds and scales of `columns`, as kernels.json.parse_events takes them.

    `exploded` is the number of the row of outputs that says where the array of elements lies, -1 without one.
    """

    columns: tuple[Column, ...]
    exploded: int
    arrays: Arrays = field(repr=False)


@lru_cache(maxsize=64)
def of_event(record: type, exploded: Path) -> Layout:
    """The columns that the event has once, and the array that is exploded, if any."""
    own = tuple(column for column in in_event(columns(record)) if not column.of_element)
    paths = {column.name: column.path for column in own}
    if exploded:
        paths[f"explode={shown(exploded)}"] = exploded
    return Layout(own, len(own) if exploded else -1, _arrays(own, paths))


@lru_cache(maxsize=64)
def of_element(record: type, exploded: Path) -> Layout:
    """The columns that each element of the array has."""
    own = tuple(column for column in columns(record) if column.of_element)
    return Layout(own, -1, _arrays(own, {column.name: column.path[len(exploded) + 1 :] for column in own}))


def _arrays(columns: tuple[Column, ...], paths: Mapping[str, Path]) -> Arrays:
    nodes = [tree(paths)]
    first, targets, places, names = [0], list[int](), list[int](), list[bytes]()
    for node in nodes:  # grows while it is read: each object's entries come together, the event's own first
        for part, child in node.children.items():
            names.append(b"" if isinstance(part, int) else part.encode())
            places.append(part if isinstance(part, int) else -1)
            if isinstance(child, int):
                targets.append(child)
            else:
                targets.append(-len(nodes))
                nodes.append(child)
        first.append(len(targets))
    spans = len(paths) - len(columns)
    kinds = [_kind(column) for column in columns] + [json.SPAN] * spans
    scales = [written(c) if c.type.kind == "datetime" else c.type.scale for c in columns] + [0] * spans
    starts = np.cumsum([0, *map(len, names)])
    packed = np.frombuffer(b"".join(names), np.uint8)
    places.append(-1)  # looked at for an event of which nothing is declared
    return (
        packed,
        starts.astype(np.int64),
        np.array(first, np.int64),
        np.array(targets, np.int64),
        np.array(places, np.int64),
        np.array(kinds, np.int64),
        np.array(scales, np.int64),
    )


def _kind(column: Column) -> int:
    if is_token(column):
        return json.TOKEN
    return json.EPOCH if column.mark(Epoch) else KINDS[column.type.kind]


def written(column: Column) -> int:
    """Ways in which the times of a column may be written, as kernels.times has them."""
    epoch = column.mark(Epoch)
    return times.written(
        UNITS[epoch.unit] if epoch else 0, lenient=column.mark(Lenient) is not None, zoned=column.mark(Zone) is not None
    )
