"""Any engine reads the lake by its manifests, without code of ours."""

from __future__ import annotations

import json

import duckdb
import pandas as pd
import pytest

from sandbox.weather import encode, readings
from tests.support.system import System


@pytest.mark.slow
def test_duckdb_and_pandas_read_views_and_clean_records_by_their_manifests(system: System) -> None:
    rows = readings()[:900]
    system.run("init", "--partitions", "2")
    system.produce((n % 2, e.key, e.value) for n, e in enumerate(encode(r) for r in rows[:600]))
    system.night("2013-01-02")
    system.produce((n % 2, e.key, e.value) for n, e in enumerate(encode(r) for r in rows[600:]))
    system.night("2013-01-03")

    (manifest,) = (system.lake / "views/hourly_weather").glob("fingerprint=*/cut=2/manifest.json")
    found = json.loads(manifest.read_text())
    files = [str(system.lake / f["path"]) for f in found["files"]]
    assert any("cut=1" in f for f in files) and any("cut=2" in f for f in files), "untouched dates are carried over"
    served = system.query("SELECT * FROM serving.hourly_weather ORDER BY station, window_start")

    names = ["station", "window_start", "readings", "temperature_max", "temperature_mean", "precipitation"]
    duckdb.sql("SET TimeZone='UTC'")
    by_duckdb = duckdb.sql(f"SELECT {', '.join(names)} FROM read_parquet({files}) ORDER BY station, window_start")
    assert [dict(zip(names, row, strict=True)) for row in by_duckdb.fetchall()] == served

    frame = pd.concat([pd.read_parquet(f) for f in files]).sort_values(["station", "window_start"])
    assert frame["readings"].tolist() == [r["readings"] for r in served]
    assert frame["temperature_mean"].tolist() == [r["temperature_mean"] for r in served]

    clean = [
        str(system.lake / f["path"])
        for path in (system.lake / "clean").glob("*/fingerprint=*/manifests/*.json")
        for f in json.loads(path.read_text())["files"]
    ]
    count, distinct = duckdb.sql(f"SELECT count(*), count(DISTINCT id) FROM read_parquet({clean})").fetchall()[0]
    assert (count, distinct) == (len(rows), len(rows))
    assert sum(f["rows"] for f in found["files"]) == len(served)
