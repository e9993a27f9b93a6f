"""What a version must keep to become one, on a lake and a real Postgres: a load that breaks a check makes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ingestion import Files
from ingestion.loading.checks import check_history, check_version
from ingestion.loading.counts import LoadCounts
from ingestion.loading.load import _less
from ingestion.loading.modes import schema_of
from pipeline import Append, Full, Incremental, References, RowCount, Snapshot, Table, Validity
from pipeline.base.errors import DefinitionError, OriginError
from pipeline.fold.in_force import read_version
from pipeline.lake.manifest import File
from tests.ingestion.loading.plainly import Row
from tests.support.loaded import Loads
from tests.support.simulated import MadeUp


@dataclass(frozen=True)
class Plane:
    """A plane, and whose it is."""

    tailnum: str
    carrier: str | None


@dataclass(frozen=True)
class Span:
    """A price while it was valid."""

    carrier: str
    since: datetime | None
    until: datetime | None


class World:
    """A lake, a real Postgres, and one file that loads read."""

    def __init__(self, folder: Path, url: str) -> None:
        self.loads, self.file = Loads(folder / "lake", url), folder / "planes.csv"
        self.lake, self.store = self.loads.lake, self.loads.store

    def table(self, name: str = "planes", **more: Any) -> Table:
        return Table(name, Files(str(self.file)), Plane, ("tailnum",), **more)

    def load(self, of: Table, name: str, *lines: str) -> list[Row]:
        """The rows of the version that this load makes of a file of these lines."""
        self.file.write_text("\n".join(("tailnum,carrier", *lines)) + "\n")
        return self.loads.load(of, name)

    def check(self, of: Table, rows: Sequence[Row]) -> None:
        schema, counts = schema_of(of), LoadCounts(rows=len(rows))
        table = pa.Table.from_pylist(list(rows), schema)
        self.lake.write_table("x.parquet", schema, [table])
        if of.history is not None:
            check_history(of, table)
        check_version(self.lake, self.store, of, File("x.parquet", len(rows)), 0, counts)


@pytest.fixture
def world(tmp_path: Path, postgres_url: str) -> Iterator[World]:
    yield World(tmp_path, postgres_url)


@pytest.mark.parametrize("load", [Full(), Snapshot()], ids=["full", "snapshot"])
def test_a_load_of_no_rows_where_there_were_some_is_refused_and_the_version_before_stays(
    world: World, load: Any
) -> None:
    more: dict[str, Any] = {"history": Validity("since", "until")} if load == Snapshot() else {}
    of = world.table(load=load, **more)
    before = world.load(of, "1", "N1,UA", "N2,AA")
    with pytest.raises(
        OriginError, match=r"the load has no rows, and the version before has 2; .*RowCount\(at_least=0\)"
    ):
        world.load(of, "2")
    assert world.store.newest(["planes"]) == {"planes": 1} and read_version(world.lake, of, 1).to_pylist() == before
    allowed = dataclasses.replace(of, checks=(RowCount(at_least=0),))
    assert [row.get("until") is not None for row in world.load(allowed, "3")] == [True] * 2 * bool(more)
    assert len(world.load(of, "4", "N1,UA")) == (3 if more else 1), "nothing may become something"


def test_an_append_of_no_rows_is_a_load_of_those_before(world: World) -> None:
    of = world.table(load=Append())
    assert world.load(of, "2") == []
    assert world.load(of, "3", "N1,UA") == world.load(of, "4") == [{"tailnum": "N1", "carrier": "UA"}]


@pytest.mark.parametrize(
    ("check", "rows", "said"),
    [
        (RowCount(at_least=2), 2, ""),
        (RowCount(at_least=2), 1, "the load has 1 rows; allowed are at least 2; 0 rows were rejected"),
        (RowCount(at_least=1, at_most=2), 3, "the load has 3 rows; allowed are at least 1 and at most 2"),
        (RowCount(at_most=0), 0, ""),
    ],
)
def test_a_count_of_rows_is_kept_at_both_ends(world: World, check: RowCount, rows: int, said: str) -> None:
    of = world.table(checks=(check,))
    if said:
        with pytest.raises(OriginError, match=said):
            world.load(of, "1", *(f"N{n},UA" for n in range(rows)))
        assert world.store.newest(["planes"]) == {}
    else:
        assert len(world.load(of, "1", *(f"N{n},UA" for n in range(rows)))) == rows


def test_a_snapshots_rows_are_counted_as_they_are_now_not_as_they_ever_were(world: World) -> None:
    of = world.table(load=Snapshot(), history=Validity("since", "until"), checks=(RowCount(at_least=2, at_most=2),))
    for name in ("1", "2", "3"):
        rows = world.load(of, name, f"N1,U{name}", f"N2,A{name}")
    assert len(rows) == 6
    with pytest.raises(OriginError, match="the load has 1 rows; allowed are at least 2 and at most 2"):
        world.load(of, "4", "N1,UA")


@pytest.mark.parametrize(
    ("share", "found", "asked"),
    [(1.0, 3, 3), (1.0, 2, 3), (0.66, 2, 3), (0.67, 2, 3), (0.55, 11, 20), (0.07, 7, 100), (0.0, 0, 3), (1.0, 0, 0)],
)
def test_references_are_a_share_of_the_rows_that_have_a_value(
    world: World, share: float, found: int, asked: int
) -> None:
    carriers = world.table("carriers")
    of = world.table(checks=(References("carrier", carriers, share=share),))
    with pytest.raises(DefinitionError, match="refers to carriers, which has no version: `watershed load carriers`"):
        world.load(of, "0", "N1,UA")
    world.load(carriers, "1", "UA,x", "AA,y")
    lines = [f"N{n},{'UA' if n < found else 'ZZ'}" for n in range(asked)] + ["M1,", "M2,"]
    if found < Fraction(str(share)) * asked:
        words = f"{found} of {asked} values of carrier are keys of table carriers .version 1.; allowed is a share of {share}"
        with pytest.raises(OriginError, match=words):
            world.load(of, "1", *lines)
    else:
        assert len(world.load(of, "1", *lines)) == asked + 2


AT = [None, *(datetime(2013, 1, day, tzinfo=UTC) for day in range(1, 5))]


SECOND = {(2, 3): False, (1, 2): True, (0, 1): False, (3, 3): True, (3, 2): True, (2, 0): False, (0, 0): True}


@pytest.mark.parametrize(("second", "refused"), SECOND.items())
def test_rows_of_one_key_that_are_valid_at_once_or_never_are_refused(
    world: World, second: tuple[int, int], refused: bool
) -> None:
    of = Table("spans", MadeUp("spans"), Span, ("carrier",), history=Validity("since", "until"))
    spans = [(1, 2), second]
    rows = [{"carrier": "UA", "since": AT[start], "until": AT[end]} for start, end in spans]
    if refused:
        with pytest.raises(
            OriginError, match="rows of one key are valid at the same time, or one ends before it begins"
        ):
            world.check(of, rows)
    else:
        world.check(of, rows)
    world.check(of, [rows[0], rows[0] | {"carrier": "AA"}])


def test_an_overlap_reaches_back_by_all_of_itself() -> None:
    at, day = datetime(2013, 1, 2, 1, tzinfo=UTC), date(2013, 1, 2)
    assert _less(at, timedelta(hours=2)) == datetime(2013, 1, 1, 23, tzinfo=UTC)
    assert [_less(day, timedelta(hours=h)).day for h in (0, 1, 24)] == [2, 1, 1]
    assert _less(day, timedelta(hours=25)) == date(2012, 12, 31)
    assert _less(7, 3) == 4 and _less(7, timedelta(0)) == 7


def test_an_overlap_of_time_before_a_number_is_refused_where_it_is_declared(world: World) -> None:
    @dataclass(frozen=True)
    class Numbered:
        k: str
        n: int

    with pytest.raises(DefinitionError, match=r"overlap=.*allowed is a number"):
        Table("x", MadeUp("x"), Numbered, ("k",), load=Incremental("n", overlap=timedelta(hours=1)))
    Table("x", MadeUp("x"), Numbered, ("k",), load=Incremental("n", overlap=5))
