"""An origin that breaks off in the middle of a load: it is read again whole, and told; or nothing is made, and the version before stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingestion import Custom, Files, PageNumber, Rest
from ingestion.retrying import Retrier
from pipeline import Append, Incremental, Merge, RowCount, Table
from pipeline.base.errors import OriginAway, OriginError
from tests.support.api import Api, Asked, Reply, by_number
from tests.support.loaded import Loads


@dataclass(frozen=True)
class Row:
    """A row, and when it changed."""

    id: int
    at: datetime


@dataclass(frozen=True)
class Numbered:
    """A row of the server's."""

    id: int


BREAKS: list[int] = []  # after so many rows, one a reading
EVERY = 500


def rows() -> Iterator[dict[str, Any]]:
    """Rows of a table that goes away in the middle, as often as BREAKS says."""
    stop = BREAKS.pop(0) if BREAKS else EVERY
    for n in range(stop):
        yield {"id": n, "at": (datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=n)).isoformat()}
    if stop < EVERY:
        raise OriginAway("the server closed the connection")


@pytest.fixture
def loads(tmp_path: Path, postgres_url: str) -> Loads:
    made = Loads(tmp_path / "lake", postgres_url)
    made.loader.retrier = lambda report: Retrier(report, sleep=lambda s: None)
    return made


def facts(loads: Loads, table: Table, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(loads.loader.load(table, name).manifest or "")["facts"]
    return found


@pytest.mark.parametrize("load", [Append(), Merge("at"), Incremental("at")], ids=lambda load: type(load).__name__)
def test_a_reading_that_breaks_off_is_made_again_whole_and_its_attempts_are_recorded(loads: Loads, load: Any) -> None:
    table = Table("planes", Custom(rows), Row, ("id",), load=load)
    BREAKS[:] = [300, 0, 499]
    told = facts(loads, table, "1")
    assert told["attempts"] == 4 and told["counts"]["read"] == told["counts"]["added"] == EVERY
    assert len(loads.rows(table, 1)) == EVERY, "no row of a reading that broke off is there twice"
    assert len(list(Path(loads.lake.root).rglob("*.parquet"))) == 1


def test_a_reading_that_always_breaks_off_makes_nothing_and_the_version_before_stays(loads: Loads) -> None:
    table = Table("planes", Custom(rows), Row, ("id",))
    BREAKS[:] = []
    loads.loader.load(table, "1")
    BREAKS[:] = [10] * 100
    with pytest.raises(OriginAway, match=r"closed the connection \(tried 6 times\)"):
        loads.loader.load(table, "2")
    assert len(BREAKS) == 94 and loads.store.newest(["planes"]) == {"planes": 1}
    BREAKS[:] = []
    assert len(loads.load(table, "2")) == EVERY, "run again, it is made"


def test_what_is_wrong_for_good_is_tried_once_and_leaves_no_file_behind(loads: Loads, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n{"id": "x"}\n')
    with pytest.raises(OriginError, match="allowed are at least 2"):
        loads.loader.load(
            Table("numbers", Files(str(tmp_path / "a.jsonl")), Numbered, ("id",), checks=(RowCount(at_least=2),)), "1"
        )
    assert list(Path(loads.lake.root).rglob("*.parquet")) == []


def test_requests_that_a_server_made_us_repeat_are_counted_and_an_end_is_six_tries_not_six_times_six(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Retrier.__init__.__kwdefaults__, "sleep", lambda s: None)  # type: ignore[arg-type,index]
    with Api(lambda asked: _always_away(asked) if asked.number in (2, 4) else by_number(asked)) as api:
        table = Table("numbers", Rest(f"{api.url}/list", rows="data.items", paging=PageNumber()), Numbered, ("id",))
        told = facts(loads, table, "1")
        assert (told["attempts"], told["retries"]) == (1, 2)
        before = len(api.asked)
        api.answer = _always_away
        with pytest.raises(OriginAway, match=r"answers 503 .*e \(tried 6 times\)$"):
            loads.loader.load(table, "2")
        assert len(api.asked) - before == 6
    assert loads.store.newest(["numbers"]) == {"numbers": 1}


def test_rows_without_a_cursor_value_are_rejected_with_their_lines_and_the_cursor_is_that_of_the_others(
    loads: Loads, tmp_path: Path
) -> None:
    file = tmp_path / "a.csv"
    file.write_text("id,at\n1,2024-01-01T00:00:00Z\n2,\n3,2024-01-01T00:00:00Z\n")
    table = Table("planes", Files(str(file)), Row, ("id",), load=Incremental("at"))
    told = facts(loads, table, "1")
    assert told["cursor"] == "2024-01-01T00:00:00+00:00" and told["counts"]["rejected"] == 1
    (rejected,) = loads.lake.read_table(told["rejected"][0]).to_pylist()
    assert (rejected["number"], rejected["unit"], rejected["event"]) == (3, "line", True) and "null" in rejected[
        "reason"
    ]
    file.write_text(file.read_text() + "4,2024-01-01T00:00:00Z\n5,2023-01-01T00:00:00Z\n")
    assert facts(loads, table, "2")["counts"]["added"] == 2, (
        "a tie is read too; a clock that ran back costs no row here"
    )


def _always_away(asked: Asked) -> Reply:
    return Reply("", status=503)
