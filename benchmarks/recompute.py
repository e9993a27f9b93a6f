"""A full recompute from the clean data set: the product's fold beside Polars, DuckDB, pandas and Dask, on the same files.

    count, min and max are equal; mean and std to 1e-9 of their size (ours are rounded once, to 8 decimals); our median within 1 %

Each engine is a process of its own; the fold runs once more on a dask.distributed cluster of two worker processes, by its address.
"""

import argparse
import importlib.util
import json
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import clean_data
from benchmarks.engines import ENGINES
from benchmarks.measure import BenchmarkError, Process, python
from benchmarks.report import CONSOLE, bars, machine, save, table

LIMIT_S = 3600.0
OURS, ON_CLUSTER = "watershed", "watershed on a dask.distributed cluster"
TOLERANCE = {"count": 0.0, "min": 0.0, "max": 0.0, "mean": 1e-9, "std": 1e-9}
ROUNDED = 0.6e-8  # ours, at 8 decimals
MEDIAN = 0.01


@dataclass(frozen=True)
class Taken:
    """One process, which folds twice: `first_s` with imports and compiling, `fold_s` the second time. On a cluster the client's alone."""

    engine: str
    fold_s: float
    first_s: float
    cpu_s_of_both: float
    peak_mib: float
    rows_per_s: float


def run(engine: str, folder: Path, rows: int, address: str | None = None) -> tuple[Taken, pa.Table]:
    """One engine, once."""
    result, name = folder / f"{engine}.parquet", ON_CLUSTER if address else engine
    command = python("benchmarks.engines", engine, str(folder), str(result), *([address] if address else []))
    taken = Process(name, command, result.with_suffix(".log")).finish(LIMIT_S)
    first_s, fold_s = float(taken.said["first_s"]), float(taken.said["fold_s"])
    return Taken(name, fold_s, first_s, taken.cpu_s, taken.peak_mib, rows / fold_s), pq.read_table(result)


def compare(found: pa.Table, wanted: pa.Table, engine: str, median: float) -> None:
    """BenchmarkError when a result is another than DuckDB's, beyond the tolerances above."""
    if not found.select(["key", "day"]).equals(wanted.select(["key", "day"])):
        raise BenchmarkError(f"{engine}: other groups, {found.num_rows} instead of {wanted.num_rows}")
    for name, relative in {**TOLERANCE, "median": median}.items():
        ours, theirs = found.column(name).to_numpy(), wanted.column(name).to_numpy()
        allowed = relative * np.abs(theirs) + (ROUNDED if relative else 0.0)
        wrong = np.flatnonzero(~(np.abs(ours - theirs) <= allowed))
        if len(wrong):
            at = found.slice(int(wrong[0]), 1).to_pylist()[0]
            raise BenchmarkError(
                f"{engine}: {len(wrong)} of {len(ours)} values of {name} differ, the first {at}, not {theirs[wrong[0]]}"
            )


@contextmanager
def cluster() -> Iterator[str | None]:
    """The address of a scheduler with two worker processes of one thread each; None where dask.distributed is not installed."""
    if importlib.util.find_spec("distributed") is None:
        yield None
        return
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as made:
        yield made.scheduler_address


def main(given: argparse.Namespace) -> None:
    """Measure, print and store."""
    about = machine()
    engines = [e for e in ENGINES if e == OURS or importlib.util.find_spec(e)]
    with tempfile.TemporaryDirectory(prefix="watershed-bench-") as name:
        folder = Path(name)
        files = clean_data.make(str(folder), given.rows, given.days, given.seed)
        rows = sum(pq.read_metadata(file).num_rows for file in files)
        (folder / "files.json").write_text(json.dumps({"files": files, "rows": given.rows}))
        CONSOLE.print(f"{rows:,} rows in {len(files)} files", style="dim")
        runs, results = [], {}
        for number in range(given.repeats):
            for engine in engines:
                taken, results[engine] = run(engine, folder, rows)
                runs.append(taken)
                CONSOLE.print(f"round {number + 1}: {engine}: {taken.fold_s:.2f} s", style="dim")
        with cluster() as address:
            if address is not None:
                taken, results[ON_CLUSTER] = run(OURS, folder, rows, address)
                runs.append(taken)
    wanted = results["duckdb" if "duckdb" in results else "pandas"]
    for engine, found in results.items():
        compare(found, wanted, engine, MEDIAN if engine in (OURS, ON_CLUSTER) else 1e-12)
    found_rows = medians(runs)
    report(given, about, found_rows, runs, wanted.num_rows, rows, [e for e in ENGINES if e not in engines])


def medians(runs: list[Taken]) -> list[Taken]:
    """One row per engine: the median of each figure."""
    found = []
    for name in dict.fromkeys(r.engine for r in runs):
        of = [asdict(r) for r in runs if r.engine == name]
        found.append(Taken(name, *(statistics.median(r[field] for r in of) for field in list(of[0])[1:])))
    return found


def report(
    given: argparse.Namespace,
    about: dict[str, object],
    rows: list[Taken],
    runs: list[Taken],
    groups: int,
    count: int,
    left_out: list[str],
) -> None:
    """Print and store."""
    ours = rows[0].fold_s
    ratios = {row.engine: row.fold_s / ours for row in rows[1:]}
    note = (
        f"all results are equal (our median within 1 %) in {groups:,} groups; ours also writes states and values to the lake"
        + (f"; left out, not installed: {', '.join(left_out)}" if left_out else "")
    )
    shown = [{**asdict(row), "times ours": ratios.get(row.engine)} for row in rows]
    table(f"Full recompute of {count:,} rows in {given.days} days, median of {given.repeats}", shown, note)
    sizes = {"rows": count, "days": given.days, "groups": groups, "seed": given.seed, "repeats": given.repeats}
    results = {"medians": [asdict(r) for r in rows], "ratios": ratios, "runs": [asdict(r) for r in runs], "note": note}
    save(given.out, "recompute", about, sizes, results)
    title = f"Full recompute of {count:,} rows, per station and day: count, mean, min, max, std, median"
    bars(given.out / "recompute.png", title, {row.engine: row.fold_s for row in rows}, "s", (OURS, ON_CLUSTER))
