"""Reference: decode -> validate -> deduplicate per source, then derive -> filter -> fold per view, record by record.

records fed = accepted + duplicates + rejected + tombstones        for each partition
rows of the accepted = folded + filtered + rejected by the view    for each view and partition; a record is one row, or explodes
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from pipeline.base.errors import DefinitionError, LogError
from pipeline.base.types import KEY_BYTES, ColumnType
from pipeline.definition.expressions import kind_of
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.definition.window import Tumbling, Window
from pipeline.plain.debezium import NoImage
from pipeline.plain.expression import Evaluate, Failed, compile_node, derived, enters
from pipeline.plain.formats import NO_REGISTRY, Registry
from pipeline.plain.groups import Group, group_class, new_group, value_of
from pipeline.plain.json_text import Invalid
from pipeline.plain.lookup import PlainTables
from pipeline.plain.validation import Around, rows_of
from pipeline.plain.values import EPOCH, epoch_us

Headers = Sequence[tuple[str, bytes | None]]
# Offset, timestamp_ms (-1: none), key, value (None: tombstone), and perhaps headers
Record = tuple[int, int, bytes | None, bytes | None] | tuple[int, int, bytes | None, bytes | None, Headers]
Key = tuple[Any, ...]
HOUR_MS = 3_600_000


@dataclass
class _Partition:
    """Memory between the records of one partition."""

    next_offset: int = 0
    log_time_ms: int | None = (
        None  # T: with the timestamps, never back, and forward an hour a record at most; None before the first
    )
    identities: OrderedDict[Any, int] = field(default_factory=OrderedDict)  # identity -> T when last seen, oldest first
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    tombstones: int = 0


class Reference:
    """f of all `views`, which must be of one source.

    `rejected` lists (partition, offset, reason). Feed each partition's records in offset order; partitions in any order
    and in any pieces. The usual mistake: feeding from the middle of a log, whose T and identities come from its start.
    """

    def __init__(
        self, views: Sequence[View], registry: Registry = NO_REGISTRY, tables: PlainTables | None = None
    ) -> None:
        if not views:
            raise DefinitionError("Reference() of no view; give at least one")
        self.source: Source = views[0].source
        self._registry = registry
        for view in views:
            if view.source != self.source:
                raise DefinitionError(
                    f"Reference: view {view.name} reads {view.source.topic}, view {views[0].name} reads"
                    f" {self.source.topic}; give the views of one source"
                )
        tables = tables or PlainTables()
        self._views = {view.name: _View(view, tables) for view in views}
        if len(self._views) != len(views):
            raise DefinitionError(f"Reference: two views have one name among {', '.join(v.name for v in views)}")
        self._partitions: dict[int, _Partition] = {}
        self.rejected: list[tuple[int, int, str]] = []

    @property
    def counts(self) -> dict[int, tuple[int, int, int, int]]:
        """Partition -> (accepted, duplicates, rejected, tombstones)."""
        return {n: (p.accepted, p.duplicates, p.rejected, p.tombstones) for n, p in self._partitions.items()}

    @property
    def view_counts(self) -> dict[tuple[str, int], tuple[int, int, int]]:
        """(view name, partition) -> (folded, filtered, rejected) of the accepted records."""
        views = self._views.values()
        return {(view.name, n): view.counts.get(n, (0, 0, 0)) for view in views for n in self._partitions}

    def feed(self, partition: int, records: Iterable[Record]) -> None:
        """The next records of one partition. Raises LogError when an offset does not rise."""
        state = self._partitions.setdefault(partition, _Partition())
        for offset, timestamp_ms, key, value, *headers in records:
            if offset < state.next_offset:
                raise LogError(
                    f"{self.source.topic}, partition {partition}: offset {offset} was fed after"
                    f" {state.next_offset - 1}; feed each partition in offset order, once"
                )
            state.next_offset = offset + 1
            if timestamp_ms >= 0:
                state.log_time_ms = _log_time(state.log_time_ms, timestamp_ms)
            self._record(partition, state, offset, value, Around(key, timestamp_ms, headers[0] if headers else ()))

    def rows(self, view: View) -> dict[Key, dict[str, Any]]:
        """(key columns..., window_start) -> aggregate name -> value."""
        return self._views[view.name].rows()

    def _record(self, partition: int, state: _Partition, offset: int, value: bytes | None, around: Around) -> None:
        if value is None:
            state.tombstones += 1
            return
        try:
            once, rows = rows_of(value, self.source, around, self._registry)
        except NoImage:
            state.tombstones += 1
            return
        except Invalid as reason:
            state.rejected += 1
            self.rejected.append((partition, offset, str(reason)))
            return
        identity = tuple(once[name] for name in self.source.identities)
        if identity and _is_duplicate(state, identity, self.source.horizon_ms):
            state.duplicates += 1
            return
        state.accepted += 1
        for view in self._views.values():
            for number, row in enumerate(rows):
                view.fold(row, partition, offset, number)


def _log_time(before: int | None, timestamp_ms: int) -> int:
    """T after a record with that timestamp."""
    if before is None:
        return timestamp_ms
    return max(before, min(timestamp_ms, before + HOUR_MS))


def _is_duplicate(state: _Partition, identity: Any, horizon_ms: int) -> bool:
    """True when this valid record's identity was seen at most a horizon ago; registers it either way."""
    now = state.log_time_ms or 0
    while state.identities and now - next(iter(state.identities.values())) > horizon_ms:
        state.identities.popitem(last=False)  # T never falls: it can make no duplicate any more
    seen = identity in state.identities
    state.identities[identity] = now
    state.identities.move_to_end(identity)
    return seen


class _View:
    """One view's groups and counts."""

    def __init__(self, view: View, tables: PlainTables) -> None:
        self.view = view
        self.name = view.name
        self._tables = tables
        self.counts: dict[int, tuple[int, int, int]] = {}
        self._groups: dict[Key, dict[str, Group]] = {}
        kinds = {c.name: _kind(c.type) for c in view.source.columns}
        kinds |= {f"{n}.{c.name}": _kind(c.type) for n, one in view.lookups.items() for c in one.table.columns}
        self._derive: list[tuple[str, Evaluate, str, ColumnType]] = []
        for name, d in view.derive.items():
            kind = kind_of(d.tree, kinds, f"View({view.name}): derive[{name!r}]")
            self._derive.append((name, compile_node(d.tree, kinds), kind, d.column_type))
        every = kinds | {name: _kind(d.column_type) for name, d in view.derive.items()}
        self._where = compile_node(view.where_tree, every) if view.where_tree is not None else None
        self._aggregates = [
            (name, a, view.types[a.columns[0]] if a.columns else None, group_class(a, f"View({view.name}): {name}"))
            for name, a in view.aggregates.items()
        ]

    def fold(self, record: dict[str, Any], partition: int, offset: int, number: int) -> None:
        """One row of an accepted record, which has that number in it: folded, filtered or rejected, and counted as that."""
        folded, filtered, rejected = self.counts.get(partition, (0, 0, 0))
        try:
            row = self._row(self._looked_up(record, partition, offset))
        except Failed:
            rejected += 1
        else:
            if row is None:
                filtered += 1
            else:
                folded += 1
                self._add(row, partition, offset, number)
        self.counts[partition] = (folded, filtered, rejected)

    def rows(self) -> dict[Key, dict[str, Any]]:
        return {key: {name: group.value() for name, group in groups.items()} for key, groups in self._groups.items()}

    def _looked_up(self, record: dict[str, Any], partition: int, offset: int) -> dict[str, Any]:
        """The record with the columns of its lookups; raises Failed where a required one finds nothing."""
        found = dict(record)
        for name, lookup in self.view.lookups.items():
            row = self._tables.row(lookup, record, partition, offset)
            if row is None and lookup.required:
                raise Failed(f"{name}: table {lookup.table.name} has no row for this event")
            found |= {f"{name}.{c.name}": row[c.name] if row is not None else None for c in lookup.table.columns}
        return found

    def _row(self, record: dict[str, Any]) -> dict[str, Any] | None:
        """The record with its derived columns, None when `where` drops it; raises Failed."""
        entering = {name: enters(value) for name, value in record.items()}
        row = dict(record)
        for name, evaluate, kind, type in self._derive:
            row[name] = derived(evaluate(entering), kind, type)
        if self._where is not None:
            visible = entering | {name: enters(row[name]) for name in self.view.derive}
            if self._where(visible) is not True:
                return None
        sizes = (
            len(row[name].encode() if isinstance(row[name], str) else row[name])
            for name in self.view.key
            if row[name] is not None and self.view.types[name].kind in ("str", "bytes")
        )
        if sum(sizes) > KEY_BYTES:
            raise Failed(f"the key columns are longer than {KEY_BYTES} bytes together")
        return row

    def _add(self, row: dict[str, Any], partition: int, offset: int, number: int) -> None:
        time: datetime = row[self.view.source.event_time]
        key = (*(row[name] for name in self.view.key), window_start(time, self.view.window))
        if key not in self._groups:
            self._groups[key] = {name: new_group(group, a, type) for name, a, type, group in self._aggregates}
        for name, aggregate, _, _ in self._aggregates:
            self._groups[key][name].add((time, partition, offset, number), value_of(aggregate, row))


def _kind(type: ColumnType) -> str:
    """The kind as which a column enters expressions."""
    return "float" if type.is_decimal else type.kind


def window_start(time: datetime, window: Window) -> datetime:
    """The start of the window that `time` is in: spelled out here again, on purpose, since it judges the window's own arithmetic."""
    match window:
        case Tumbling(size_us=size_us):
            return EPOCH + timedelta(microseconds=epoch_us(time) // size_us * size_us)
    raise TypeError(f"the reference has no rule for {window}: give it one here, without calling the window's methods")


def records_of(batch: pa.RecordBatch) -> Iterator[Record]:
    """The records of a raw batch, one by one, as `Reference.feed` takes them."""
    columns = [batch.column(name) for name in ("offset", "timestamp_ms", "key", "value", "headers")]
    for row in range(batch.num_rows):
        offset, timestamp_ms, key, value, headers = (column[row].as_py() for column in columns)
        yield offset, timestamp_ms, key, value, [(header["key"], header["value"]) for header in headers or ()]
