"""Full recompute, one engine per process: `python -m benchmarks.engines ENGINE FOLDER RESULT.parquet [ADDRESS]`.

    per (key, day): count, mean, min, max, sample standard deviation, median, of the files that FOLDER/files.json names

`watershed` is tasks.night.fold.fold_view itself, which also writes the states and the values; the others keep their result in memory.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NAMES = ["key", "day", "count", "mean", "min", "max", "std", "median"]
QUERY = """
    SELECT key, CAST("at" AT TIME ZONE 'UTC' AS DATE) AS day, count(*) AS count, avg(value) AS mean, min(value) AS min, max(value) AS max,
        stddev_samp(value) AS std, quantile_disc(value, 0.5) AS median
    FROM read_parquet(?) GROUP BY ALL
"""


def watershed(folder: Path, files: Sequence[str], address: str | None) -> pa.Table:
    """The product's fold on Dask's threads, or on the cluster at an address."""
    from contextlib import ExitStack

    from benchmarks.clean_data import night_of
    from benchmarks.views_bench import days
    from tasks.executors import Threads
    from tasks.night.fold import fold_view

    rows = json.loads((folder / "files.json").read_text())["rows"]
    with ExitStack() as stack:
        executor = Threads()
        if address is not None:
            from distributed import Client

            executor = Threads(stack.enter_context(Client(address, set_as_default=False)))
        night = night_of(str(folder), rows, executor)
        manifest = fold_view(night, days, 1, full=True)
    columns = ["key", "window_start", "events", "mean", "least", "greatest", "stddev", "median"]
    table = pa.concat_tables([night.lake.read_table(file, columns) for file in manifest.files]).rename_columns(NAMES)
    return table.set_column(1, "day", table.column("day").cast(pa.date32()))


def polars(folder: Path, files: Sequence[str], address: str | None) -> pa.Table:
    """A lazy scan, all cores."""
    import polars as pl

    value = pl.col("value").cast(pl.Float64)
    frame = pl.scan_parquet(list(files)).group_by("key", day=pl.col("at").dt.date())
    found: Any = frame.agg(
        count=pl.len(),
        mean=value.mean(),
        min=value.min(),
        max=value.max(),
        std=value.std(),
        median=value.quantile(0.5, "lower"),
    )
    return found.collect().to_arrow()


def duckdb(folder: Path, files: Sequence[str], address: str | None) -> pa.Table:
    """One statement, all cores."""
    import duckdb as db

    connection = db.connect()
    connection.execute("SET TimeZone = 'UTC'")
    found: Any = connection.execute(QUERY, [list(files)]).to_arrow_table()
    return found


def pandas(folder: Path, files: Sequence[str], address: str | None) -> pa.Table:
    """A day at a time, in one thread."""
    return pa.concat_tables([_day_in_pandas(of) for of in _by_day(files)])


def dask(folder: Path, files: Sequence[str], address: str | None) -> pa.Table:
    """A day per task, each with pandas, on threads."""
    from dask.base import compute
    from dask.delayed import delayed

    return pa.concat_tables(compute(*[delayed(_day_in_pandas)(of) for of in _by_day(files)], scheduler="threads"))


def _by_day(files: Sequence[str]) -> list[list[str]]:
    days: dict[str, list[str]] = {}
    for file in files:
        days.setdefault(Path(file).parent.name, []).append(file)
    return list(days.values())


def _day_in_pandas(files: Sequence[str]) -> pa.Table:
    tables = [pq.ParquetFile(file).read(columns=["key", "value"]) for file in files]
    table = pa.concat_tables(tables)
    frame = table.set_column(1, "value", table.column("value").cast(pa.float64())).to_pandas()
    grouped = frame.groupby("key")["value"]
    found = grouped.agg(["count", "mean", "min", "max", "std"]).reset_index()
    found["median"] = grouped.quantile(0.5, interpolation="lower").to_numpy()
    found.insert(1, "day", date.fromisoformat(Path(files[0]).parent.name.removeprefix("date=")))
    return pa.Table.from_pandas(found, preserve_index=False)


ENGINES: dict[str, Callable[[Path, Sequence[str], str | None], pa.Table]] = {
    "watershed": watershed, "polars": polars, "duckdb": duckdb, "pandas": pandas, "dask": dask,
}  # fmt: skip


def canonical(table: pa.Table) -> pa.Table:
    """NAMES as string, date, int and float64, min and max in whole hundredths (a decimal's float may be one bit off), sorted."""
    types = [pa.string(), pa.date32(), pa.int64(), *[pa.float64()] * 5]
    columns: list[Any] = [table.column(name).cast(type) for name, type in zip(NAMES, types, strict=True)]
    for at in (NAMES.index("min"), NAMES.index("max")):
        columns[at] = pa.array(np.rint(100 * columns[at].to_numpy()).astype(np.int64))
    return pa.Table.from_arrays(columns, NAMES).sort_by([("key", "ascending"), ("day", "ascending")])


def main() -> None:
    """Compute twice, say how long each took (the first with the engine's import and compiling; never Python's start), then write."""
    name, folder, result, *address = sys.argv[1:]
    files = json.loads((Path(folder) / "files.json").read_text())["files"]
    took_s, found = [], None
    for _ in range(2):
        shutil.rmtree(Path(folder) / "views", ignore_errors=True)  # ours is not to find its own work done
        began = time.monotonic()
        found = ENGINES[name](Path(folder), files, address[0] if address else None)
        took_s.append(time.monotonic() - began)
    print(json.dumps({"first_s": took_s[0], "fold_s": took_s[1]}), flush=True)
    pq.write_table(canonical(found), result)


if __name__ == "__main__":
    main()
