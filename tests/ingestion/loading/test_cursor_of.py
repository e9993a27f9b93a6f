"""The cursor of a load counts for the next one of the same column and origin; any other reads all, and misses nothing."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ingestion.origins.sql import Sql
from pipeline import Full, Incremental, Merge, Table
from tests.support.loaded import Loads


@dataclass(frozen=True)
class Row:
    """A row with two columns that could be cursors."""

    k: int
    created: int
    updated: int


class World:
    """A database of SQLite, and loads of its table."""

    def __init__(self, folder: Path, url: str) -> None:
        self.file = folder / "rows.db"
        self.loads = Loads(folder / "lake", url, {"WAREHOUSE": f"sqlite:///{self.file}"})
        self.table = Table("t", Sql("WAREHOUSE", table="rows"), Row, ("k",), load=Incremental("created"))
        self.count = 0
        self.sql("CREATE TABLE rows (k INTEGER, created INTEGER, updated INTEGER)")

    def sql(self, text: str) -> None:
        with sqlite3.connect(self.file) as connection:
            connection.execute(text)

    def load(self, **changed: Any) -> tuple[str | None, dict[int, int]]:
        """What the load read from on, and the rows then: k -> updated."""
        self.count += 1
        rows = self.loads.load(dataclasses.replace(self.table, **changed), str(self.count))
        manifest = self.loads.store.versions("t")[-1].manifest or ""
        return json.loads(manifest)["facts"]["since"], {row["k"]: row["updated"] for row in rows}


@pytest.fixture
def world(tmp_path: Path, postgres_url: str) -> Iterator[World]:
    made = World(tmp_path, postgres_url)
    made.sql("INSERT INTO rows VALUES (1, 100, 1), (2, 90, 2)")
    assert made.load() == (None, {1: 1, 2: 2})
    yield made


def test_the_same_column_is_read_on_from_where_it_was(world: World) -> None:
    world.sql("INSERT INTO rows VALUES (3, 101, 3)")
    assert world.load() == ("100", {1: 1, 2: 2, 3: 3})
    assert world.load(load=Incremental("created", overlap=5))[0] == "96"


def test_another_column_is_read_from_the_beginning_and_nothing_below_the_old_cursor_is_missed(world: World) -> None:
    world.sql("UPDATE rows SET updated = 50 WHERE k = 2")
    assert world.load(load=Incremental("updated")) == (None, {1: 1, 2: 50})
    assert world.load(load=Incremental("updated"))[0] == "50"


def test_another_origin_is_read_from_the_beginning(world: World) -> None:
    world.sql("CREATE TABLE others AS SELECT 7 AS k, 5 AS created, 7 AS updated")
    assert world.load(origin=Sql("WAREHOUSE", table="others")) == (None, {1: 1, 2: 2, 7: 7})


def test_a_merge_knows_the_cursor_too_and_a_full_load_none(world: World) -> None:
    assert world.load(load=Merge("created"))[0] is None
    assert world.load()[0] == "100"
    assert world.load(load=Full())[0] is None
    assert world.load()[0] is None
