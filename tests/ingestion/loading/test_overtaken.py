"""Loads of one table that run at once: each goes on from the rows of the one before, so that none loses another's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ingestion.origins.files import Files
from pipeline import Append, Full, Incremental, References, Snapshot, Table, Validity
from pipeline.lake import layout
from pipeline.lake.targets import TableVersion
from simulation.schedule import Crashed
from tests.support.loaded import Loads


@dataclass(frozen=True)
class Row:
    """A row of a file."""

    k: str
    at: int


@dataclass
class Meanwhile:
    """Crash points at the first of which something else happens."""

    then: dict[str, Callable[[], Any]] = field(default_factory=dict)

    def reach(self, point: str) -> None:
        self.then.pop(point, lambda: None)()


def rows(loads: Loads, table: Table) -> list[str]:
    newest = loads.store.newest([table.name])[table.name]
    return sorted(row["k"] for row in loads.rows(table, newest))


def chain(loads: Loads, table: Table) -> list[tuple[str, int, int | None]]:
    """(load, version, the version that it goes on from) of what is made."""
    made = [one for one in loads.store.versions(table.name) if one.manifest]
    return [(one.load, one.version, json.loads(one.manifest or "")["facts"]["base"]) for one in made]


@pytest.mark.parametrize(
    "mode", [Append(), Incremental("at"), Full(), Snapshot()], ids=lambda mode: type(mode).__name__
)
@pytest.mark.parametrize("first", ["slow", "fast"])
def test_a_load_that_another_overtakes_goes_on_from_its_rows(
    tmp_path: Path, postgres_url: str, mode: Any, first: str
) -> None:
    loads, file = Loads(tmp_path / "lake", postgres_url), tmp_path / "rows.csv"
    more: dict[str, Any] = {"history": Validity("since", "until")} if mode == Snapshot() else {}
    table = Table("t", Files(str(file)), Row, ("k",), load=mode, **more)
    file.write_text("k,at\nbefore,1\n")
    loads.load(table, "before")

    def other() -> None:
        file.write_text("k,at\nother,2\n")
        loads.load(table, "fast")
        file.write_text("k,at\nslow,3\n")

    if first == "fast":  # it has the lower number, and is made in the middle of the other all the same
        loads.store.begin("t", "fast")
    slow = Loads(tmp_path / "lake", postgres_url)
    slow.loader.crash = Meanwhile({"load.written": other})
    file.write_text("k,at\nslow,3\n")
    slow.load(table, "slow")
    assert rows(loads, table) == (["slow"] if mode == Full() else ["before", "other", "slow"])
    (_, one, _), (fast, two, base_two), (last, three, base_three) = chain(loads, table)
    assert (fast, last) == ("fast", "slow") and one < two < three and (base_two, base_three) == (one, two)
    files = [path.parent.parent.name for path in (tmp_path / "lake" / "tables").rglob("rows.parquet")]
    assert sorted(files) == sorted(f"version={n}" for n in (one, two, three)), "what was overtaken is deleted"


def test_a_version_that_only_postgres_knows_is_gone_on_from_by_loads_of_other_names(
    tmp_path: Path, postgres_url: str
) -> None:
    loads, file = Loads(tmp_path / "lake", postgres_url), tmp_path / "rows.csv"
    table = Table("t", Files(str(file)), Row, ("k",), load=Append())
    of = Table("of", Files(str(file)), Row, ("k",), checks=(References("k", table),))

    def die() -> None:
        raise Crashed("load.committed")

    dying = Loads(tmp_path / "lake", postgres_url)
    dying.loader.crash = Meanwhile({"load.committed": die})
    file.write_text("k,at\none,1\n")
    with pytest.raises(Crashed):
        dying.load(table, "by hand, at noon")
    assert not loads.lake.has_manifest(TableVersion("t", 1).path), "the process died before it wrote that"
    loads.load(of, "1")
    file.write_text("k,at\ntwo,2\n")
    loads.load(table, "night")
    assert rows(loads, table) == ["one", "two"]


def test_what_is_current_is_the_newest_version_whoever_writes_last(tmp_path: Path, postgres_url: str) -> None:
    loads, file = Loads(tmp_path / "lake", postgres_url), tmp_path / "rows.csv"
    table = Table("t", Files(str(file)), Row, ("k",), load=Append())
    file.write_text("k,at\none,1\n")

    def other() -> None:
        file.write_text("k,at\ntwo,2\n")
        loads.load(table, "fast")

    slow = Loads(tmp_path / "lake", postgres_url)
    slow.loader.crash = Meanwhile({"load.copied": other})
    slow.load(table, "slow")
    current = loads.lake.manifest(layout.current_table("t"))
    assert current is not None and current.inputs["version"] == 2


def test_a_load_that_died_before_another_was_made_begins_above_it(tmp_path: Path, postgres_url: str) -> None:
    loads, file = Loads(tmp_path / "lake", postgres_url), tmp_path / "rows.csv"
    table = Table("t", Files(str(file)), Row, ("k",), load=Append())

    def die() -> None:
        raise Crashed("load.written")

    dying = Loads(tmp_path / "lake", postgres_url)
    dying.loader.crash = Meanwhile({"load.written": die})
    file.write_text("k,at\none,1\n")
    with pytest.raises(Crashed):
        dying.load(table, "night")
    file.write_text("k,at\ntwo,2\n")
    loads.load(table, "by hand")
    file.write_text("k,at\none,1\n")
    loads.load(table, "night")
    assert rows(loads, table) == ["one", "two"] and [load for load, _, _ in chain(loads, table)] == ["by hand", "night"]
