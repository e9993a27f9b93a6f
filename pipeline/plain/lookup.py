"""Lookups again, row by row: which version counts for an event, and which of its rows.

    version = of the last cut of the ledger, by number, that is at or below the event's offset in its partition

Nothing is shared with the arrays and the hash table of pipeline.fold.lookup, nor with pipeline.handover.versions.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.base.errors import LogError
from pipeline.definition.lookup import Lookup
from pipeline.handover.generation import Cut

Row = Mapping[str, Any]
ReadRows = Callable[[str, int], Sequence[Row]]  # (table, version) -> its rows


def no_rows(table: str, version: int) -> Sequence[Row]:
    """Rows for views that look nothing up."""
    return ()


class PlainTables:
    """The versions of all tables, by the ledger. `read_rows` gives a version's rows as Python values, each asked for once."""

    def __init__(self, ledger: Sequence[Cut] = (), read_rows: ReadRows = no_rows) -> None:
        self._ledger, self._read_rows = ledger, read_rows
        self._rows: dict[tuple[str, int], dict[tuple[Any, ...], list[Row]]] = {}

    def row(self, lookup: Lookup, record: Row, partition: int, offset: int) -> Row | None:
        """The row of the lookup's table that belongs to the record at that offset; None when there is none."""
        table = lookup.table
        version = self._version(table.name, partition, offset)
        if (table.name, version) not in self._rows:
            by_key = self._rows[table.name, version] = defaultdict(list)
            for row in self._read_rows(table.name, version):
                by_key[tuple(row[name] for name in table.key)].append(row)
        key = tuple(record[lookup.on[name]] for name in table.key)
        if any(value is None for value in key):
            return None
        found = self._rows[table.name, version].get(key, [])
        if lookup.as_of is not None:
            found = [row for row in found if _valid(row, lookup, record[lookup.as_of])]
        assert len(found) <= 1, f"version {version} of table {table.name} has two rows of {key}"
        return found[0] if found else None

    def _version(self, table: str, partition: int, offset: int) -> int:
        last: int | None = None
        for cut in sorted(self._ledger, key=lambda cut: cut.number):
            if cut.offsets[partition] <= offset:
                last = dict(cut.versions).get(table, last)
        if last is None:
            raise LogError(f"table {table} has no version at partition {partition}, offset {offset}")
        return last


def _valid(row: Row, lookup: Lookup, time: Any) -> bool:
    history = lookup.table.history
    assert history is not None
    start, end = row[history.start], row[history.end]
    return time is not None and (start is None or start <= time) and (end is None or time < end)
