"""Rejected rows of loads on a real Postgres: which are open, and what a replay makes of them, counted and once."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

from ingestion import Files, Sql
from ingestion.origin import Origin, Reading
from ingestion.origins.sql import without_range
from ingestion.rejected.of_tables import rejected_of_table
from ingestion.rejected.rows import OPEN, RowsWanted, mask_of, ranges_of
from ingestion.rejected.table_replay import TablePlan, plan_of_table, replay_table, unfinished
from pipeline import Append, Between, Full, Incremental, Merge, RowCount, Snapshot, Table, Validity
from pipeline.base.errors import OriginError, Refused
from tests.support.loaded import Loads


@dataclass(frozen=True)
class Strict:
    """A plane, of few seats."""

    tailnum: str
    seats: Annotated[int, Between(0, 100)]
    at: datetime


@dataclass(frozen=True)
class Mild:
    """The same, of many."""

    tailnum: str
    seats: Annotated[int, Between(0, 1000)]
    at: datetime


@dataclass(frozen=True)
class Numbered:
    """A plane of a database, of few seats."""

    id: int
    seats: Annotated[int, Between(0, 100)]
    at: int


@dataclass(frozen=True)
class NumberedMild:
    """The same, of many."""

    id: int
    seats: Annotated[int, Between(0, 1000)]
    at: int


HEAD = "tailnum,seats,at\n"
JAN, FEB = "2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z"
FIRST = HEAD + f"N1,10,{JAN}\nN2,300,{FEB}\nN3,many,{JAN}\nN4\nN5,500,{JAN}\n"
WITHOUT_CURSOR = [Full(), Append()]
WITH_CURSOR = [Merge("at"), Incremental("at")]


class World:
    """A lake, a real Postgres, a file, and a table of it whose rule is strict or mild."""

    def __init__(self, folder: Path, url: str) -> None:
        self.loads, self.folder, self.file = Loads(folder / "lake", url), folder, folder / "planes.csv"

    def table(self, record: type = Strict, **more: Any) -> Table:
        return Table("planes", Files(str(self.file)), record, ("tailnum",), **more)

    def load(self, table: Table, name: str, text: str = FIRST) -> dict[str, Any]:
        self.file.write_text(text)
        return self.facts(self.loads.loader.load(table, name).manifest)

    @staticmethod
    def facts(manifest: str | None) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(manifest or "")["facts"]
        return found

    def plan(self, table: Table, file: str = "", **wanted: Any) -> TablePlan:
        mended: Origin | None = None
        if file:
            (self.folder / "mended.csv").write_text(file)
            mended = Files(str(self.folder / "mended.csv"))
        return plan_of_table(self.loads.loader, table, RowsWanted(**wanted), mended, Reading(str))

    def replay(self, table: Table, file: str = "", **wanted: Any) -> dict[str, Any]:
        return self.facts(replay_table(self.loads.loader, self.plan(table, file, **wanted)).manifest)

    def seats(self, table: Table) -> dict[str, int]:
        newest = self.loads.store.newest(["planes"])["planes"]
        return {row["tailnum"]: row["seats"] for row in self.loads.rows(table, newest)}

    def open(self) -> dict[int, str]:
        """Line -> reason of the rows that are open."""
        found: dict[int, str] = {}
        for kept in rejected_of_table(self.loads.lake, self.loads.store.versions("planes")):
            rows = kept.rows.to_pylist()
            found |= {rows[at]["number"]: rows[at]["reason"] for at in np.flatnonzero(kept.state == OPEN).tolist()}
        return found


@pytest.fixture
def world(tmp_path: Path, postgres_url: str) -> World:
    return World(tmp_path, postgres_url)


def adds_up(counts: dict[str, int]) -> bool:
    told = ("added", "changed", "unchanged", "duplicates", "deleted", "rejected")
    return counts["read"] == sum(counts[name] for name in told)


@pytest.mark.parametrize("load", [*WITHOUT_CURSOR, *WITH_CURSOR], ids=lambda load: type(load).__name__)
def test_after_a_mend_of_the_rule_what_is_accepted_is_the_next_version_and_the_rest_stays(
    world: World, load: Any
) -> None:
    strict, mild = world.table(load=load), world.table(Mild, load=load)
    loaded = world.load(strict, "1")
    assert set(world.open()) == {3, 4, 5, 6} and loaded["counts"]["rejected"] == 4
    facts = world.replay(mild)
    assert world.seats(mild) == {"N1": 10, "N2": 300, "N5": 500}
    counts = facts["counts"]
    assert (counts["read"], counts["added"], counts["rejected"], counts["rows"]) == (2, 2, 0, 3) and adds_up(counts)
    assert set(world.open()) == {4, 5} and facts["base"] == 1 and facts["cursor"] == loaded["cursor"]
    assert counts["added"] + len(world.open()) == loaded["counts"]["rejected"], "none is lost"
    again = world.plan(mild)
    assert again.taken.accepted.num_rows == 0, "a row is taken once"
    assert "it would be rejected again" in again.taken.left[0] and "--file" in again.taken.left[1]


def test_a_replay_that_is_run_again_is_the_version_that_it_made(world: World) -> None:
    strict, mild = world.table(), world.table(Mild)
    world.load(strict, "1")
    plan = world.plan(mild)
    first, second = (replay_table(world.loads.loader, plan) for _ in range(2))
    assert (first.version, second.version) == (2, 2) and first.manifest == second.manifest
    made = unfinished(world.loads.store.versions("planes"))
    assert made is not None and made.version == 2, "nobody has shown it yet"
    world.load(mild, "2")
    with pytest.raises(Refused, match="was loaded meanwhile"):
        replay_table(world.loads.loader, dataclasses.replace(plan, taken=world.plan(strict).taken))


@pytest.mark.parametrize("load", WITHOUT_CURSOR, ids=lambda load: type(load).__name__)
def test_without_a_cursor_a_key_that_is_there_keeps_its_row(world: World, load: Any) -> None:
    strict, mild = world.table(load=load), world.table(Mild, load=load)
    world.load(strict, "1", HEAD + f"N1,10,{JAN}\nN1,300,{FEB}\n")
    counts = world.replay(mild)["counts"]
    assert (counts["unchanged"], counts["added"], counts["rows"]) == (1, 0, 1) and adds_up(counts)
    assert world.seats(mild) == {"N1": 10} and world.open() == {}


@pytest.mark.parametrize("load", WITH_CURSOR, ids=lambda load: type(load).__name__)
def test_with_a_cursor_the_newest_row_of_a_key_counts(world: World, load: Any) -> None:
    strict, mild = world.table(load=load), world.table(Mild, load=load)
    world.load(strict, "1", HEAD + f"N1,10,{JAN}\nN1,300,{FEB}\nN2,20,{FEB}\nN2,400,{JAN}\n")
    counts = world.replay(mild)["counts"]
    assert (counts["changed"], counts["duplicates"]) == (1, 1) and adds_up(counts)
    assert world.seats(mild) == {"N1": 300, "N2": 20}


def test_rejected_again_for_another_reason_is_kept_with_that(world: World) -> None:
    world.load(world.table(), "1")

    @dataclass(frozen=True)
    class Other:
        tailnum: str
        seats: Annotated[int, Between(0, 400)]
        at: datetime

    counts = world.replay(world.table(Other))["counts"]
    assert (counts["read"], counts["added"], counts["rejected"]) == (2, 1, 1) and adds_up(counts)
    assert world.open()[6] == "seats: breaks Between(low=0, high=400)" and set(world.open()) == {4, 5, 6}


def test_two_rows_of_one_key_that_are_accepted_now_and_differ_are_one_row_and_a_rejected_one(world: World) -> None:
    world.load(world.table(), "1", HEAD + f"N1,10,{JAN}\nN2,300,{JAN}\nN2,400,{JAN}\n")
    counts = world.replay(world.table(Mild))["counts"]
    assert (counts["added"], counts["rejected"], counts["rows"]) == (1, 1, 2) and adds_up(counts)
    assert "another row of this key says something else" in world.open()[4]


def test_a_mended_file_takes_the_place_of_the_rows_that_are_chosen_one_for_one(world: World) -> None:
    table = world.table()
    world.load(table, "1")
    for text, said in (
        (HEAD + f"N2,30,{FEB}\n", "has 1 rows, and 4 rejected rows are chosen"),
        (HEAD + f"N2,3000,{FEB}\n", r"mended.csv, line 2: seats: breaks Between\(.*\): a mended file is taken whole"),
    ):
        with pytest.raises(Refused, match=said):
            world.plan(table, text)
    part = str(world.file)
    counts = world.replay(table, HEAD + f"N3,33,{JAN}\nN4,44,{JAN}\n", places=frozenset({(part, 4), (part, 5)}))[
        "counts"
    ]
    assert counts["added"] == 2 and set(world.open()) == {3, 6}
    assert world.seats(table) == {"N1": 10, "N3": 33, "N4": 44}


def test_a_load_that_reads_all_again_leaves_its_own_rejected_rows_alone_open(world: World) -> None:
    table = world.table()
    world.load(table, "1")
    world.load(table, "2", HEAD + f"N1,10,{JAN}\nN2,30,{FEB}\nN3,many,{JAN}\n")
    assert set(world.open()) == {4}


def test_an_incremental_load_leaves_what_the_one_before_rejected_open_once(world: World) -> None:
    table = world.table(load=Incremental("at"))
    world.load(table, "1")
    (world.folder / "planes.csv").write_text(FIRST + f"N6,60,{FEB}\nN7,700,{FEB}\n")
    facts = world.facts(world.loads.loader.load(table, "2").manifest)
    assert facts["since"] == "2024-01-01T00:00:00+00:00" and facts["attempts"] == 1
    assert sorted(world.open()) == [3, 4, 5, 6, 8]
    kept = list(rejected_of_table(world.loads.lake, world.loads.store.versions("planes")))
    assert [int((one.state == OPEN).sum()) for one in kept] == [5, 0], "each is open in the newest of the two alone"


@pytest.mark.parametrize(
    "load", [Append(), Merge("at"), Incremental("at", overlap=1)], ids=lambda load: type(load).__name__
)
@pytest.mark.parametrize(
    "given", [{"table": "planes where id"}, {"query": 'SELECT * FROM "planes where id"'}], ids=["table", "query"]
)
def test_a_row_of_a_split_table_is_open_once_though_the_ranges_move(
    tmp_path: Path, postgres_url: str, load: Any, given: dict[str, str]
) -> None:
    loads = Loads(tmp_path / "lake", postgres_url, {"DB": f"sqlite:///{tmp_path / 'planes.db'}"})
    table = Table("planes", Sql("DB", **given, split="id", ranges=2), Numbered, ("id",), load=load)
    rows, parts = [(n, 1, 9) for n in range(1, 21)] + [(30, 700, 9)], set[str]()
    with closing(sqlite3.connect(tmp_path / "planes.db")) as database:
        database.execute('CREATE TABLE "planes where id" (id integer PRIMARY KEY, seats int, at int)')
        for n in range(3):
            database.executemany('INSERT INTO "planes where id" VALUES (?, ?, ?)', rows)
            database.commit()
            facts = World.facts(loads.loader.load(table, str(n)).manifest)
            parts |= {part["name"] for part in facts["parts"]}
            assert facts["counts"]["rejected"] == 1
            rows = [(100 * n + 100, 1, 9)]
    assert len(parts) == 6, "the ranges of each load are others"
    kept = list(rejected_of_table(loads.lake, loads.store.versions("planes")))
    assert [int((one.state == OPEN).sum()) for one in kept] == [1, 0, 0]
    plan = plan_of_table(
        loads.loader, dataclasses.replace(table, record=NumberedMild), RowsWanted(), None, Reading(str)
    )
    assert plan.taken.accepted.num_rows == 1


def test_only_a_split_table_has_parts_that_count_as_one() -> None:
    split = Sql("DB", table="a", split="id").describe()
    assert without_range(split, "a where 3 <= id < 7") == "a" == without_range(split, "a")
    for origin, part in ((split, "b where id < 7"), (Files("the query where.csv").describe(), "the query where.csv")):
        assert without_range(origin, part) == part


def test_a_replay_that_the_newest_version_does_not_go_back_to_took_nothing(world: World) -> None:
    strict, mild = world.table(load=Incremental("at")), world.table(Mild, load=Incremental("at"))
    world.load(strict, "1")
    plan = world.plan(mild)
    world.loads.store.begin("planes", plan.name)  # version 2 begins, and a load overtakes it, on version 1
    world.load(strict, "2", HEAD + f"N6,60,{FEB}\n")
    with pytest.raises(Refused, match=r"was loaded meanwhile .version 3.: run the replay again"):
        replay_table(world.loads.loader, plan)
    assert set(world.open()) == {3, 4, 5, 6}
    assert world.replay(mild)["counts"]["added"] == 2 and set(world.open()) == {4, 5}
    assert world.seats(mild) == {"N1": 10, "N2": 300, "N5": 500, "N6": 60}


def test_a_check_that_a_replay_breaks_leaves_the_version_before(world: World) -> None:
    world.load(world.table(), "1")
    with pytest.raises(OriginError, match="allowed are at least 0 and at most 2"):
        world.replay(world.table(Mild, checks=(RowCount(at_most=2),)))
    assert world.seats(world.table()) == {"N1": 10} and set(world.open()) == {3, 4, 5, 6}


def test_a_snapshot_and_a_table_without_a_version_name_the_load_that_is_right(world: World) -> None:
    snapshot = world.table(load=Snapshot(), history=Validity("since", "until"))
    with pytest.raises(Refused) as refused:
        world.plan(world.table())
    assert refused.value.repair == "watershed load planes"
    world.load(snapshot, "1")
    with pytest.raises(Refused, match="is a Snapshot") as refused:
        world.plan(snapshot)
    assert refused.value.repair == "watershed load planes"


def test_a_full_table_with_stretches_of_validity_is_replayed_by_key_and_start(
    tmp_path: Path, postgres_url: str
) -> None:
    @dataclass(frozen=True)
    class Rate:
        currency: str
        rate: Annotated[int, Between(0, 100)]
        since: datetime
        until: datetime | None

    @dataclass(frozen=True)
    class Any(Rate):
        rate: Annotated[int, Between(0, 1000)]

    loads, file = Loads(tmp_path / "lake", postgres_url), tmp_path / "rates.csv"
    file.write_text(f"currency,rate,since,until\nEUR,10,{JAN},{FEB}\nEUR,300,{FEB},\n")
    table = Table("rates", Files(str(file)), Rate, ("currency",), history=Validity("since", "until"))
    assert len(loads.load(table, "1")) == 1
    milder = Table("rates", Files(str(file)), Any, ("currency",), history=Validity("since", "until"))
    made = replay_table(loads.loader, plan_of_table(loads.loader, milder, RowsWanted(), None, Reading(str)))
    assert sorted(row["rate"] for row in loads.rows(milder, made.version)) == [10, 300]


@pytest.mark.parametrize("bits", ["", "0", "1", "0110", "1011", "11110", "00"])
def test_ranges_name_just_the_places_that_are_true(bits: str) -> None:
    mask = np.array([bit == "1" for bit in bits], np.bool_)
    assert mask_of(ranges_of(mask), len(mask)).tolist() == mask.tolist()
    assert all(start < end for start, end in ranges_of(mask))
