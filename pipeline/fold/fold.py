"""From accepted records to states, and from states to states: derive -> filter -> fold, per view.

    fold(a ++ b) = fold(a) ⊕ fold(b)        combine([x, y]) = x ⊕ y, group by group

One row per (key, window); groups stand in the order of their first rows, which carries no meaning: compare after sorting.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.accept.accept import OFFSET, PARTITION
from pipeline.aggregates.base import Rows
from pipeline.base.types import INT, KEY_BYTES, TIME
from pipeline.columns.arrays import Ints, chunk, codes, indices_of, plain, text_buffers, valid
from pipeline.columns.groups import group, number_rows
from pipeline.columns.hashing import Hashes, hash_rows
from pipeline.definition.view import View
from pipeline.fold.evaluate import as_condition, derive, enter
from pipeline.fold.lookup import NO_TABLES, Tables, look_up
from pipeline.fold.states import WINDOW_TYPE, group_columns, state_of, state_schema
from pipeline.handover import ViewCounts


@dataclass(frozen=True)
class Folded:
    """The states of one batch, what became of its records, and which of them (row numbers) the view rejected, with reasons."""

    states: pa.Table
    counts: ViewCounts
    rejected: np.ndarray[Any, np.dtype[np.int64]]
    reasons: list[str]


def fold(view: View, accepted: pa.RecordBatch, tables: Tables = NO_TABLES) -> Folded:
    """Fold a batch of accepted records (clean_schema); pure. `tables` are the versions in force for all of them."""
    rows = accepted.num_rows
    if rows == 0:
        return Folded(state_schema(view).empty_table(), ViewCounts(), np.empty(0, np.int64), [])
    columns = {name: accepted.column(name) for name in accepted.schema.names}
    failed, reason = np.zeros(rows, np.bool_), np.full(rows, -1, np.int64)
    reasons: list[str] = []
    keep = _derive_and_filter(view, columns, tables, failed, reason, reasons, rows)
    kept = np.flatnonzero(keep & ~failed)
    used = {name: columns[name] for name in _used(view) if name in columns}
    if len(kept) < rows:
        take = pa.array(kept, pa.int64())
        used = {name: column.take(take) for name, column in used.items()}
    states = _lift(view, used) if len(kept) else state_schema(view).empty_table()
    rejected = np.flatnonzero(failed)
    counts = ViewCounts(len(kept), int((~keep & ~failed).sum()), len(rejected))
    return Folded(states, counts, rejected, [reasons[i] for i in reason[rejected]])


def needs_places(view: View) -> bool:
    """True when folding looks at PARTITION and OFFSET, be it to name what an expression cannot be computed for."""
    return _computes(view) or bool(view.lookups) or _is_ordered(view)


def _computes(view: View) -> bool:
    return bool(view.derive) or view.where_tree is not None


def _is_ordered(view: View) -> bool:
    return any(aggregate.ordered for aggregate in view.aggregates.values())


def columns_of(views: Iterable[View]) -> set[str]:
    """The source's columns that folding these views looks at."""
    found: set[str] = set()
    for view in views:
        declared = {column.name for column in view.source.columns}
        found |= declared if _computes(view) else (_used(view) | _looked_at(view)) & declared
    return found


def encoded_of(view: View) -> list[str]:
    """Text keys of the view that may come with a dictionary: nothing but the grouping looks at them."""
    if _computes(view):
        return []
    folded = _folded(view) | _looked_at(view) | set(view.looked_up)
    return [name for name in view.key if view.types[name].kind == "str" and name not in folded]


def _looked_at(view: View) -> set[str]:
    return {name for lookup in view.lookups.values() for name in lookup.reads}


def _used(view: View) -> set[str]:
    return {*view.key, view.source.event_time, PARTITION, OFFSET, *_folded(view)}


def _folded(view: View) -> set[str]:
    return {column for aggregate in view.aggregates.values() for column in aggregate.columns}


def _derive_and_filter(
    view: View, columns: dict[str, pa.Array], tables: Tables, failed: Any, reason: Any, reasons: list[str], rows: int
) -> Any:
    """Add the columns of lookups and the derived ones; mark failures with their first reason; return who passes `where`."""

    def blame(mask: Any, text: str) -> None:
        reason[mask & ~failed] = len(reasons)
        reasons.append(text)
        failed[mask] = True

    computes = _computes(view)
    wanted = set(view.looked_up) if computes else _used(view) & set(view.looked_up)
    for mask, text in look_up(view, columns, tables, wanted, computes):
        blame(mask, text)
    seen = {c.name: enter(columns[c.name], c.type) for c in view.source.columns} if computes else {}
    seen |= {name: enter(columns[name], type) for name, type in view.looked_up.items()} if computes else {}
    own = dict(seen)
    for name, derived in view.derive.items():
        columns[name], lost = derive(derived.tree, derived.column_type, own, rows)
        blame(lost, f"{name}: {derived.tree} cannot be computed as {derived.column_type}")
        seen[name] = enter(columns[name], derived.column_type)
    keep = np.ones(rows, np.bool_)
    if view.where_tree is not None:
        keep, lost = as_condition(view.where_tree, seen, rows)
        blame(lost, f"where: {view.where_tree} cannot be computed")
    long = _key_bytes(view, columns, rows) > KEY_BYTES
    if long.any():
        blame(long & keep, f"key: {', '.join(view.key)} are longer than {KEY_BYTES} bytes together")
    return keep


def _key_bytes(view: View, columns: dict[str, pa.Array], rows: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """UTF-8 bytes of each row's text keys, and the bytes of others; a null counts none."""
    total = np.zeros(rows, np.int64)
    for name in view.key:
        if view.types[name].kind in ("str", "bytes"):
            column: Any = columns[name]
            encoded = isinstance(column, pa.DictionaryArray)
            offsets, _ = text_buffers(column.dictionary if encoded else column)  # of a null: empty
            sizes = np.diff(offsets)
            total += encoded_sizes(column, sizes) if encoded else sizes
    return total


def encoded_sizes(column: pa.DictionaryArray, sizes: Ints) -> Ints:
    """The size of each row's value; of a null 0."""
    if not len(sizes):  # of nulls alone
        return np.zeros(len(column), np.int64)
    found: Ints = sizes[indices_of(column)]
    return np.where(valid(column), found, 0) if column.null_count else found


def _lift(view: View, columns: dict[str, pa.Array]) -> pa.Table:
    times = codes(columns[view.source.event_time], TIME)
    pane = view.window.pane(times)
    number, first = number_rows([(columns[name], view.types[name]) for name in view.key], pane)
    if _is_ordered(view):
        partition, offset = codes(columns[PARTITION], INT), codes(columns[OFFSET], INT)
    else:
        partition = offset = np.zeros(len(times), np.int64)
    chosen = pa.array(first, pa.int64())
    arrays = [plain(columns[name].take(chosen)) for name in view.key]
    arrays.append(pa.array(view.window.start(pane[first])).cast(WINDOW_TYPE))
    for measure in view.measures.values():
        rows = Rows(tuple(columns[name] for name in measure.aggregate.columns), times, partition, offset)
        arrays += measure.lift(rows, number, len(first))
    return pa.Table.from_arrays(arrays, schema=state_schema(view))


def group_hashes(view: View, states: pa.Table) -> Hashes:
    """uint64 (n, 2): the hash of each row's group."""
    types = [*(view.types[name] for name in view.key), TIME]
    return hash_rows([(chunk(states.column(c)), t) for c, t in zip(group_columns(view), types, strict=True)])


def combine(view: View, tables: Sequence[pa.Table]) -> pa.Table:
    """The ⊕ of tables of states, one row per group."""
    states = pa.concat_tables([t for t in tables if t.num_rows] or [state_schema(view).empty_table()]).combine_chunks()
    if states.num_rows == 0:
        return states
    number, first = group(group_hashes(view, states))
    if len(first) == states.num_rows:
        return states
    chosen = pa.array(first, pa.int64())
    arrays = [chunk(states.column(c)).take(chosen) for c in group_columns(view)]
    for name, measure in view.measures.items():
        arrays += measure.merge(state_of(states, name, measure), number, len(first))
    return pa.Table.from_arrays(arrays, schema=state_schema(view))


def sort_states(view: View, table: pa.Table) -> pa.Table:
    """In the order of key and window: equal sets of groups become equal tables."""
    return table.sort_by([(name, "ascending") for name in group_columns(view)])
