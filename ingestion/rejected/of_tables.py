"""Rejected rows of a table's loads, and what became of them since.

    open = rejected by a version − taken by a replay − read again by a later load

A load that reads a part whole reads its broken rows again too, and rejects or accepts them anew: then the older ones say nothing more.
The ranges of a split table count as one part: their bounds move with its rows, and a load reads all of them. An incremental load reads on
from its cursor, so that what it rejected stays open until a replay takes it, or the same row is rejected again.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ingestion.origins.sql import without_range
from ingestion.rejected.rows import OPEN, REPLAYED, SUPERSEDED, KeptRows, Ranges, mask_of
from pipeline.lake.lake import Lake
from serving.ops.table_versions import LoadedVersion

pc: Any = pyarrow.compute  # whose stubs take fewer types than it does


def rejected_of_table(lake: Lake, versions: Sequence[LoadedVersion]) -> Iterator[KeptRows]:
    """Files of rejected rows, the newest version's first; `versions` are all of one table, as the store has them."""
    later = _Later()
    for version in reversed(versions):
        if version.manifest is None or version.made_at is None:
            continue
        facts = version.facts
        files = [(path, lake.read_table(path)) for path in facts["rejected"]]
        lost = facts["counts"]["rejected"] - sum(rows.num_rows for _, rows in files)
        for path, rows in files:
            yield KeptRows(path, version.version, version.made_at, rows, later.state(path, rows, facts["origin"]), lost)
        later.remember(facts, [rows for _, rows in files])


class _Later:
    """Words of the versions above one about the rows that it rejected."""

    def __init__(self) -> None:
        self.all_again = False
        self.parts: set[str] = set()
        self.taken: dict[str, Ranges] = {}
        self.again: list[pa.Array] = []

    def state(self, path: str, rows: pa.Table, origin: dict[str, Any]) -> "np.ndarray[Any, np.dtype[np.int8]]":
        if self.all_again:
            return np.full(rows.num_rows, SUPERSEDED, np.int8)
        state = np.full(rows.num_rows, OPEN, np.int8)
        parts = pc.is_in(_parts(rows, origin), pa.array(sorted(self.parts), pa.string()))
        state[np.asarray(parts.to_numpy(zero_copy_only=False), np.bool_)] = SUPERSEDED
        if self.again:
            known = pc.is_in(_marks(rows, origin), pa.concat_arrays(self.again))
            state[np.asarray(known.to_numpy(zero_copy_only=False), np.bool_)] = SUPERSEDED
        state[mask_of(self.taken.get(path, []), rows.num_rows)] = REPLAYED
        return state

    def remember(self, facts: Mapping[str, Any], rejected: Sequence[pa.Table]) -> None:
        if "replay" in facts:
            for path, ranges in facts["replay"]["taken"].items():
                self.taken.setdefault(path, []).extend(ranges)
            return
        self.all_again = self.all_again or facts["mode"].startswith(("Full(", "Snapshot("))
        if facts.get("since") is None:
            self.parts |= {without_range(facts["origin"], part["name"]) for part in facts["parts"]}
        else:
            self.again += [_marks(rows, facts["origin"]) for rows in rejected]


def _parts(rows: pa.Table, origin: dict[str, Any]) -> pa.Array:
    """Name of each row's part, without the range of a split table."""
    part = pc.dictionary_encode(rows.column("part").combine_chunks())
    names = [without_range(origin, name) for name in part.dictionary.to_pylist()]
    return pa.array(names, pa.string()).take(part.indices)


def _marks(rows: pa.Table, origin: dict[str, Any]) -> pa.Array:
    """A row as told again: its part and its bytes."""
    columns = [_parts(rows, origin).cast(pa.binary()), rows.column("raw")]
    found = pc.binary_join_element_wise(*columns, pa.scalar(b"\0", pa.binary()))
    whole: pa.Array = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    return whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)


__all__ = ["rejected_of_table"]
