"""What a night loads: tables whose origin was read longest ago, by their own clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest

from ingestion.origin import Reading
from ingestion.origins.files import Files
from ingestion.rejected.rows import RowsWanted
from ingestion.rejected.table_replay import plan_of_table, replay_table
from pipeline import Append, Between, Table
from pipeline.fold.in_force import VersionRows
from serving.postgres.connection import engine
from tasks.loads import due
from tests.support.loaded import Loads


@dataclass(frozen=True)
class Strict:
    """A row of a small number."""

    k: str
    n: Annotated[int, Between(0, 10)]


@dataclass(frozen=True)
class Mild:
    """The same, of any."""

    k: str
    n: int


@pytest.fixture
def loads(tmp_path: Path, postgres_url: str) -> Loads:
    (tmp_path / "rows.csv").write_text("k,n\na,1\nb,20\n")
    return Loads(tmp_path / "lake", postgres_url)


def show(loads: Loads, table: Table, version: int) -> None:
    assert loads.store.expose(table, version, VersionRows(loads.lake, table, version))


def test_a_replay_is_no_reading_of_the_origin(loads: Loads, tmp_path: Path, postgres_url: str) -> None:
    def table(record: type) -> Table:
        return Table("t", Files(str(tmp_path / "rows.csv")), record, ("k",), load=Append(), every=timedelta(hours=20))

    parts: Any = SimpleNamespace(engine=engine(postgres_url), tables=(table(Mild),))
    now = datetime.now(UTC)
    assert due(parts, now) == [table(Mild)], "it has no version"
    show(loads, table(Strict), loads.loader.load(table(Strict), "1").version)
    assert due(parts, now + timedelta(hours=19)) == [] and due(parts, now + timedelta(hours=21)) == [table(Mild)]
    with engine(postgres_url).begin() as connection:
        connection.exec_driver_sql("UPDATE ops.table_versions SET begun_at = begun_at - interval '3 days'")
    made = replay_table(loads.loader, plan_of_table(loads.loader, table(Mild), RowsWanted(), None, Reading(str)))
    show(loads, table(Mild), made.version)
    assert made.version == 2 and due(parts, now) == [table(Mild)]


def test_a_load_begins_while_the_rows_of_another_are_shown(loads: Loads, tmp_path: Path) -> None:
    table = Table("t", Files(str(tmp_path / "rows.csv")), Mild, ("k",), load=Append())
    version = loads.loader.load(table, "1").version

    class Slow:
        def __iter__(self) -> Any:
            loads.loader.load(table, "2")  # begins, is made and noted, in the middle of the exchange
            return iter(VersionRows(loads.lake, table, version))

    assert loads.store.expose(table, version, Slow())
    assert [one.version for one in loads.store.versions("t") if one.manifest] == [1, 2]
