"""Lookups: the arrays and the hash table give what the row-by-row reference gives, wherever versions change.

fold(pieces of any blocks, versions in force) = Reference(records, ledger)
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import Count, Lookup, Source, Sum, Table, Validity, View, tumbling
from pipeline.accept.accept import Ingest
from pipeline.base.errors import LakeError, Refused
from pipeline.fold.fold import columns_of, combine, encoded_of, fold
from pipeline.fold.in_force import InForce, TableVersions, read_version
from pipeline.fold.lookup import Version
from pipeline.fold.states import present, state_schema
from pipeline.lake.lake import Lake
from pipeline.lake.manifest import File
from pipeline.lake.targets import TableVersion
from pipeline.plain import Reference
from pipeline.plain.lookup import PlainTables
from tests.pipeline.plain.test_fast_equals_reference import exact, table_rows
from tests.support.simulated import MadeUp
from tests.support.strategies import blocks_of, logs
from tests.support.strategies_lookups import MadeVersions, ledgers, looked_up

WHOLE = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@dataclass(frozen=True)
class Carrier:
    carrier: str
    name: str | None
    seats: int


@dataclass(frozen=True)
class Rate:
    currency: str
    rate: int
    valid_from: datetime | None
    valid_to: datetime | None


@dataclass(frozen=True)
class Flight:
    id: int
    carrier: str | None
    currency: str
    at: datetime


carriers = Table("carriers", MadeUp("carriers"), Carrier, ("carrier",))
rates = Table("rates", MadeUp("rates"), Rate, ("currency",), history=Validity("valid_from", "valid_to"))
flights = Source("flights", Flight, key="currency", event_time="at", identity="id")
T = [datetime(2013, 1, day, tzinfo=UTC) for day in range(1, 8)]


def view(**changes: Any) -> View:
    given: dict[str, Any] = {
        "name": "delays",
        "source": flights,
        "key": ("carrier.name",),
        "window": tumbling(days=1),
        "aggregates": {"flights": Count(), "seats": Sum("carrier.seats")},
        "lookups": {"carrier": Lookup(carriers, on={"carrier": "carrier"})},
    }
    return View(**given | changes)


def version(table: Table, rows: list[dict[str, Any]]) -> Version:
    schema = pa.schema([pa.field(c.name, c.type.arrow) for c in table.columns])
    return Version(table, pa.Table.from_pylist(rows, schema), 1)


def flown(*rows: tuple[str | None, str, datetime]) -> pa.RecordBatch:
    columns: list[Any] = [[*range(len(rows))], *([row[n] for row in rows] for n in range(3))]
    types = [pa.int64(), pa.string(), pa.string(), pa.timestamp("us", "UTC")]
    arrays = [pa.array(c, t) for c, t in zip(columns, types, strict=True)]
    places = [
        pa.array([0] * len(rows), pa.int64()),
        pa.array([*range(len(rows))], pa.int64()),
        pa.array([0] * len(rows), pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(
        [*arrays, *places], ["id", "carrier", "currency", "at", "_partition", "_offset", "_timestamp_ms"]
    )


@WHOLE
@given(st.data())
def test_lookups_equal_the_reference_at_every_cut_and_change_of_a_table(data: st.DataObject) -> None:
    of, made = data.draw(looked_up())
    log = data.draw(logs(of))
    ledger = data.draw(ledgers(sorted(of.tables), log))
    versions = MadeVersions(of, made)
    wanted = Reference([of], tables=PlainTables(ledger, versions.rows))
    states, counts = [state_schema(of).empty_table()], Counter[str]()
    in_force = InForce([of], ledger, versions)  # type: ignore[arg-type]
    for partition, records in log.items():
        wanted.feed(partition, records)
        ingest = Ingest(of.source, partition)
        for block in data.draw(blocks_of(records)):
            for piece, tables in in_force.pieces(partition, ingest.feed(block).accepted):
                found = fold(of, piece, tables)
                states.append(found.states)
                counts.update(vars(found.counts))
    got = table_rows(of, present(of, combine(of, states)))
    rows = {tuple(map(exact, key)): {n: exact(v) for n, v in values.items()} for key, values in wanted.rows(of).items()}
    assert got == rows
    totals = [sum(c[n] for c in wanted.view_counts.values()) for n in range(3)]
    assert [counts["folded"], counts["filtered"], counts["rejected"]] == totals


def test_a_lookup_that_finds_nothing_gives_nulls_and_a_null_finds_nothing() -> None:
    known = version(
        carriers, [{"carrier": "UA", "name": "United", "seats": 3}, {"carrier": "AA", "name": None, "seats": 5}]
    )
    found = fold(
        view(), flown(("UA", "x", T[0]), ("AA", "x", T[0]), ("ZZ", "x", T[0]), (None, "x", T[0])), {"carriers": known}
    )
    rows = {row["carrier.name"]: (row["flights"], row["seats"]) for row in present(view(), found.states).to_pylist()}
    assert rows == {"United": (1, 3), None: (3, 5)}


def test_a_required_lookup_rejects_what_it_does_not_find_for_its_view_alone() -> None:
    of = view(lookups={"carrier": Lookup(carriers, on={"carrier": "carrier"}, required=True)})
    found = fold(
        of,
        flown(("ZZ", "x", T[0]), ("UA", "x", T[0])),
        {"carriers": version(carriers, [{"carrier": "UA", "name": "U", "seats": 1}])},
    )
    assert (found.counts.folded, found.counts.rejected) == (1, 1)
    assert found.reasons == ["carrier: table carriers has no row for this event"]


def test_the_row_that_is_valid_at_the_event_counts_and_its_end_is_not_in_it() -> None:
    of = view(
        lookups={"rate": Lookup(rates, on={"currency": "currency"}, as_of="at")},
        key=("currency",), aggregates={"rate": Sum("rate.rate")},
    )  # fmt: skip
    rows = [(None, T[1], 1), (T[1], T[2], 10), (T[4], None, 100)]
    known = version(
        rates, [{"currency": "EUR", "rate": r, "valid_from": a, "valid_to": b} for a, b, r in reversed(rows)]
    )
    found = fold(of, flown(*((None, "EUR", at) for at in T)), {"rates": known})
    assert present(of, found.states).column("rate").to_pylist() == [1, 10, None, None, 100, 100, 100]


@pytest.mark.parametrize("second", [(T[1], T[3]), (T[0], T[2]), (None, None), (T[3], T[3])])
def test_a_version_whose_rows_overlap_is_refused(second: tuple[datetime | None, datetime | None]) -> None:
    rows = [(T[0], T[2]), second]
    with pytest.raises(LakeError, match=r"overlap|rows of one key"):
        version(rates, [{"currency": "EUR", "rate": 1, "valid_from": a, "valid_to": b} for a, b in rows])


def test_a_version_with_a_key_twice_is_refused() -> None:
    with pytest.raises(LakeError, match="a key twice"):
        version(carriers, [{"carrier": "UA", "name": "U", "seats": 1}] * 2)


def test_the_columns_that_a_lookup_reads_are_read_and_not_encoded() -> None:
    of = view(key=("currency", "carrier.name"))
    assert columns_of([of]) == {"carrier", "currency", "at"}
    assert encoded_of(view(key=("carrier", "carrier.name"))) == []
    assert encoded_of(of) == ["currency"]


def test_a_column_that_a_version_was_made_without_is_null_and_one_of_another_type_is_refused(tmp_path: Any) -> None:
    lake = Lake(str(tmp_path))
    for number, columns in (
        (1, {"carrier": ["UA"], "seats": [1]}),
        (2, {"carrier": ["UA"], "name": ["U"], "seats": ["1"]}),
    ):
        target = TableVersion("carriers", number)
        table = pa.table(columns)
        lake.write_table(f"{target.folder}/rows.parquet", table.schema, [table])
        target.commit(lake, [File(f"{target.folder}/rows.parquet", 1)])
    assert read_version(lake, carriers, 1).to_pylist() == [{"carrier": "UA", "name": None, "seats": 1}]
    with pytest.raises(LakeError, match="no column seats of type int: it was loaded by another definition"):
        read_version(lake, carriers, 2)
    with pytest.raises(LakeError, match="version 3 of table carriers is not complete"):
        TableVersions(lake).get([view()], {"carriers": 3})


def test_two_versions_of_a_table_stay_in_memory_and_each_is_read_once(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def count(lake: Lake, table: Table, number: int) -> pa.Table:
        read.append(number)
        return pa.schema([pa.field(c.name, c.type.arrow) for c in table.columns]).empty_table()

    monkeypatch.setattr("pipeline.fold.in_force.read_version", count)
    versions = TableVersions(Lake(str(tmp_path)))
    for number in (1, 2, 1, 2, 3, 2, 1):
        versions.get([view()], {"carriers": number})
    assert read == [1, 2, 3, 1]


def test_a_table_without_a_version_in_force_is_refused_with_the_command_that_loads_it() -> None:
    with pytest.raises(Refused, match="table carriers has no version in force") as refused:
        TableVersions(Lake("lake")).get([view()], {})
    assert refused.value.repair == "watershed load carriers"
