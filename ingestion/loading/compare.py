"""Two versions of a table, row by row: added, changed, gone.

rows of the later = rows of the earlier − gone + added        changed: the same key, other values
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.loading.buckets import ROOM, Buckets, Room, together
from ingestion.loading.rows import keys_of, matched
from pipeline.definition.table import Table
from pipeline.fold.in_force import VersionRows, declared_schema
from pipeline.lake.lake import Lake

SHOWN = 10


@dataclass
class Difference:
    """The numbers of rows that differ, and the first SHOWN of each kind; of changed ones before and after."""

    added: int = 0
    changed: int = 0
    gone: int = 0
    rows_added: list[Mapping[str, Any]] = field(default_factory=list)
    rows_gone: list[Mapping[str, Any]] = field(default_factory=list)
    rows_changed: list[Mapping[str, Any]] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return dict(vars(self))

    @staticmethod
    def told(table: str, document: Mapping[str, Any]) -> str:
        """Lines for a person."""
        lines = [f"{table}: {document['added']:,} added, {document['changed']:,} changed, {document['gone']:,} gone"]
        lines += [f"  + {row}" for row in document["rows_added"]]
        lines += [f"  - {row}" for row in document["rows_gone"]]
        lines += [f"  ~ {pair['before']} -> {pair['after']}" for pair in document["rows_changed"]]
        return "\n".join(lines)


def compare(lake: Lake, table: Table, earlier: int, later: int, room: Room = ROOM, shown: int = SHOWN) -> Difference:
    """The difference of two versions. Memory holds a bucket of keys of each."""
    found = Difference()
    with ExitStack() as stack:
        old, new = (_buckets(lake, table, number, room, stack) for number in (earlier, later))
        for number in range(together([old, new])):
            _add(found, table, old.bucket(number), new.bucket(number), shown)
    return found


def _buckets(lake: Lake, table: Table, version: int, room: Room, stack: ExitStack) -> Buckets:
    found = Buckets(table, declared_schema(table), room)
    stack.callback(found.close)
    for rows in VersionRows(lake, table, version):
        found.add(rows)
    return found


def _add(found: Difference, table: Table, old: pa.Table, new: pa.Table, shown: int) -> None:
    match = matched(new, old, table, keys_of(table), [column.name for column in table.columns])
    place, there, same = match.place, match.there, match.same
    kept = np.zeros(old.num_rows, np.bool_)
    kept[place[there]] = True
    changed, added, gone = np.flatnonzero(there & ~same), np.flatnonzero(~there), np.flatnonzero(~kept)
    found.added += len(added)
    found.changed += len(changed)
    found.gone += len(gone)
    found.rows_added += _first(new, added, shown - len(found.rows_added))
    found.rows_gone += _first(old, gone, shown - len(found.rows_gone))
    first = changed[: shown - len(found.rows_changed)]
    pairs = zip(_first(old, place[first], len(first)), _first(new, first, len(first)), strict=True)
    found.rows_changed += [{"before": before, "after": after} for before, after in pairs]


def _first(rows: pa.Table, which: Any, most: int) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = rows.take(pa.array(which[:most], pa.int64())).to_pylist()
    return found


__all__ = ["Difference", "compare"]
