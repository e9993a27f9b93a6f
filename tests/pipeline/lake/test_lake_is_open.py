"""Any engine reads the lake, without code of ours: every line of docs/LAKE.md is run, and gives what Postgres serves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas
import polars
import pytest

from sandbox.weather import encode, readings
from tests.support.system import System

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "LAKE.md").read_text()
SECTIONS = {
    "clean": "Events: clean/",
    "master": "Records as received: master/",
    "view": "A view's values: its current files",
}
ROWS = 900
SERVED = ["station", "window_start", "readings", "temperature_max", "temperature_mean", "precipitation"]


def blocks(section: str) -> Iterator[tuple[str, str]]:
    """(engine, code) of each example of a section: that which is named on the line above it."""
    text = TEXT.split(f"## {SECTIONS[section]}\n")[1].split("\n## ")[0]
    yield from re.findall(r"(?:^|[ \n])(\w+):?\n\n```(?:sql|python)\n(.*?)```", text, re.DOTALL)


CASES = [(section, engine, code) for section in SECTIONS for engine, code in blocks(section) if engine != "is"]


def test_every_engine_has_a_line_for_each_part_of_the_lake() -> None:
    engines = ["DuckDB", "Polars", "Spark", "pandas"]
    assert sorted(e for s, e, _ in CASES if s == "master") == sorted(e for s, e, _ in CASES if s == "view") == engines
    assert sorted(e for s, e, _ in CASES if s == "clean") == ["DuckDB", *engines], "and one that goes by the manifests"
    assert sum(1 for _ in re.finditer("^```", TEXT, re.MULTILINE)) == 2 * (len(CASES) + 1), "a line that nothing runs"


@pytest.fixture
def spark(system: System, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A local session, on loopback; started in the system's folder, since its paths are those of the Java process."""
    from pyspark.sql import SparkSession

    monkeypatch.chdir(system.folder)
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
    }
    builder = SparkSession.builder.master("local[1]").appName("lake")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


def run(engine: str, code: str, spark: Any) -> list[dict[str, Any]]:
    """The rows of an example, run as it stands in the document."""
    if engine == "DuckDB":
        connection = duckdb.connect()
        connection.sql("SET TimeZone = 'UTC'")
        *before, last = [part for part in code.split(";") if part.strip()]
        for statement in before:
            connection.sql(statement)
        found = connection.sql(last)
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
    names: dict[str, Any] = {"pandas": pandas, "polars": polars, "spark": spark, "json": json}
    for needed in (FILES, code):
        exec(needed, names)
    frame = next(names[name] for name in ("events", "records", "view") if name in names)
    read: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "pandas": lambda: frame.to_dict("records"),
        "Polars": lambda: frame.to_dicts(),
        "Spark": lambda: [row.asDict() for row in frame.collect()],
    }
    return read[engine]()


(FILES,) = [code for engine, code in blocks("view") if engine == "is"]


@pytest.mark.slow
def test_every_line_of_the_document_reads_what_is_there(system: System, spark: Any) -> None:
    rows = readings()[:ROWS]
    system.run("init", "--partitions", "2")
    system.produce((n % 2, e.key, e.value) for n, e in enumerate(encode(r) for r in rows[:600]))
    system.night("2013-01-02")
    system.produce((n % 2, e.key, e.value) for n, e in enumerate(encode(r) for r in rows[600:]))
    system.night("2013-01-03")
    served = system.query("SELECT * FROM serving.hourly_weather ORDER BY station, window_start")
    current = json.loads((system.lake / "views/hourly_weather/_current.json").read_text())
    assert any("cut=1" in f["path"] for f in current["files"]) and any("cut=2" in f["path"] for f in current["files"])
    wrong = []
    for section, engine, code in CASES:
        try:
            found = run(engine, code.replace("weather.observations", system.topic), spark)
        except Exception as error:
            wrong.append(f"{engine}, {section}: {str(error)[:300]}")
            continue
        if section == "clean" and not len(found) == len({row["id"] for row in found}) == ROWS:
            wrong.append(f"{engine}, clean: {len(found)} rows")
        if (
            section == "master"
            and not len(found) == len({(row.get("partition"), row["offset"]) for row in found}) == ROWS
        ):
            wrong.append(f"{engine}, master: {len(found)} rows")
        if section == "view":
            values = sorted(([_plain(row[name]) for name in SERVED] for row in found), key=repr)
            if values != sorted(([_plain(row[name]) for name in SERVED] for row in served), key=repr):
                wrong.append(f"{engine}, view: {values[:2]}")
    assert not wrong


def _plain(value: Any) -> Any:
    """A value without the engine's own type: times in seconds (Spark's have no zone, and are local); no null of a float kind."""
    if value is None or value != value:
        return None
    return value.timestamp() if hasattr(value, "timestamp") else value
