"""`watershed try --table`: what a load would make of an origin's first rows, and nothing is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.console.test_new_and_try import run

MODULE = """
from dataclasses import dataclass
from ingestion import Files, Sql
from datetime import datetime
from pipeline import Count, Merge, Source, Table, View, tumbling

@dataclass(frozen=True)
class Flight:
    id: str
    left_at: datetime

@dataclass(frozen=True)
class Plane:
    tailnum: str
    seats: int | None
    version: int

planes = Table("planes", origin=Files("planes-*.csv"), record=Plane, key=("tailnum",))
merged = Table("merged", origin=Files("planes-*.csv"), record=Plane, key=("tailnum",), load=Merge("version"))
distant = Table("distant", origin=Sql("WAREHOUSE", table="planes"), record=Plane, key=("tailnum",))
TABLES = (planes, merged, distant)
flights = Source(topic="flights", record=Flight, key="id", event_time="left_at", identity="id")
VIEWS = (View(name="flown", source=flights, key=("id",), window=tumbling(days=1), aggregates={"flights": Count()}),)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "airport.py").write_text(MODULE)
    (tmp_path / "planes-1.csv").write_text("tailnum;seats;version\nN1;100;1\nN2;many;1\nN3\nN1;100;1\nN4;few;1\n")
    (tmp_path / "planes-2.csv").write_text("tailnum;seats;version\nN1;200;2\nN5;;1\n")
    return tmp_path


def tried(folder: Path, *arguments: str) -> dict[str, Any]:
    done = run(folder, "try", "--json", *arguments, WATERSHED_VIEWS="airport")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_rows_are_accounted_for_and_each_reason_has_its_first_row_and_its_place(folder: Path) -> None:
    found = tried(folder, "--table", "planes")
    counts = {name: count for name, count in found["counts"].items() if count}
    assert counts == {"read": 7, "added": 2, "duplicates": 1, "rejected": 4, "rows": 2}
    assert [(r["count"], r["part"], r["unit"], r["number"], r["raw"]) for r in found["rejected"]] == [
        (2, "planes-1.csv", "line", 3, '{"tailnum":"N2","seats":"many","version":1}'),
        (1, "planes-1.csv", "line", 4, "N3"),
        (1, "planes-2.csv", "line", 2, "{'tailnum': 'N1', 'seats': 200, 'version': 2}"),
    ]
    seats = next(column for column in found["columns"] if column["name"] == "seats")
    assert (seats["nulls"], seats["distinct"], seats["least"], seats["greatest"]) == (1, 2, 100, 200)
    assert found["said"][0] == "planes-1.csv: delimiter ';', encoding utf-8 found"
    assert not (folder / "lake").exists(), "nothing is kept"


def test_a_mode_that_takes_several_rows_of_a_key_rejects_none_of_them(folder: Path) -> None:
    counts = tried(folder, "--table", "merged")["counts"]
    assert (counts["read"], counts["added"], counts["duplicates"], counts["rejected"]) == (7, 2, 2, 3)


@pytest.mark.parametrize("records", [1, 2, 5, 6, 100])
def test_no_more_rows_are_looked_at_than_asked_for_over_all_parts(folder: Path, records: int) -> None:
    found = tried(folder, "--table", "planes", "--records", str(records))
    assert found["counts"]["read"] == min(records, 7)
    assert found["parts"] == ["planes-1.csv", "planes-2.csv"][: 1 + (records > 5)]


def test_a_person_sees_the_same(folder: Path) -> None:
    done = run(folder, "try", "--table", "planes", WATERSHED_VIEWS="airport", COLUMNS="120")
    words = " ".join(done.stdout.split())
    assert done.returncode == 0, done.stderr
    assert "table planes: 7 rows looked at, of planes-1.csv and 1 more" in words
    assert "accepted 2, duplicates 1, deleted 0, rejected 4" in words and "delimiter ';'" in words
    assert "planes-1.csv, line 3: {" in words and "columns of the accepted rows of planes" in words


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--table", "plane"], "there is no table 'plane'; there are planes, merged, distant. Did you mean 'planes'?"),
        (["--table", "planes", "--topic", "x"], "give it without --topic and --file"),
        (["--table", "distant"], "no credential WAREHOUSE is set: set WATERSHED_ORIGIN_WAREHOUSE"),
    ],
)
def test_what_cannot_be_tried_is_told_without_a_traceback(folder: Path, arguments: list[str], said: str) -> None:
    done = run(folder, "try", *arguments, WATERSHED_VIEWS="airport")
    assert done.returncode == 1 and said in " ".join(done.stderr.split()) and "Traceback" not in done.stderr
