"""Feeds as they are declared, and the pure parts of feeding: keys, partitions, stretches of rows."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from kafka.partitioner.default import murmur2 as murmur2_of_kafka

from console.commands.fed import tell
from ingestion import Feed, Files
from ingestion.feed import load_feeds
from ingestion.feeding import behind, key_bytes, pieces
from ingestion.origin import BrokenRow, Rows
from ingestion.origins.topic import Topic
from pipeline import Avro, RecordKey, Source
from pipeline.base.errors import DefinitionError
from pipeline.base.types import ColumnType
from pipeline.log.partitioner import murmur2, partitions_of
from tests.ingestion.test_feeding import HEAD, ORDERS, Broker, Order, feeding, line
from tests.support.docs import blocks, text_of

# --- keys and partitions ------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40)), st.integers(1, 50))
def test_partitions_are_those_of_kafkas_own_partitioner(keys: list[bytes], partitions: int) -> None:
    array = pa.array(keys, pa.binary())
    assert murmur2(array).tolist() == [murmur2_of_kafka(key) & 0xFFFFFFFF for key in keys]
    assert partitions_of(array, partitions).tolist() == [(murmur2_of_kafka(k) & 0x7FFFFFFF) % partitions for k in keys]


ID = UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("type", "value", "key"),
    [
        (ColumnType("str"), "Zürich", "Zürich".encode()),
        (ColumnType("int"), -12, b"-12"),
        (ColumnType("bytes"), b"\x00\xff", b"\x00\xff"),
        (ColumnType("uuid"), ID.bytes, str(ID).encode()),
        (ColumnType("bool"), True, b"true"),
        (ColumnType("decimal", 2), Decimal("1.50"), b"1.50"),
        (ColumnType("date"), date(2024, 2, 29), b"2024-02-29"),
        (ColumnType("time"), time(1, 2, 3), b"01:02:03.000000"),
        (ColumnType("datetime"), datetime(2024, 1, 1, tzinfo=UTC), b"2024-01-01T00:00:00.000000Z"),
    ],
)
def test_a_key_is_the_text_of_its_value(type: ColumnType, value: Any, key: bytes) -> None:
    assert key_bytes(pa.array([value], type.arrow), type).to_pylist() == [key]


# --- stretches ----------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.sets(st.integers(1, 30)), st.sets(st.integers(1, 30)), st.integers(0, 31), st.integers(1, 9))
def test_rows_behind_a_place_and_in_pieces_are_all_rows_once_and_in_order(
    given_rows: set[int], broken: set[int], number: int, count: int
) -> None:
    numbers = np.array(sorted(given_rows - broken), np.int64)
    rows = Rows(
        pa.RecordBatch.from_arrays([pa.array(numbers)], ["n"]), numbers, [BrokenRow(n, "bad") for n in sorted(broken)]
    )
    found: list[int] = []
    for piece in pieces(behind(rows, number), count):
        assert piece.batch.column(0).to_pylist() == piece.numbers.tolist() and piece.batch.num_rows <= count
        own = sorted([*piece.numbers.tolist(), *(row.number for row in piece.broken)])
        assert own and (not found or found[-1] < own[0])
        found += own
    assert found == [n for n in sorted(given_rows | broken) if n > number]


# --- declarations -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Keyed:
    """An event whose key is outside of it."""

    shop: Annotated[str, RecordKey()]
    at: datetime


FILES = Files("in/*.csv")
WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Feed("a b", FILES, ORDERS), "name 'a b' is none"),
    (lambda: Feed("f", "in/*.csv", ORDERS), "is no origin"),  # type: ignore[arg-type]
    (lambda: Feed("f", FILES, Order), "is no Source"),  # type: ignore[arg-type]
    (lambda: Feed("f", FILES, ORDERS, cursor="shop"), "allowed is a number or a time"),
    (lambda: Feed("f", FILES, ORDERS, cursor="no"), "no"),
    (lambda: Feed("f", FILES, replace(ORDERS, format=Avro())), "a feed writes Json"),
    (lambda: Feed("f", FILES, Source("t", Keyed, key="shop", event_time="at", identity="shop")), "Keyed.shop"),
    (lambda: Feed("f", Topic("t"), ORDERS), "goes on growing; give cursor="),
    (lambda: Feed("f", FILES, ORDERS, crusor="at"), "crusor"),  # type: ignore[call-arg]
]


@pytest.mark.parametrize(("declare", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_feed_that_cannot_be_is_refused_where_it_is_declared(declare: Callable[[], Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said) as refused:
        declare()
    assert "test_feed.py" in (refused.value.place or "")


VIEWS = """
from dataclasses import replace
from ingestion import Feed, Files
from views import VIEWS
from views.weather import observations
FEEDS = {feeds}
"""
ONE = 'Feed("w", Files("in/*.csv"), observations)'


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        (ONE, "FEEDS that is no tuple"),
        (f"({ONE}, {ONE})", "two feeds named 'w'"),
        ('(Feed("w", Files("in/*.csv"), replace(observations, key="id")),)', "another Source for topic"),
    ],
)
def test_feeds_of_a_views_module_that_cannot_be_are_refused(
    feeds: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"feeds_{abs(hash(feeds))}"
    (tmp_path / f"{name}.py").write_text(VIEWS.format(feeds=feeds))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DefinitionError, match=said):
        load_feeds(name)


def test_the_feeds_of_a_views_module_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "feeds_good.py").write_text(VIEWS.format(feeds=f"({ONE},)"))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [feed.name for feed in load_feeds("feeds_good")] == ["w"] and load_feeds("views") == ()


def test_the_example_of_the_documentation_does_what_stands_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "monday.csv").write_text(HEAD + line(1) + line(2) + line(3, "-1"))
    (code,) = [block for block in blocks("docs/DATA-IN.md", "python") if "Feed(" in block]
    declared: dict[str, Any] = {"Feed": Feed, "Files": Files, "orders": ORDERS}
    exec(code, declared)
    (feed,) = declared["FEEDS"]
    run = feeding(feed, Broker(), tmp_path)
    run.look()
    tell(feed.name, feed.source.topic, run.fed)
    shown = capsys.readouterr().out
    assert textwrap.indent(shown, "    ") in text_of("docs/DATA-IN.md"), shown
