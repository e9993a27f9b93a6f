"""The loads of docs/DATA-IN.md, each line of code as it stands there: a table is loaded twice, and both its versions are looked at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import ingestion
import pipeline
from pipeline import Table
from pipeline.base.errors import OriginError
from pipeline.settings import find_origin_secret
from tests.support.databases import World
from tests.support.docs import code_of, evaluated, tables
from tests.support.loaded import Loads

ROWS = tables("docs/DATA-IN.md", "## Loads and checks")
LOADS = {row[0].strip("`").partition("(")[0]: code_of(row[2]) for row in ROWS}
NAMES: dict[str, Any] = {name: getattr(ingestion, name) for name in ingestion.__all__}
NAMES |= {name: getattr(pipeline, name) for name in pipeline.__all__} | {"timedelta": timedelta}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Plane:
    """A plane, as it was when."""

    tailnum: str
    carrier: str | None
    updated_at: datetime
    gone: bool


@dataclass(frozen=True)
class Carrier:
    """An airline."""

    carrier: str
    name: str


@dataclass(frozen=True)
class Price:
    """A price while it was valid."""

    carrier: str
    price: int
    since: datetime | None
    until: datetime | None


OLD = ("N1,UA,09:00,false", "N2,AA,10:00,false", "N3,AA,10:00,false")
NEW = ("N1,XX,08:00,false", "N2,UA,09:30,true", "N2,BB,11:00,true", "N4,UA,09:59,false")  # N3 is gone
FIRST = {("N1", "UA"), ("N2", "AA"), ("N3", "AA")}
SECOND = {
    "Full": {("N1", "XX"), ("N2", "UA"), ("N4", "UA")},  # and BB is rejected: N2 stands there twice
    "Append": FIRST | {("N4", "UA")},
    "Incremental": {("N1", "UA"), ("N2", "BB"), ("N3", "AA"), ("N4", "UA")},
    "Merge": {("N1", "UA"), ("N3", "AA"), ("N4", "UA")},
}


class Two:
    """A table of planes, declared with one more line, and a file that is written anew between its loads."""

    def __init__(self, folder: Path, url: str, line: str, origin: str = "planes.csv") -> None:
        self.loads, self.file = Loads(folder / "lake", url), folder / origin
        self.names = NAMES | {"Plane": Plane, "Price": Price}
        self.line, self.origin = line, origin

    def table(self, declared: str) -> Table:
        made: Table = evaluated(declared.format(line=self.line, origin=self.origin), self.names)
        return made

    def load(self, table: Table, name: str, head: str, lines: tuple[str, ...]) -> list[dict[str, Any]]:
        days = [re.sub(r"\b(\d\d:\d\d)\b", r"2013-01-02T\1:00Z", line) for line in lines]
        self.file.write_text("\n".join((head, *days)) + "\n")
        return self.loads.load(table, name)


PLANES = 'Table("planes", origin=Files("{origin}"), record=Plane, key=("tailnum",), {line})'
HEAD = "tailnum,carrier,updated_at,gone"


@pytest.mark.parametrize("mode", SECOND)
def test_a_line_of_a_load_makes_the_second_version_that_the_page_tells(
    folder: Path, postgres_url: str, mode: str
) -> None:
    two = Two(folder, postgres_url, LOADS[mode])
    table = two.table(PLANES)
    assert {(row["tailnum"], row["carrier"]) for row in two.load(table, "1", HEAD, OLD)} == FIRST
    second = two.load(table, "2", HEAD, NEW)
    assert {(row["tailnum"], row["carrier"]) for row in second} == SECOND[mode] and len(second) == len(SECOND[mode])
    assert {(row["tailnum"], row["carrier"]) for row in two.loads.rows(table, 1)} == FIRST, "a version never changes"


def test_the_line_of_incremental_asks_a_database_for_rows_from_its_cursor_less_the_overlap(
    folder: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = World("postgresql", postgres_url)
    monkeypatch.setenv("WATERSHED_ORIGIN_WAREHOUSE", postgres_url)
    two = Two(folder, postgres_url, LOADS["Incremental"])
    two.loads.loader.secret = lambda name: find_origin_secret(name).get_secret_value()
    put = "INSERT INTO planes VALUES ('{}', '{}', '2013-01-02 {}Z', false)"
    database.run(
        "CREATE TABLE planes (tailnum text, carrier text, updated_at timestamptz, gone bool)",
        put.format("N1", "UA", "10:00"),
    )
    table = two.table(PLANES.replace('Files("{origin}")', 'Sql("WAREHOUSE", table="planes")'))
    assert len(two.loads.load(table, "1")) == 1
    database.run(
        put.format("N2", "late", "09:00"), put.format("N3", "too late", "08:59"), put.format("N4", "new", "10:01")
    )
    assert {row["tailnum"] for row in two.loads.load(table, "2")} == {"N1", "N2", "N4"}


def test_the_line_of_snapshot_ends_rows_and_begins_others(folder: Path, postgres_url: str) -> None:
    two = Two(folder, postgres_url, LOADS["Snapshot"])
    table = two.table(PLANES)
    first = two.load(table, "1", HEAD, OLD)
    assert {(row["tailnum"], row["valid_from"], row["valid_to"]) for row in first} == {
        (n, None, None) for n in ("N1", "N2", "N3")
    }
    second = two.load(table, "2", HEAD, (OLD[0], "N2,BB,11:00,true", "N4,UA,09:59,false"))
    (at,) = {row["valid_from"] for row in second} - {None}
    assert timedelta(0) < datetime.now(UTC) - at < timedelta(minutes=5)
    assert sorted((row["tailnum"], row["carrier"], row["valid_from"], row["valid_to"]) for row in second if row["tailnum"] != "N2") == [
        ("N1", "UA", None, None), ("N3", "AA", None, at), ("N4", "UA", at, None),
    ]  # fmt: skip
    assert {(row["carrier"], row["valid_from"], row["valid_to"]) for row in second if row["tailnum"] == "N2"} == {
        ("AA", None, at), ("BB", at, None),
    }  # fmt: skip


def test_the_line_of_validity_takes_it_from_the_rows(folder: Path, postgres_url: str) -> None:
    two = Two(folder, postgres_url, LOADS["Validity"], "prices.csv")
    table = two.table('Table("prices", origin=Files("{origin}"), record=Price, key=("carrier",), {line})')
    head = "carrier,price,since,until"
    assert len(two.load(table, "1", head, ("UA,10,,10:00", "UA,11,10:00,"))) == 2
    with pytest.raises(OriginError, match="valid at the same time"):
        two.load(table, "2", head, ("UA,10,,10:00", "UA,11,09:00,"))
    assert [row["price"] for row in two.load(table, "3", head, ("UA,12,,",))] == [12]


UNKNOWN = ("N1,ZZ,09:00,false", "N2,UA,09:00,false", "N3,YY,09:00,false")


@pytest.mark.parametrize(
    ("check", "bad", "said"), [("RowCount", OLD[:1], "allowed are at least 2"), ("References", UNKNOWN, "1 of 3")]
)
def test_the_line_of_a_check_refuses_a_version_and_the_one_before_stays(
    folder: Path, postgres_url: str, check: str, bad: tuple[str, ...], said: str
) -> None:
    two = Two(folder, postgres_url, LOADS[check])
    carriers = Table("carriers", ingestion.Files("airlines.csv"), Carrier, ("carrier",))
    (folder / "airlines.csv").write_text("carrier,name\nUA,United\n")
    two.loads.load(carriers, "1")
    two.names |= {"carriers": carriers}
    table = two.table(PLANES)
    first = two.load(table, "1", HEAD, OLD[:2])
    with pytest.raises(OriginError, match=said):
        two.load(table, "2", HEAD, bad)
    assert two.loads.store.newest(["planes"]) == {"planes": 1} and two.loads.rows(table, 1) == first


def test_every_mode_and_check_has_a_line_that_runs() -> None:
    assert set(LOADS) == {*SECOND, "Snapshot", "Validity", "RowCount", "References"}
