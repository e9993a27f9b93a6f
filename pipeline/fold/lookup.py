"""Versions of tables in memory, and the columns that a view's lookups find in them.

    look_up(rows)[i] = look_up(rows[i])        a row of the table, or nulls; never two

A version is Arrow columns and one hash table from the hash of a key to its rows; its memory is its columns' and 32 to 64 bytes a key.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.base.errors import LakeError
from pipeline.base.types import TIME
from pipeline.columns.arrays import Ints, Mask, chunk, codes, valid
from pipeline.columns.hash_table import HashTable
from pipeline.columns.hashing import hash_rows
from pipeline.definition.lookup import Lookup
from pipeline.definition.table import Table
from pipeline.definition.view import View
from pipeline.kernels import validity

LEAST, GREATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


class Version:
    """One version of a table. `rows` have the table's columns; no two of one key, or with history none that overlap: LakeError else."""

    def __init__(self, table: Table, rows: pa.Table, number: int = 0) -> None:
        self.table, self.number = table, number
        self._columns = {name: chunk(rows.column(name)) for name in table.types}
        self._encoded: dict[str, pa.Array] = {}
        keys = [(self._columns[name], table.types[name]) for name in table.key]
        hashes = hash_rows(keys)
        self._index = HashTable(rows.num_rows)
        self._starts = self._froms = self._tos = np.zeros(1, np.int64)
        if table.history is None:
            self._index.put(hashes, np.arange(rows.num_rows, dtype=np.int64))
            if len(self._index) < rows.num_rows:
                raise LakeError(f"version {number} of table {table.name} has a key twice; load it again")
        else:
            self._by_time(hashes, table.history.start, table.history.end)

    def _by_time(self, hashes: Any, start: str, end: str) -> None:
        froms, tos = self._codes(start, LEAST), self._codes(end, GREATEST)
        order = np.lexsort((froms, hashes[:, 1], hashes[:, 0]))
        hashes, froms, tos = np.ascontiguousarray(hashes[order]), froms[order], tos[order]
        new = np.ones(len(order), np.bool_)
        new[1:] = (hashes[1:] != hashes[:-1]).any(axis=1)
        if ((froms[1:] < tos[:-1]) & ~new[1:]).any() or (froms >= tos).any():
            raise LakeError(
                f"version {self.number} of table {self.table.name} has rows of one key that overlap; load it again"
            )
        first = np.flatnonzero(new)
        self._index.put(np.ascontiguousarray(hashes[first]), np.arange(len(first), dtype=np.int64))
        self._starts = np.append(first, len(order)).astype(np.int64)
        self._froms, self._tos = froms, tos
        take = pa.array(order, pa.int64())
        self._columns = {name: column.take(take) for name, column in self._columns.items()}

    def _codes(self, name: str, open: int) -> Ints:
        column = self._columns[name]
        found: Ints = np.where(valid(column), codes(column, TIME), open).astype(np.int64)
        return found

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def find(self, lookup: Lookup, columns: Mapping[str, pa.Array]) -> Ints:
        """The number of the row of each event, -1 where there is none."""
        keys = [(columns[lookup.on[name]], self.table.types[name]) for name in self.table.key]
        found: Ints = self._index.find(hash_rows(keys))
        for column, _ in keys:
            if column.null_count:
                found = np.where(valid(column), found, -1)
        if lookup.as_of is None:
            return found
        times = columns[lookup.as_of]
        found = np.where(valid(times), found, -1).astype(np.int64)
        valid_at: Ints = validity.valid_rows(found, codes(times, TIME), self._starts, self._froms, self._tos)
        return valid_at

    def _encoded_column(self, name: str) -> pa.Array:
        if name not in self._encoded:
            self._encoded[name] = self._columns[name].dictionary_encode()
        return self._encoded[name]

    def take(self, name: str, rows: Ints, found: Mask, encoded: bool) -> pa.Array:
        """The column's values in these rows, null where nothing was found; text with a dictionary where `encoded`."""
        column = self._encoded_column(name) if encoded else self._columns[name]
        nobody = not len(column)
        taken: pa.Array = (
            pa.nulls(len(rows), column.type) if nobody else column.take(pa.array(rows, pa.int64(), mask=~found))
        )
        return taken


Tables = Mapping[str, Version]  # by the table's name
NO_TABLES: Tables = {}


def look_up(
    view: View, columns: dict[str, pa.Array], tables: Tables, wanted: set[str], plain: bool
) -> list[tuple[Mask, str]]:
    """Add the wanted columns of the view's lookups; for each that is required the rows that it finds nothing for, and the reason.

    `plain`: texts are wanted as texts. KeyError for a table that is not given: whoever folds has asked which versions are in force.
    """
    blames = []
    encoded = set() if plain else _keys_alone(view)
    for name, lookup in view.lookups.items():
        rows = tables[lookup.table.name].find(lookup, columns)
        found = rows >= 0
        for column in lookup.table.types:
            full = f"{name}.{column}"
            if full in wanted:
                columns[full] = tables[lookup.table.name].take(column, rows, found, full in encoded)
        if lookup.required and not found.all():
            blames.append((~found, f"{name}: table {lookup.table.name} has no row for this event"))
    return blames


def _keys_alone(view: View) -> set[str]:
    """The text columns of lookups that are keys, and that nothing but the grouping looks at."""
    folded = {column for aggregate in view.aggregates.values() for column in aggregate.columns}
    return {name for name in view.key if name in view.looked_up and view.types[name].kind == "str"} - folded
