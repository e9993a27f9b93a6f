"""A feed's rejected rows against a writer that remembers as Kafka's transactions do: sent once after a mend, and counted."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pytest

from ingestion import Custom, Feed, Files
from ingestion.feed_cursor import Cursor
from ingestion.origin import Reading
from ingestion.rejected.feed_files import read_rejects
from ingestion.rejected.feed_replay import FeedReplay
from ingestion.rejected.rows import OPEN, REPLAYED, RowsWanted
from pipeline import Between, Scale, Source
from pipeline.base.errors import Refused
from pipeline.lake.lake import Lake
from tests.ingestion.test_feeding import ORDERS, Broker, Killed, feeding, write

ROWS, BAD = range(20), range(5, 9)


@dataclass(frozen=True)
class Mild:
    """An order, of any amount."""

    id: str
    shop: str
    at: datetime
    amount: Annotated[Decimal, Scale(2), Between(-5, 100_000)]


@dataclass(frozen=True)
class Wider:
    """The same with a column more."""

    id: str
    shop: str
    at: datetime
    amount: Annotated[Decimal, Scale(2), Between(-5, 100_000)]
    note: str | None


MILD, WIDER = (Source("shop.orders", one, key="shop", event_time="at", identity="id") for one in (Mild, Wider))


class World:
    """A feed, its broker and its lake."""

    def __init__(self, folder: Path, feed: Feed) -> None:
        self.folder, self.feed, self.broker, self.lake = folder, feed, Broker(), Lake(str(folder / "lake"))

    def look(self, source: Source | None = None) -> None:
        feed = self.feed if source is None else dataclasses.replace(self.feed, source=source)
        feeding(feed, self.broker, self.folder).look()

    def replay(self, source: Source, **more: Any) -> int:
        how = {"wanted": RowsWanted(), "reading": Reading(str)} | more
        replay = FeedReplay(dataclasses.replace(self.feed, source=source), self.lake, **how)
        return replay.run(self.broker).accepted.num_rows

    @property
    def cursor(self) -> Cursor:
        return Cursor.from_bytes(self.broker.kept or b"", self.feed.name)

    def rows_in(self, state: int) -> list[int]:
        """Lines of the rejected rows in that state."""
        files = read_rejects(self.lake, self.cursor.rejects)
        found = (
            kept.rows.column("number")[at].as_py()
            for kept in files
            for at in np.flatnonzero(kept.state == state).tolist()
        )
        return sorted(found)


@pytest.fixture
def files(tmp_path: Path) -> World:
    write(tmp_path / "a.csv", ROWS, BAD)
    with (tmp_path / "a.csv").open("a") as file:
        file.write("o20,shop1,2024-01-01T00:00:00Z\n")
    return World(tmp_path, Feed("orders", Files(str(tmp_path / "*.csv")), ORDERS))


def test_after_a_mend_of_the_rule_each_row_is_sent_once_under_its_key_and_the_counts_add_up(files: World) -> None:
    files.look()
    before = files.cursor
    assert (before.sent, before.rejected) == (16, 5)
    assert files.replay(MILD) == 4 and files.replay(MILD) == 0
    after = files.cursor
    assert (after.sent, after.rejected) == (20, 1) and after.sent + after.rejected == before.sent + before.rejected
    assert Counter(files.broker.ids) == Counter(f"o{n}" for n in ROWS)
    assert {json.loads(value)["shop"].encode() == key for _, key, value in files.broker.records} == {True}
    assert (files.rows_in(OPEN), files.rows_in(REPLAYED)) == ([22], [7, 8, 9, 10])
    files.look(MILD)
    assert len(files.broker.ids) == 20, "the feed does not send them again"


def test_nothing_is_sent_while_the_rule_is_as_it_was(files: World) -> None:
    files.look()
    transactions = files.broker.transactions
    assert files.replay(ORDERS) == 0 and files.broker.transactions == transactions
    assert len(files.rows_in(OPEN)) == 5


@pytest.mark.parametrize("where", ["die_before", "die_after"])
def test_killed_before_or_after_its_commit_a_replay_has_sent_nothing_or_all(files: World, where: str) -> None:
    files.look()
    setattr(files.broker, where, 1)
    with pytest.raises(Killed):
        files.replay(MILD)
    setattr(files.broker, where, 0)
    assert files.replay(MILD) == (4 if where == "die_before" else 0)
    assert Counter(files.broker.ids) == Counter(f"o{n}" for n in ROWS)
    assert (files.cursor.sent, files.cursor.rejected) == (20, 1)


def test_rows_are_chosen_by_reason_and_place_and_mended_by_a_file_of_as_many(files: World) -> None:
    files.look()
    (files.folder / "mended").mkdir()
    write(files.folder / "mended" / "rows.csv", range(20, 21))
    mended = Files(str(files.folder / "mended" / "rows.csv"))
    with pytest.raises(Refused, match="has 1 rows, and 5 rejected rows are chosen"):
        files.replay(ORDERS, mended=mended)
    place = frozenset({(str(files.folder / "a.csv"), 22)})
    assert files.replay(ORDERS, mended=mended, wanted=RowsWanted(places=place)) == 1
    assert "o20" in files.broker.ids and files.rows_in(OPEN) == [7, 8, 9, 10]
    assert files.replay(MILD, wanted=RowsWanted(reason="nothing like it")) == 0
    assert files.replay(MILD, wanted=RowsWanted(reason="AMOUNT")) == 4


STRETCHES: list[int] = []


def endless() -> Iterator[pa.Table]:
    """A mended file that has no end."""
    at = datetime(2024, 1, 1, tzinfo=UTC).isoformat()
    for n in range(1000):
        STRETCHES.append(n)
        yield pa.Table.from_pylist([{"id": f"m{n}-{k}", "shop": "x", "at": at, "amount": "1.50"} for k in range(2)])


def test_a_mended_file_is_read_no_further_than_the_rows_that_are_chosen(files: World) -> None:
    files.look()
    STRETCHES.clear()
    with pytest.raises(Refused, match="has more than 5 rows, and 5 rejected rows are chosen, whose place they take"):
        files.replay(ORDERS, mended=Custom(endless))
    assert STRETCHES == [0, 1, 2] and len(files.rows_in(OPEN)) == 5


def test_a_feed_that_has_sent_nothing_and_a_topic_made_anew_are_refused(files: World) -> None:
    with pytest.raises(Refused, match="has sent nothing yet") as refused:
        files.replay(MILD)
    assert refused.value.repair == "watershed feed orders"
    files.look()
    files.broker.topic_id = "B"
    with pytest.raises(Refused, match="was made anew"):
        files.replay(MILD)


GROWN: list[int] = []


def growing() -> Iterator[dict[str, Any]]:
    """A table whose rows rise by time; those of BAD are broken."""
    for n in GROWN:
        at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=n)
        yield {"id": f"o{n}", "shop": "x", "at": at.isoformat(), "amount": -1 if n in BAD else 1}


@pytest.fixture
def by_cursor(tmp_path: Path) -> World:
    GROWN[:] = range(9)  # the rejected ones are the newest, which each look reads again
    return World(tmp_path, Feed("orders", Custom(growing), ORDERS, cursor="at"))


@pytest.mark.parametrize("look_first", [False, True])
def test_of_a_feed_by_cursor_too_a_row_that_was_rejected_is_sent_once_by_the_replay_alone(
    by_cursor: World, look_first: bool
) -> None:
    by_cursor.look()
    assert (by_cursor.cursor.sent, by_cursor.cursor.rejected) == (5, 4)
    if look_first:
        by_cursor.look(MILD)
        assert len(by_cursor.broker.ids) == 5, "what was rejected is the replay's"
    assert by_cursor.replay(MILD) == 4
    by_cursor.look(MILD)
    GROWN[:] = range(12)
    by_cursor.look(MILD)
    by_cursor.look(MILD)
    assert by_cursor.replay(MILD) == 0
    assert Counter(by_cursor.broker.ids) == Counter(f"o{n}" for n in range(12))
    assert (by_cursor.cursor.sent, by_cursor.cursor.rejected) == (12, 0)


def test_of_a_feed_by_cursor_whose_columns_changed_the_replay_leaves_what_the_feed_would_send(by_cursor: World) -> None:
    by_cursor.look()
    assert by_cursor.replay(WIDER) == 0, "the feed may send them as other bytes"
    assert by_cursor.cursor.rejected == 4
