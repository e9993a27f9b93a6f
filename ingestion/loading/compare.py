"""Two versions of a table, row by row: added, changed, gone.

rows of the later = rows of the earlier − gone + added        changed: the same key, other values
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion.loading.rows import keys_of, matched
from pipeline.definition.table import Table
from pipeline.fold.in_force import read_version
from pipeline.lake.lake import Lake

SHOWN = 10


@dataclass(frozen=True)
class Difference:
    """The rows that differ: `changed` are pairs of them, before and after."""

    added: pa.Table
    gone: pa.Table
    changed: tuple[pa.Table, pa.Table]

    def document(self) -> dict[str, Any]:
        """Counts, and the first rows of each kind."""
        before, after = (one.slice(0, SHOWN).to_pylist() for one in self.changed)
        return {
            "added": self.added.num_rows,
            "changed": self.changed[0].num_rows,
            "gone": self.gone.num_rows,
            "rows_added": self.added.slice(0, SHOWN).to_pylist(),
            "rows_gone": self.gone.slice(0, SHOWN).to_pylist(),
            "rows_changed": [{"before": a, "after": b} for a, b in zip(before, after, strict=True)],
        }

    @staticmethod
    def told(table: str, document: dict[str, Any]) -> str:
        """Lines for a person."""
        lines = [f"{table}: {document['added']:,} added, {document['changed']:,} changed, {document['gone']:,} gone"]
        lines += [f"  + {row}" for row in document["rows_added"]]
        lines += [f"  - {row}" for row in document["rows_gone"]]
        lines += [f"  ~ {pair['before']} -> {pair['after']}" for pair in document["rows_changed"]]
        return "\n".join(lines)


def compare(lake: Lake, table: Table, earlier: int, later: int) -> Difference:
    """The difference of two versions; memory holds both."""
    old, new = read_version(lake, table, earlier), read_version(lake, table, later)
    key, names = keys_of(table), [column.name for column in table.columns]
    found = matched(new, old, table, key, names)
    place, there, same = found.place, found.there, found.same
    kept = np.zeros(old.num_rows, np.bool_)
    kept[place[there]] = True
    changed = np.flatnonzero(there & ~same)
    return Difference(
        new.take(pa.array(np.flatnonzero(~there), pa.int64())),
        old.take(pa.array(np.flatnonzero(~kept), pa.int64())),
        (old.take(pa.array(place[changed], pa.int64())), new.take(pa.array(changed, pa.int64()))),
    )


__all__ = ["Difference", "compare"]
