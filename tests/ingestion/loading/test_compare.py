"""Two versions compared, against two dicts: later = earlier - gone + added, and what changed is in both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from ingestion.loading.buckets import Room
from ingestion.loading.compare import SHOWN, Difference, compare
from ingestion.loading.modes import schema_of
from ingestion.loading.rows import keys_of
from pipeline import Full, Snapshot, Table, Validity
from pipeline.lake.lake import Lake
from pipeline.lake.manifest import File, Manifest
from pipeline.lake.targets import TableVersion
from tests.ingestion.loading.plainly import Row, said, version
from tests.ingestion.loading.test_modes import AT, BEFORE, ROWS, load, one, table

HISTORY = table(Snapshot(), history=Validity("since", "until"))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


def put(lake: Lake, of: Table, number: int, rows: Sequence[Row]) -> None:
    """The version, as a load writes it."""
    target, schema = TableVersion(of.name, number), schema_of(of)
    path = f"{target.folder}/rows-{len(rows)}.parquet"
    lake.write_table(path, schema, [pa.Table.from_pylist(list(rows), schema)])
    lake.write_bytes(target.path, Manifest(target.kind, target.inputs, (File(path, len(rows)),), {}).to_json())


def agree(found: Difference, of: Table, old: Sequence[Row], new: Sequence[Row]) -> None:
    before = {tuple(row[k] for k in keys_of(of)): row for row in old}
    after = {tuple(row[k] for k in keys_of(of)): row for row in new}
    assert version(found.rows_added) == version(row for key, row in after.items() if key not in before)
    assert version(found.rows_gone) == version(row for key, row in before.items() if key not in after)
    changed = [(before[key], row) for key, row in after.items() if key in before and said(before[key]) != said(row)]
    assert sorted(((said(one["before"]), said(one["after"])) for one in found.rows_changed), key=repr) == sorted(
        ((said(a), said(b)) for a, b in changed), key=repr
    )
    counts = found.added, found.gone, found.changed
    assert counts == (len(found.rows_added), len(found.rows_gone), len(found.rows_changed))


ROOMS = st.sampled_from((Room(), Room(0, buckets=3)))


@settings(max_examples=80, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BEFORE, BEFORE, ROOMS)
def test_a_comparison_equals_that_of_two_dicts(
    lake: Lake, old: list[Row] | None, new: list[Row] | None, room: Room
) -> None:
    of = table(Full())
    put(lake, of, 1, old or [])
    put(lake, of, 2, new or [])
    agree(compare(lake, of, 1, 2, room, shown=100), of, old or [], new or [])


@settings(max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, ROWS)
def test_versions_with_history_are_compared_by_key_and_start(lake: Lake, first: list[Row], second: list[Row]) -> None:
    old, _, _ = load(HISTORY, None, first)
    new, counts, _ = load(HISTORY, old, second, at=AT + timedelta(days=1))
    put(lake, HISTORY, 1, old)
    put(lake, HISTORY, 2, new)
    found = compare(lake, HISTORY, 1, 2, shown=100)
    agree(found, HISTORY, old, new)
    assert not found.gone, "a snapshot forgets nothing"
    assert found.changed == counts.changed + counts.gone  # their ends
    assert found.added == counts.changed + counts.added


def test_a_person_is_told_of_all_and_shown_the_first_of_each_kind(lake: Lake) -> None:
    of = table(Full())
    many = [one(1.0) | {"item": n} for n in range(2 * SHOWN)]
    put(lake, of, 1, [one(1.0) | {"item": -1}, *many[:SHOWN]])
    put(lake, of, 2, [row | {"price": 2.0} for row in many])
    document = compare(lake, of, 1, 2).document()
    assert (document["added"], document["changed"], document["gone"]) == (SHOWN, SHOWN, 1)
    told = Difference.told("prices", document).splitlines()
    assert told[0] == f"prices: {SHOWN} added, {SHOWN} changed, 1 gone"
    assert [sum(line.startswith(f"  {sign} ") for line in told) for sign in "+-~"] == [SHOWN, 1, SHOWN]
    assert json.dumps(document["rows_gone"])
