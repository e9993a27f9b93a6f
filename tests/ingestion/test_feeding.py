"""A feed against a writer that remembers as Kafka's transactions do: rows are sent once, counted, and judged as both layers judge them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings
from kafka.partitioner.default import murmur2 as murmur2_of_kafka

from ingestion import Custom, Feed, Files
from ingestion.cursor_values import as_text, from_text
from ingestion.feed_cursor import MOST_TIES, Cursor
from ingestion.feeding import Feeding
from ingestion.origin import Reading
from ingestion.rejected.feed_files import read_rejects
from pipeline import Between, Scale, Source
from pipeline.base.errors import OriginError, Refused
from pipeline.lake.lake import Lake
from pipeline.log.log import TopicDescription

HEAD = "id,shop,at,amount\n"


@dataclass(frozen=True)
class Order:
    """An order."""

    id: str
    shop: str
    at: datetime
    amount: Annotated[Decimal, Scale(2), Between(0, 100_000)]


ORDERS = Source("shop.orders", Order, key="shop", event_time="at", identity="id")


class Killed(Exception):
    """The process dies here."""


@dataclass
class Broker:
    """Transactions as Kafka has them: the records and the cursor of one are there together, or not at all."""

    partitions: int = 3
    topic_id: str = "A"
    records: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    kept: bytes | None = None
    transactions: int = 0
    die_before: int = 0  # the n-th commit of a process
    die_after: int = 0
    of_process: int = 0

    @property
    def described(self) -> TopicDescription:
        return TopicDescription("shop.orders", self.partitions, self.topic_id)

    def begin(self) -> None:
        self.of_process = 0

    def cursor(self) -> bytes | None:
        return self.kept

    def send_all(self, partitions: Any, keys: pa.Array, values: pa.Array, cursor: bytes | None) -> None:
        self.of_process += 1
        if self.of_process == self.die_before:
            raise Killed
        self.records += zip(partitions.tolist(), keys.to_pylist(), values.to_pylist(), strict=True)
        self.kept = cursor or self.kept
        self.transactions += 1
        if self.of_process == self.die_after:
            raise Killed

    @property
    def ids(self) -> list[str]:
        return [json.loads(value)["id"] for _, _, value in self.records]


def feeding(feed: Feed, broker: Broker, folder: Path, **how: Any) -> Feeding:
    """A process that begins."""
    found = Feeding(feed, broker, Lake(str(folder / "lake")), Reading(str), **how)
    found.begin()
    return found


def line(n: int, amount: str = "1.50") -> str:
    return f"o{n},shop{n % 5},2024-01-01T00:00:{n % 60:02d}Z,{amount}\n"


def write(file: Path, numbers: range, bad: range = range(0)) -> None:
    file.write_text(HEAD + "".join(line(n, "-1" if n in bad else "1.50") for n in numbers))


@pytest.fixture
def files(tmp_path: Path) -> Feed:
    write(tmp_path / "a.csv", range(10), range(3, 4))
    write(tmp_path / "b.csv", range(10, 25), range(12, 14))
    return Feed("orders", Files(str(tmp_path / "*.csv")), ORDERS)


def test_rows_become_events_under_their_key_in_the_partition_of_kafkas_partitioner(files: Feed, tmp_path: Path) -> None:
    broker = Broker()
    feeding(files, broker, tmp_path).look()
    assert broker.ids == [f"o{n}" for n in range(25) if n not in (3, 12, 13)]
    for partition, key, value in broker.records:
        assert key == json.loads(value)["shop"].encode()
        assert partition == (murmur2_of_kafka(key) & 0x7FFFFFFF) % 3
    assert json.loads(broker.records[0][2]) == {
        "id": "o0",
        "shop": "shop0",
        "at": "2024-01-01T00:00:00Z",
        "amount": 1.5,
    } | {"amount": json.loads(broker.records[0][2])["amount"]}


def test_what_is_taken_is_sent_or_rejected_and_what_is_rejected_has_its_place(files: Feed, tmp_path: Path) -> None:
    broker = Broker()
    run = feeding(files, broker, tmp_path)
    run.look()
    assert (run.fed.rows, run.fed.sent, run.fed.rejected) == (25, 22, 3)
    kept = [
        row
        for t in read_rejects(run.lake, Cursor.from_bytes(broker.kept or b"", "orders").rejects)
        for row in t.rows.to_pylist()
    ]
    assert [(row["part"].rpartition("/")[2], row["number"], row["unit"]) for row in kept] == [
        ("a.csv", 5, "line"),
        ("b.csv", 4, "line"),
        ("b.csv", 5, "line"),
    ]
    assert all("amount: breaks Between" in row["reason"] and b'"o' in row["raw"] for row in kept)
    assert [row.number for row in run.fed.first] == [5, 4, 5]


def test_a_second_run_sends_nothing_twice_and_new_files_once(files: Feed, tmp_path: Path) -> None:
    broker = Broker()
    feeding(files, broker, tmp_path).look()
    before, transactions = broker.ids, broker.transactions
    again = feeding(files, broker, tmp_path)
    again.look()
    assert (broker.ids, again.fed.rows, broker.transactions) == (before, 0, transactions)
    write(tmp_path / "a0.csv", range(30, 33))
    again.look()
    assert broker.ids == [*before, "o30", "o31", "o32"]


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("where", ["die_before", "die_after"])
def test_killed_at_any_commit_it_goes_on_where_the_last_committed_transaction_was(
    files: Feed, tmp_path: Path, batch: int, where: str
) -> None:
    broker, at = Broker(), 1
    for _ in range(200):
        setattr(broker, where, at)
        run = feeding(files, broker, tmp_path, batch_rows=batch)
        try:
            run.look()
            break
        except Killed:
            at = 2 if at == 1 and where == "die_before" else 1
    else:
        pytest.fail("it never came to its end")
    assert broker.ids == [f"o{n}" for n in range(25) if n not in (3, 12, 13)]
    cursor = Cursor.from_bytes(broker.kept or b"", "orders")
    assert (cursor.sent, cursor.rejected) == (22, 3)
    assert sum(t.rows.num_rows for t in read_rejects(run.lake, cursor.rejects)) == 3


def test_a_file_that_changed_since_is_refused_with_what_to_do(files: Feed, tmp_path: Path) -> None:
    broker = Broker()
    feeding(files, broker, tmp_path).look()
    before = broker.ids
    with (tmp_path / "a.csv").open("a") as file:
        file.write(line(99))
    with pytest.raises(Refused, match=r"a\.csv changed since it was sent.*new rows into a file of another name"):
        feeding(files, broker, tmp_path).look()
    assert broker.ids == before


def test_a_file_of_which_a_part_was_sent_and_that_is_gone_is_refused(files: Feed, tmp_path: Path) -> None:
    broker = Broker(die_before=2)
    with pytest.raises(Killed):
        feeding(files, broker, tmp_path, batch_rows=4).look()
    (tmp_path / "a.csv").unlink()
    with pytest.raises(Refused, match=r"a\.csv is gone, of which 5 rows were taken: put it back"):
        feeding(files, broker, tmp_path).look()


def test_a_topic_that_was_made_anew_is_refused(files: Feed, tmp_path: Path) -> None:
    broker = Broker()
    feeding(files, broker, tmp_path).look()
    broker.topic_id = "B"
    with pytest.raises(Refused, match=r"made anew.*another name"):
        feeding(files, broker, tmp_path)


def test_following_takes_a_file_once_nobody_writes_it(files: Feed, tmp_path: Path) -> None:
    broker = Broker()
    run = feeding(files, broker, tmp_path)
    run.look()
    write(tmp_path / "c.csv", range(40, 42))
    run.look(settled=True)
    assert "o40" not in broker.ids
    write(tmp_path / "c.csv", range(40, 43))
    run.look(settled=True)
    assert "o40" not in broker.ids
    run.look(settled=True)
    assert broker.ids[-3:] == ["o40", "o41", "o42"]


def test_it_stops_between_transactions_and_goes_on(files: Feed, tmp_path: Path) -> None:
    broker = Broker()
    run = feeding(files, broker, tmp_path, batch_rows=2)
    run.stop = lambda: broker.transactions > 0
    run.look()
    assert 0 < len(broker.ids) < 22
    feeding(files, broker, tmp_path).look()
    assert broker.ids == [f"o{n}" for n in range(25) if n not in (3, 12, 13)]


def test_an_origin_that_cannot_tell_when_it_changes_needs_a_cursor(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"does not say when it changes.*cursor="):
        feeding(Feed("f", Custom(some_rows), ORDERS), Broker(), tmp_path).look()


def test_what_is_read_once_keeps_no_cursor(tmp_path: Path) -> None:
    broker = Broker()
    feeding(Feed("f", Custom(some_rows), ORDERS), broker, tmp_path, lasting=False).look()
    assert broker.kept is None and broker.ids == ["o1", "o2"]


def test_a_table_of_another_kind_is_one_error_and_not_one_a_row(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id;shop\n1;2\n")
    with pytest.raises(OriginError, match=r"x\.csv: there is no column"):
        feeding(Feed("f", Files(str(tmp_path / "x.csv")), ORDERS), Broker(), tmp_path).look()


# --- with a cursor column -----------------------------------------------------------------------------------------------------

TABLE: list[dict[str, Any]] = []


def some_rows() -> Iterator[list[dict[str, Any]]]:
    yield [{"id": f"o{n}", "shop": "x", "at": "2024-01-01T00:00:00Z", "amount": 1} for n in (1, 2)]


def the_table() -> Iterator[list[dict[str, Any]]]:
    yield list(TABLE)


def row(id: str, second: int, amount: int = 1) -> dict[str, Any]:
    at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    return {"id": id, "shop": "x", "at": at.isoformat(), "amount": amount}


@pytest.fixture
def by_cursor() -> Feed:
    TABLE.clear()
    return Feed("f", Custom(the_table), ORDERS, cursor="at")


def test_rows_come_in_the_order_of_their_cursor_and_each_once_also_where_they_tie(
    by_cursor: Feed, tmp_path: Path
) -> None:
    broker = Broker()
    TABLE.extend([row("c", 3), row("a", 1), row("b", 3)])
    feeding(by_cursor, broker, tmp_path).look()
    assert broker.ids[0] == "a" and sorted(broker.ids) == ["a", "b", "c"]
    TABLE.extend([row("d", 3), row("late", 2), row("e", 4)])
    run = feeding(by_cursor, broker, tmp_path)
    run.look()
    assert broker.ids[3:] == ["d", "e"]
    run.look()
    assert (len(broker.ids), run.fed.rows) == (5, 2)


def test_a_rejected_row_counts_once_however_often_it_is_read(by_cursor: Feed, tmp_path: Path) -> None:
    broker = Broker()
    TABLE.extend([row("a", 1), row("bad", 9, -5)])
    for expected in ((2, 1), (0, 0)):
        run = feeding(by_cursor, broker, tmp_path)
        run.look()
        assert (run.fed.rows, run.fed.rejected) == expected


def test_more_rejected_rows_than_can_be_remembered_are_refused_and_nothing_of_the_look_is_sent(
    by_cursor: Feed, tmp_path: Path
) -> None:
    broker = Broker()
    bad = [row(f"bad{n}", 9, -5) for n in range(MOST_TIES)]
    TABLE.extend([row("a", 1), *bad, *bad, row("more", 9, -5)])
    run = feeding(by_cursor, broker, tmp_path)
    said = r"feed f: more than 20,000 different rows of one reading are rejected.*the_table, row 40002: amount: breaks"
    with pytest.raises(Refused, match=said) as refused:
        run.look()
    assert refused.value.repair == "watershed feed f"
    assert (broker.transactions, run.fed.rows, list(tmp_path.iterdir())) == (0, 0, []), "none is sent, none is kept"
    TABLE.pop()
    for expected in ((1 + 2 * MOST_TIES, 2 * MOST_TIES), (0, 0), (0, 0)):
        run = feeding(by_cursor, broker, tmp_path)
        run.look()
        assert (run.fed.rows, run.fed.rejected) == expected, "as many as can be remembered count once"


@settings(deadline=None, max_examples=30)
@given(
    rows=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=12),
    cuts=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 3), st.integers(1, 4)), max_size=6),
)
def test_a_table_that_grows_at_its_end_is_sent_once_whatever_is_killed(
    rows: list[tuple[int, int]], cuts: list[tuple[int, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, broker = tmp_path_factory.mktemp("feed"), Broker()
    feed = Feed("f", Custom(the_table), ORDERS, cursor="at")
    whole = [row(f"r{n}", second) for n, (second, _) in enumerate(sorted(rows))]
    for upto, batch, die in [*sorted(cuts), (len(whole), 2, 0)]:
        TABLE[:] = whole[:upto][::-1]
        broker.die_before = die
        try:
            feeding(feed, broker, folder, batch_rows=batch).look()
        except Killed:
            continue
    assert sorted(broker.ids) == sorted(one["id"] for one in whole)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", -7),
        ("decimal", Decimal("1.50")),
        ("date", date(2024, 2, 29)),
        ("datetime", datetime(2024, 1, 1, 1, 2, 3, 4, tzinfo=UTC)),
    ],
)
def test_a_cursor_value_is_kept_as_it_was(kind: str, value: Any) -> None:
    assert from_text(as_text(value), kind) == value


@settings(deadline=None, max_examples=20)
@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5), st.integers(0, 2**40))
def test_a_cursor_is_read_as_it_was_written(done: dict[str, str], number: int) -> None:
    for many in (0, 1_500):
        cursor = Cursor("id", {**done, **{f"file-{n}": "v" for n in range(many)}}, "p", "v", number, ties=["x"], sent=3)
        assert Cursor.from_bytes(cursor.to_bytes(), "f") == cursor
    assert len(Cursor(done={f"in/2024/part-{n:06d}.csv": f"{n}-{n}" for n in range(20_000)}).to_bytes()) < 900_000


def test_a_part_without_rows_is_done_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEAD)
    broker = Broker()
    feed = Feed("f", Files(str(tmp_path / "a.csv")), ORDERS)
    feeding(feed, broker, tmp_path).look()
    assert list(Cursor.from_bytes(broker.kept or b"", "f").done) and broker.transactions == 1
