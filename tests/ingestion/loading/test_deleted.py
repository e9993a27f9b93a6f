"""A key that a merge deleted stays deleted, whatever older rows come later, load after load."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow.dataset as ds

from ingestion.origins.files import Files
from pipeline import Merge, Table
from tests.support.loaded import Loads


@dataclass(frozen=True)
class Plane:
    """A plane as a changelog has it."""

    tailnum: str
    seats: int
    version: int
    gone: bool


@dataclass(frozen=True)
class More:
    """The same, a version of the definition later."""

    maker: str | None
    tailnum: str
    seats: int
    version: int
    gone: bool


def test_an_older_row_does_not_bring_a_deleted_key_back_and_a_newer_one_does(tmp_path: Path, postgres_url: str) -> None:
    loads, file = Loads(tmp_path / "lake", postgres_url), tmp_path / "planes.csv"
    planes = Table("planes", Files(str(file)), Plane, ("tailnum",), load=Merge("version", deleted="gone"))
    name = 0

    def load(*lines: str) -> tuple[list[str], dict[str, int]]:
        nonlocal name
        name += 1
        file.write_text("\n".join(("tailnum,seats,version,gone", *lines)) + "\n")
        rows = loads.load(planes, str(name))
        manifest = json.loads(loads.store.versions("planes")[-1].manifest or "")
        return sorted(f"{row['tailnum']} {row['seats']}" for row in rows), manifest["facts"]["counts"]

    assert load("N1,10,1,false", "N2,20,1,false")[0] == ["N1 10", "N2 20"]
    rows, counts = load("N1,10,3,true")
    assert rows == ["N2 20"] and (counts["deleted"], counts["gone"]) == (1, 1)
    rows, counts = load("N1,11,2,false", "N2,21,2,false")
    assert rows == ["N2 21"] and (counts["duplicates"], counts["changed"]) == (1, 1), (
        "late, and older than the deletion"
    )
    assert load()[0] == ["N2 21"]
    newest = ds.dataset(f"{tmp_path}/lake/tables/planes/version={name}", format="parquet")
    assert newest.count_rows() == 1, "readers of the folder pass over the rows that deleted keys"
    rows, counts = load("N1,12,4,false")
    assert rows == ["N1 12", "N2 21"] and counts["added"] == 1
    assert "deleted" not in json.loads(loads.store.versions("planes")[-1].manifest or "")["facts"]
    load("N2,21,3,true")
    more = dataclasses.replace(planes, record=More)
    file.write_text("tailnum,seats,version,gone,maker\nN2,22,2,false,x\nN3,30,1,false,y\n")
    rows_of_more = loads.load(more, "with another column")
    assert sorted(row["tailnum"] for row in rows_of_more) == ["N1", "N3"], (
        "what deleted a key goes along with the definition"
    )
