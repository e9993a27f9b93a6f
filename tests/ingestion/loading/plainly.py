"""Loads as one would write them down: Python's dicts, one row at a time.

modes of ingestion.loading = these, for every version before, every sequence of rows, however it is cut into batches
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

Row = dict[str, Any]
COUNTED = ("added", "changed", "unchanged", "duplicates", "deleted", "rejected", "gone")


def said(row: Row) -> tuple[Any, ...]:
    """The row as values that are equal where rows say the same; floats by their bits."""
    return tuple(struct.pack("d", value) if isinstance(value, float) else value for _, value in sorted(row.items()))


def version(rows: Iterable[Row]) -> list[tuple[Any, ...]]:
    """Rows whose order counts for nothing."""
    return sorted(map(said, rows), key=repr)


def fresh(
    before: Sequence[Row], rows: Sequence[Row], key: Sequence[str], appends: bool
) -> tuple[list[Row], Counter[str]]:
    """Full, and Append where it appends: the version and the counts."""
    made = {tuple(row[k] for k in key): row for row in before} if appends else {}
    old, counts = set(made), Counter[str]()
    for row in rows:
        its = tuple(row[k] for k in key)
        if its in old:
            counts["unchanged"] += 1
        elif its not in made:
            made[its] = row
            counts["added"] += 1
        else:
            counts["duplicates" if said(made[its]) == said(row) else "rejected"] += 1
    return list(made.values()), counts


def newest(
    before: Sequence[Row], rows: Sequence[Row], key: Sequence[str], cursor: str, deleted: str | None
) -> tuple[list[Row], Counter[str]]:
    """Incremental and Merge."""
    made, counts, chosen = {tuple(row[k] for k in key): row for row in before}, Counter[str](), dict[Any, Row]()
    for row in rows:
        its = tuple(row[k] for k in key)
        if its in chosen:
            counts["duplicates"] += 1
        if its not in chosen or row[cursor] >= chosen[its][cursor]:
            chosen[its] = row
    for its, row in chosen.items():
        old = made.get(its)
        if old is not None and row[cursor] < old[cursor]:
            counts["duplicates"] += 1
        elif deleted is not None and row[deleted]:
            counts["deleted"] += 1
            counts["gone"] += old is not None
            made.pop(its, None)
        elif old is None:
            counts["added"] += 1
            made[its] = row
        elif said(old) == said(row):
            counts["unchanged"] += 1
        else:
            counts["changed"] += 1
            made[its] = row
    return list(made.values()), counts


def snapshot(
    before: Sequence[Row] | None, rows: Sequence[Row], key: Sequence[str], at: datetime
) -> tuple[list[Row], Counter[str]]:
    """Snapshot, whose two columns are `since` and `until`."""
    counts, now = Counter[str](), dict[Any, Row]()
    for row in rows:
        its = tuple(row[k] for k in key)
        if its not in now:
            now[its] = row
        else:
            counts["duplicates" if said(now[its]) == said(row) else "rejected"] += 1
    made: list[Row] = []
    for old in before or ():
        if old["until"] is not None:
            made.append(old)
            continue
        its = tuple(old[k] for k in key)
        bare = {name: value for name, value in old.items() if name not in ("since", "until")}
        if its in now and said(now[its]) == said(bare):
            made.append(old)
            counts["unchanged"] += 1
            del now[its]
            continue
        made.append({**old, "until": at})
        counts["changed" if its in now else "gone"] += 1
    begun = None if before is None else at
    counts["added"] += len(now) - counts["changed"]
    made += [{**row, "since": begun, "until": None} for row in now.values()]
    return made, counts
