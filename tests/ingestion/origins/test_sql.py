"""Databases as origins, on real servers: each row once, as it was written, of one instant."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from ingestion.origin import Origin, Reading
from ingestion.origins.sql import Sql
from ingestion.origins.sql_databases import Database
from pipeline.base.errors import DefinitionError, OriginAway, OriginError
from tests.support.databases import World, read

Make = Callable[..., Reading]


@pytest.mark.parametrize(
    "origin", [Sql("DB", table="planes"), Sql("DB", query="SELECT * FROM planes ORDER BY id -- all\n;")]
)
def test_every_row_comes_once_and_in_the_same_order(world: World, reading: Make, origin: Sql) -> None:
    world.planes(3000)
    found = read(origin, reading(DB=world.url))
    assert [row["id"] for row in found] == list(range(3000))
    assert found[8] == {"id": 8, "tailnum": "N8", "seats": 8, "updated_at": found[8]["updated_at"]}
    assert found[8]["updated_at"] == (4 if world.kind == "sqlite" else datetime(2026, 1, 1, 0, 0, 4, tzinfo=UTC))
    assert found == read(origin, reading(DB=world.url))


@pytest.mark.parametrize("given", [{"table": "planes"}, {"query": "SELECT id, tailnum, updated_at FROM planes"}])
def test_parts_by_ranges_of_a_key_tile_the_table_nulls_and_later_rows_too(
    world: World, reading: Make, given: dict[str, str]
) -> None:
    world.planes(100)
    origin = Sql("DB", **given, split="id", ranges=7)
    parts = origin.parts(reading(DB=world.url))
    assert len(parts) == 7 and parts[1].name.endswith(" where 14 <= id < 28")
    world.run("INSERT INTO planes (id) VALUES (-5), (1000)")
    found = [
        row["id"]
        for part in parts
        for rows in origin.read(part, reading(DB=world.url))
        for row in rows.batch.to_pylist()
    ]
    assert sorted(found) == [-5, *range(100), 1000]
    world.run("CREATE TABLE loose (k int)", "INSERT INTO loose VALUES (1), (NULL), (3)")
    found = [row["k"] for row in read(Sql("DB", table="loose", split="k"), reading(DB=world.url))]
    assert sorted(found, key=str) == [1, 3, None]
    world.run("DELETE FROM loose")
    assert [part.name for part in Sql("DB", table="loose", split="k").parts(reading(DB=world.url))] == ["loose"]


@pytest.mark.parametrize(
    "given", [{"table": "planes"}, {"query": "SELECT * FROM planes WHERE tailnum <> 'a :b::c %s % x'"}]
)
def test_a_cursor_gives_what_is_at_or_after_it_and_what_has_none(
    world: World, reading: Make, given: dict[str, str]
) -> None:
    world.planes(100)
    since = (
        40 if world.kind == "sqlite" else datetime(2026, 1, 1, 1, 0, 40, tzinfo=UTC).astimezone() - timedelta(hours=1)
    )
    for split in (None, "id"):
        bounded = replace(reading(DB=world.url), cursor="updated_at", since=since)
        found = sorted(row["id"] for row in read(Sql("DB", **given, split=split), bounded))
        assert found == sorted(n for n in range(100) if n % 10 == 9 or n // 2 >= 40)
    whole = replace(reading(DB=world.url), cursor="updated_at", since=None)
    assert len(read(Sql("DB", **given), whole)) == 100


def test_a_cursor_is_bound_and_names_are_quoted(world: World, reading: Make) -> None:
    """Neither the value of a cursor nor the name of a table or column is SQL."""
    odd = 'o"d`d; DROP TABLE planes'
    quoted = {"mysql": "`" + odd.replace("`", "``") + "`"}.get(world.kind, '"' + odd.replace('"', '""') + '"')
    world.planes(3)
    world.run(f"CREATE TABLE {quoted} ({quoted} varchar(40))", f"INSERT INTO {quoted} VALUES ('x')")
    bounded = replace(reading(DB=world.url), cursor=odd, since="'; DROP TABLE planes; --")
    assert read(Sql("DB", table=odd), bounded) == [{odd: "x"}]
    assert len(read(Sql("DB", table="planes"), reading(DB=world.url))) == 3


def test_a_sample_is_no_more_than_its_limit_and_one_part(world: World, reading: Make) -> None:
    world.planes(500)
    few = replace(reading(DB=world.url), limit=20)
    for origin in (Sql("DB", table="planes", split="id"), Sql("DB", query="SELECT * FROM planes")):
        assert len(origin.parts(few)) == 1 and len(read(origin, few)) == 20


def test_a_wrong_name_is_answered_with_those_that_there_are(world: World, reading: Make) -> None:
    world.planes(3)
    given = reading(DB=world.url)
    with pytest.raises(
        OriginError, match=r"DB \(.*\): there is no table 'plane'; there are planes\. Did you mean 'planes'\?"
    ):
        Sql("DB", table="plane").parts(given)
    with pytest.raises(
        OriginError, match=r"the cursor 'updatedat' is no column; there are id, .*Did you mean 'updated_at'"
    ):
        Sql("DB", table="planes").parts(replace(given, cursor="updatedat"))
    with pytest.raises(OriginError, match=r"split 'idd' is no column"):
        Sql("DB", query="SELECT id FROM planes", split="idd").parts(given)
    with pytest.raises(OriginError, match=r"split needs a column of whole numbers; 'tailnum' has 'N0'"):
        Sql("DB", table="planes", split="tailnum").parts(given)
    with pytest.raises(OriginError, match=r"several columns 'id'|Duplicate column name 'id'$"):
        read(Sql("DB", query="SELECT a.id, b.id FROM planes a, planes b"), given)
    with pytest.raises(OriginError) as refused:
        read(Sql("DB", query="SELECT nothing FROM planes"), given)
    assert (
        not isinstance(refused.value, OriginAway) and "nothing" in str(refused.value) and "\n" not in str(refused.value)
    )
    if world.kind != "sqlite":
        with pytest.raises(OriginError, match="elsewhere"):
            Sql("DB", table="elsewhere.planes").parts(given)


def test_what_is_read_cannot_write(world: World, reading: Make) -> None:
    world.planes(3)
    for query in ("DELETE FROM planes", "SELECT 1 AS a) AS x; DELETE FROM planes; --"):
        with pytest.raises(OriginError):
            read(Sql("DB", query=query), reading(DB=world.url))
    with Database("DB", world.url).connected() as connection, pytest.raises(sa.exc.DBAPIError, match=r"(?i)read.?only"):
        connection.exec_driver_sql("DELETE FROM planes")
    assert len(read(Sql("DB", table="planes"), reading(DB=world.url))) == 3


def test_a_part_is_of_one_instant_though_others_write_meanwhile(world: World, reading: Make) -> None:
    if world.kind == "sqlite":
        world.run("PRAGMA journal_mode = WAL")
    world.planes(5000)
    origin = Sql("DB", table="planes")
    (part,) = origin.parts(reading(DB=world.url))
    rows = origin.read(part, reading(DB=world.url))
    first = next(rows).batch.num_rows
    world.run("UPDATE planes SET seats = -1", "INSERT INTO planes (id) VALUES (100000)")
    rest = [row for one in rows for row in one.batch.to_pylist()]
    assert 0 < first < 5000 and first + len(rest) == 5000 and all(row["seats"] >= 0 for row in rest)


def test_a_table_of_a_schema_and_a_view_are_read(postgres_url: str, reading: Make) -> None:
    world = World("postgresql", postgres_url)
    world.planes(3)
    world.run(
        'CREATE SCHEMA "S x"',
        'CREATE TABLE "S x".t (a int)',
        'INSERT INTO "S x".t VALUES (1)',
        "CREATE VIEW v AS SELECT 2 AS b",
    )
    world.run("CREATE MATERIALIZED VIEW m AS SELECT 3 AS c")
    given = reading(DB=postgres_url.replace("postgresql://", "postgres://"))
    assert [read(Sql("DB", table=name), given) for name in ("S x.t", "v", "m")] == [[{"a": 1}], [{"b": 2}], [{"c": 3}]]
    with pytest.raises(OriginError, match=r"Did you mean 'S x\.t'"):
        Sql("DB", table="S x.tt").parts(given)


# ---- the declaration
@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: Sql("DB"), "takes a table or a query"),
        (lambda: Sql("DB", table="a", query="SELECT 1"), "takes a table or a query"),
        (lambda: Sql("postgresql://me:hidden-word@x/y", table="a"), "names a credential"),
        (lambda: Sql("db", table="a"), "names a credential"),
        (lambda: Sql("DB_FILE", table="a"), "names a credential"),
        (lambda: Sql("DB", table=""), "table of Sql is ''"),
        (lambda: Sql("DB", table="a", split="id", ranges=1), "ranges of Sql is 1"),
        (lambda: Sql("DB", tabel="a"), "Sql has no 'tabel'.*Did you mean 'table'"),  # type: ignore[call-arg]
    ],
)
def test_a_wrong_declaration_is_refused_where_it_stands(declare: Callable[[], Sql], said: str) -> None:
    with pytest.raises(DefinitionError, match=said) as refused:
        declare()
    assert "hidden-word" not in str(refused.value) and "test_sql.py" in str(refused.value)


def test_a_declaration_is_a_value() -> None:
    origin = Sql("DB", table="planes", split="id")
    assert isinstance(origin, Origin) and not origin.textual
    assert (
        pickle.loads(pickle.dumps(origin))
        == origin
        == Sql("DB", table="planes", split="id")
        != Sql("DB", table="planes")
    )
    assert hash(origin) == hash(Sql("DB", table="planes", split="id"))
    assert origin.describe() == {"kind": "Sql", "credential": "DB", "table": "planes", "split": "id"}
