"""Any view that looks tables up, their versions, and ledgers that change them: for hypothesis."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any
from uuid import UUID

import pyarrow as pa
from hypothesis import strategies as st

from pipeline import Lookup, Precision, Scale, Table, Validity, View
from pipeline.base.types import ColumnType
from pipeline.fold.lookup import Tables, Version
from pipeline.handover import Cut
from pipeline.handover.versions import Versions
from tests.support.simulated import MadeUp
from tests.support.strategies import Log, pool
from tests.support.strategies_views import Draw, hints, sources, views

PYTHON: dict[str, Any] = {
    "int": int, "float": float, "str": str, "bool": bool, "datetime": datetime, "date": date, "bytes": bytes, "uuid": UUID, "time": time,
}  # fmt: skip
NUMBERS = (1, 2, 3)  # of versions
NOON = datetime(2013, 1, 2, 12, tzinfo=UTC)
Rows = Sequence[Mapping[str, Any]]
Made = Mapping[tuple[str, int], Rows]


def hint_of(type: ColumnType) -> Any:
    """The annotation of a column of that type."""
    match type.kind:
        case "decimal":
            return Annotated[Decimal, Scale(type.scale)]
        case "wide":
            return Annotated[Decimal, Precision(type.digits, type.scale)]
    return PYTHON[type.kind]


@st.composite
def looked_up(draw: Draw) -> tuple[View, Made]:
    """A view with one or two lookups, and three versions of each table."""
    source = draw(sources())
    keys = [c for c in source.columns if c.type.kind != "float"]
    times = [c.name for c in source.columns if c.type.kind == "datetime"]
    lookups, made = {}, {}
    for n in range(draw(st.integers(1, 2))):
        on = draw(st.lists(st.sampled_from(keys), min_size=1, max_size=2, unique_by=lambda c: c.name))
        fields = [(f"k{i}", hint_of(c.type)) for i, c in enumerate(on)]
        fields += [(f"v{i}", hint) for i, hint in enumerate(draw(st.lists(hints(), min_size=1, max_size=3)))]
        as_of = draw(st.none() | st.sampled_from(times))
        if as_of is not None:
            fields += [("valid_from", datetime | None), ("valid_to", datetime | None)]
        record = dataclasses.make_dataclass("Row", fields, frozen=True)
        history = Validity("valid_from", "valid_to") if as_of is not None else None
        table = Table(
            f"table{n}", MadeUp(f"{n}"), record, tuple(name for name, _ in fields[: len(on)]), history=history
        )
        given = {f"k{i}": c.name for i, c in enumerate(on)}
        lookups[f"l{n}"] = Lookup(table, given, as_of=as_of, required=draw(st.booleans()))
        for number in NUMBERS:
            made[table.name, number] = draw(rows(table))
    return draw(views(source, lookups=lookups)), made


@st.composite
def rows(draw: Draw, table: Table) -> Rows:
    """The rows of one version: one a key, or some whose stretches do not overlap."""
    values = [st.sampled_from(pool(table.types[name])) for name in table.key]
    keys = draw(st.lists(st.tuples(*values), max_size=8, unique_by=lambda key: tuple(map(repr, key))))
    keys = list({_same(key): key for key in keys}.values())
    found = []
    for key in keys:
        for valid in draw(_stretches()) if table.history else [{}]:
            row = dict(zip(table.key, key, strict=True)) | valid
            for column in table.columns:
                if column.name not in row:
                    made = st.sampled_from(pool(column.type))
                    row[column.name] = draw(st.none() | made if column.nullable else made)
            found.append(row)
    return found


def _same(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Equal for keys that are equal in a table: 1.50 and 1.5."""
    return tuple((type(v).__name__, v) for v in key)


@st.composite
def _stretches(draw: Draw) -> list[dict[str, datetime | None]]:
    hours = sorted(draw(st.sets(st.integers(-50, 50), min_size=2, max_size=5)))
    times: list[datetime | None] = [NOON + timedelta(hours=h) for h in hours]
    if draw(st.booleans()):
        times = [None, *times]
    if draw(st.booleans()):
        times = [*times, None]
    return [{"valid_from": a, "valid_to": b} for a, b in pairwise(times) if draw(st.booleans())]


@st.composite
def ledgers(draw: Draw, tables: Sequence[str], log: Log) -> list[Cut]:
    """Cuts that rise, from the log's start on, each of which may adopt other versions; the first adopts one of each."""
    count = max(log) + 1
    offsets = [0] * count
    versions = {name: draw(st.sampled_from(NUMBERS)) for name in tables}
    found = []
    for number in range(draw(st.integers(1, 6))):
        if number:
            offsets = [at + draw(st.sampled_from([0, 0, 1, 3, 7])) for at in offsets]
            versions |= {
                name: draw(st.sampled_from(NUMBERS)) for name in draw(st.sets(st.sampled_from(sorted(tables))))
            }
        of = "events", 1, number, None, tuple(offsets), NOON
        found.append(Cut(*of, "chosen", versions=tuple(sorted(versions.items()))))
    return found


class MadeVersions:
    """pipeline.fold.in_force.TableVersions on versions that were made up."""

    def __init__(self, view: View, made: Made) -> None:
        tables = {one.table.name: one.table for one in view.lookups.values()}
        self._rows = {(name, number): _table(tables[name], made[name, number]) for name, number in made}
        self._found = {of: Version(tables[of[0]], rows, of[1]) for of, rows in self._rows.items()}

    def rows(self, table: str, number: int) -> Rows:
        """The rows of a version as what reads it out of the lake gives them."""
        return self._rows[table, number].to_pylist()

    def get(self, views: Sequence[View], versions: Versions) -> Tables:
        return {name: self._found[name, number] for name, number in versions.items()}


def _table(table: Table, rows: Rows) -> pa.Table:
    schema = pa.schema([pa.field(c.name, c.type.arrow) for c in table.columns])
    return pa.Table.from_pylist([dict(row) for row in rows], schema)
