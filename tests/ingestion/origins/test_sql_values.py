"""Values of databases as they are stored; and what goes wrong on the way: nothing of a part counts, and the error says what to mend."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ingestion.origin import Part, Reading
from ingestion.origins.sql import Sql
from pipeline.base.errors import OriginAway, OriginError, SettingsError
from sandbox.mariadb import SystemMariaDB
from sandbox.postgres import SystemPostgres
from sandbox.processes import free_ports
from tests.support.databases import World, read

Make = Callable[..., Reading]

NEW_YEAR = datetime.fromisoformat("2026-01-01 00:00")


# ---- values
POSTGRES_VALUES = {
    "10.50::numeric(10, 2)": Decimal("10.50"),
    "'NaN'::numeric": "NaN",
    "0.1::float8": 0.1,
    "9223372036854775807": 2**63 - 1,
    "true": True,
    "timestamptz '2026-01-01 00:00+05'": datetime(2025, 12, 31, 19, tzinfo=UTC),
    "timestamp '2026-01-01 00:00'": NEW_YEAR,
    "date '2026-01-01'": date(2026, 1, 1),
    "interval '1 month 2 days'": "P1M2D",
    "'\\x00ff'::bytea": b"\x00\xff",
    "'00000000-0000-0000-0000-000000000007'::uuid": "00000000-0000-0000-0000-000000000007",
    "'{\"a\": 0.10}'::jsonb": {"a": Decimal("0.10")},
    "ARRAY[1, NULL]": [1, None],
    "int4range(1, 3)": "[1, 3)",
    "NULL": None,
}
MARIADB_VALUES = {
    "CAST(10.5 AS decimal(10, 2))": Decimal("10.50"),
    "CAST(0.1 AS double)": 0.1,
    "CAST(18446744073709551615 AS unsigned)": Decimal(2**64 - 1),
    "date '2026-01-01'": date(2026, 1, 1),
    "timestamp '2026-01-01 00:00:00.5'": NEW_YEAR.replace(microsecond=500_000),
    "FROM_UNIXTIME(0)": NEW_YEAR.replace(year=1970),
    "CAST('25:00:00' AS time)": timedelta(hours=25),
    "x'00ff'": b"\x00\xff",
    "JSON_OBJECT('a', 1)": '{"a": 1}',
    "'ä😀'": "ä😀",
    "NULL": None,
}


@pytest.mark.parametrize(("kind", "values"), [("postgres_url", POSTGRES_VALUES), ("mariadb_url", MARIADB_VALUES)])
def test_values_are_what_is_stored(
    request: pytest.FixtureRequest, reading: Make, kind: str, values: dict[str, Any]
) -> None:
    columns = ", ".join(f"{expression} AS c{n}" for n, expression in enumerate(values))
    (found,) = read(Sql("DB", query=f"SELECT {columns}"), reading(DB=request.getfixturevalue(kind)))
    wrong = {e: (found[f"c{n}"], v) for n, (e, v) in enumerate(values.items()) if found[f"c{n}"] != v}
    assert wrong == {}


def test_an_instant_of_mariadb_has_its_zone_and_a_time_without_one_has_none(mariadb_url: str, reading: Make) -> None:
    """The server's own zone is another."""
    world = World("mysql", mariadb_url)
    world.run(
        "CREATE TABLE t (a timestamp NULL, b datetime)",
        "SET time_zone = '+02:00'",
        "INSERT INTO t VALUES ('2026-01-01', '2026-01-01')",
    )
    world.run("INSERT INTO t VALUES (NULL, NULL)")
    found = read(Sql("DB", table="t"), reading(DB=mariadb_url))
    at = found[0]["a"]
    assert at.utcoffset() == timedelta(0) and at in (
        datetime(2025, 12, 31, 22, tzinfo=UTC),
        datetime(2025, 12, 31, 19, tzinfo=UTC),
    )
    assert found[0]["b"] == NEW_YEAR and found[1] == {"a": None, "b": None}


def test_values_of_several_types_in_a_column_of_sqlite_are_text(tmp_path: Path, reading: Make) -> None:
    world = World("sqlite", f"sqlite:///{tmp_path}/x.db")
    world.run("CREATE TABLE t (a, b integer)", "INSERT INTO t VALUES (1, 1), ('x', 'y'), (NULL, NULL), (2.5, 9)")
    found = read(Sql("DB", table="t"), reading(DB=world.url))
    assert [list(row.values()) for row in found] == [["1", "1"], ["x", "y"], [None, None], ["2.5", "9"]]


# ---- what goes wrong
BIG = {
    "postgresql": "SELECT g AS id, repeat('x', 1000) AS t FROM generate_series(1, 200000) g",
    "mysql": "SELECT seq AS id, repeat('x', 1000) AS t FROM seq_1_to_200000",
}
KILL = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = 'watershed' AND datname = current_database()",
    "mysql": "KILL {id}",
}


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_connection_that_is_closed_in_the_middle_is_away_and_ends_no_part(
    request: pytest.FixtureRequest, reading: Make, kind: str
) -> None:
    world = World(kind, request.getfixturevalue({"postgresql": "postgres_url", "mysql": "mariadb_url"}[kind]))
    origin = Sql("DB", query=BIG[kind])
    (part,) = origin.parts(reading(DB=world.url))
    rows = origin.read(part, reading(DB=world.url))
    count = next(rows).batch.num_rows
    if kind == "mysql":
        with world.engine.connect() as connection:
            (id_,) = [
                r.ID
                for r in connection.execute(
                    sa.text("SELECT ID, INFO FROM information_schema.PROCESSLIST WHERE INFO LIKE '%seq_1_to_200000%'")
                )
                if "PROCESSLIST" not in r.INFO
            ]
        world.run(KILL[kind].format(id=id_))
    else:
        world.run(KILL[kind])
    with pytest.raises(OriginAway, match=r"DB \(.*127\.0\.0\.1"):
        for one in rows:
            count += one.batch.num_rows
    assert count < 200_000


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_reading_that_is_left_does_not_read_on(request: pytest.FixtureRequest, reading: Make, kind: str) -> None:
    """PyMySQL by itself would read two billion rows to their end (the suite makes an error of what is said behind a caller's back)."""
    world = World(kind, request.getfixturevalue({"postgresql": "postgres_url", "mysql": "mariadb_url"}[kind]))
    query = BIG[kind].replace("200000", "2000000000") if kind == "mysql" else BIG[kind]
    given = reading(DB=world.url)
    rows = Sql("DB", query=query).read(Part("all"), given)
    next(rows)
    began = time.monotonic()
    rows.close()  # type: ignore[attr-defined]  # it is a generator
    del rows
    gc.collect()
    assert time.monotonic() - began < 5


def test_a_server_that_does_not_answer_is_away_and_a_wrong_password_is_not(
    real_postgres: SystemPostgres, real_mariadb: SystemMariaDB, reading: Make
) -> None:
    for scheme in ("postgresql", "mysql"):
        nobody = f"{scheme}://me:hidden-word@127.0.0.1:{free_ports(1)[0]}/x"
        with pytest.raises(OriginAway) as away:
            next(Sql("DB", table="t").read(Part("t"), reading(DB=nobody)))
        assert "hidden-word" not in str(away.value) and "127.0.0.1" in str(away.value)
    for url in (real_postgres.url_of("postgres"), real_mariadb.url_of("mysql")):
        parsed = sa.make_url(url)
        for wrong, said in (
            (parsed.set(password="hidden-word"), "(?i)denied|authentication"),
            (parsed.set(database="nowhere"), "nowhere"),
        ):
            with pytest.raises(OriginError, match=said) as refused:
                read(Sql("DB", table="t"), reading(DB=wrong.render_as_string(hide_password=False)))
            assert not isinstance(refused.value, OriginAway)
            assert "hidden-word" not in str(refused.value) and str(parsed.password) not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense hidden-word", "is no URL of a database"),
        ("oracle://me:hidden-word@x/y", "is a URL of oracle; allowed are postgresql"),
        ("sqlite:////no/such/file.db", "no such file"),
        ("sqlite://", "no such file"),
    ],
)
def test_a_credential_that_is_no_database_is_refused(reading: Make, url: str, said: str) -> None:
    with pytest.raises(OriginError, match=said) as refused:
        Sql("DB", table="t").parts(reading(DB=url))
    assert "hidden-word" not in str(refused.value) and not isinstance(refused.value, OriginAway)
    with pytest.raises(SettingsError, match="no credential DB"):
        Sql("DB", table="t").parts(reading())


def test_a_file_that_is_no_database_is_refused(tmp_path: Path, reading: Make) -> None:
    (tmp_path / "x.db").write_text("a,b\n1,2\n" * 1000)
    with pytest.raises(OriginError, match="file is not a database"):
        Sql("DB", table="t").parts(reading(DB=f"sqlite:///{tmp_path}/x.db"))


MEASURED = """
import sys
from ingestion.origin import Reading
from ingestion.origins.sql import Sql
origin = Sql("DB", query=sys.argv[1])
reading = Reading(lambda name: sys.stdin.readline().strip())
def peak_kib():
    with open("/proc/self/status") as status:  # not ru_maxrss: a process begins with that of the one that forked it
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
count, first = 0, 0
from ingestion.origin import Part
for rows in origin.read(Part("all"), reading):
    count += rows.batch.num_rows
    first = first or (peak_kib() if count > 200_000 else 0)
print(count, (peak_kib() - first) // 1024, peak_kib() // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_million_rows_are_read_in_bounded_memory(
    request: pytest.FixtureRequest, say: Callable[[str], None], kind: str
) -> None:
    """The rows are 300 MB and more; what is held is one batch of them."""
    url = request.getfixturevalue({"postgresql": "postgres_url", "mysql": "mariadb_url"}[kind])
    series = {"postgresql": "generate_series(1, 1000000) AS seq", "mysql": "seq_1_to_1000000"}[kind]
    query = f"SELECT seq AS id, repeat('x', 300) AS t, seq * 0.5 AS d FROM {series}"
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, query],
        input=url + "\n",
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count, grown_mb, peak_mb = map(int, done.stdout.split())
    say(
        f"Sql on {kind}: {count} rows of 300 bytes read at a peak of {peak_mb} MB, {grown_mb} MB of it after the first 200,000 rows"
    )
    assert count == 1_000_000 and grown_mb < 60 and peak_mb < 400
