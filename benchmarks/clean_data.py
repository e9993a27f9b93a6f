"""A clean data set as the nights leave it, made at once: Parquet files by event date and partition, and their manifests.

    rows(day, station) = rows / (days · KEYS), values in hundredths, all above zero, so that 1 % of a median means something

The files have the schema, the row groups and the compression that pipeline.lake.lake gives them: they are written through it.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.events import KEYS, PARTITIONS, START_MS
from benchmarks.views_bench import days as view
from benchmarks.views_bench import events
from pipeline.accept.accept import clean_schema
from pipeline.definition.fingerprints import source_fingerprint, view_fingerprint
from pipeline.handover import Counts, Cut, Generation
from pipeline.lake import layout
from pipeline.lake.lake import Lake
from pipeline.lake.manifest import File
from tasks.executors import Executor, Threads
from tasks.night.night import Night

DAY_MS = 86_400_000
IDENTITY_BYTES = 36
VALUES = (1_000, 90_000)  # hundredths


@dataclass
class OneCut:
    """What a night asks of Postgres for a full fold: the ledger, with the start of the log and one cut above it."""

    cuts: tuple[Cut, ...]

    def ledger(self, generation: Generation) -> tuple[Cut, ...]:
        """All cuts."""
        return self.cuts


def night_of(lake: str, rows: int, executor: Executor | None = None) -> Night:
    """The night whose cut 1 holds the whole data set; it has no log and no Postgres."""
    starts, ends = (0,) * PARTITIONS, (rows // PARTITIONS,) * PARTITIONS
    fingerprints = {view.name: view_fingerprint(view)}
    generation = Generation(events.topic, 1, "benchmark", starts, source_fingerprint(events), fingerprints)
    at = datetime(2026, 2, 1, tzinfo=UTC)
    cuts = (
        Cut(events.topic, 1, 0, None, starts, at, "published"),
        Cut(events.topic, 1, 1, date(2026, 2, 1), ends, at, "chosen"),
    )
    store: Any = OneCut(cuts)
    nothing: Any = None
    return Night(events, (view,), generation, store, nothing, Lake(lake), executor=executor or Threads())


def make(lake: str, rows: int, days: int, seed: int) -> list[str]:
    """Write the data set; the paths of its files."""
    night, per_file = night_of(lake, rows), rows // (days * PARTITIONS)
    files: dict[int, list[File]] = {p: [] for p in range(PARTITIONS)}
    for number in range(days):
        for partition in range(PARTITIONS):
            table = _rows(np.random.default_rng([seed, number, partition]), number, partition, per_file)
            day = str(np.datetime64(START_MS // DAY_MS + number, "D"))
            folder = layout.clean(events.topic, source_fingerprint(events))
            path = f"{folder}/date={day}/{partition}-{number * per_file}-{(number + 1) * per_file}-0.parquet"
            files[partition].append(File(path, night.lake.write_table(path, table.schema, [table]), {"date": day}))
    for partition, of in files.items():
        counts = asdict(Counts(accepted=per_file * days))
        facts = {"counts": counts, "total": counts, "rejected": []}
        night.targets(1).clean(partition).commit(night.lake, of, facts)
    by_day = sorted((file for of in files.values() for file in of), key=lambda file: file.path)
    return [night.lake.uri(file.path).removeprefix("file://") for file in by_day]


def _rows(rng: np.random.Generator, day: int, partition: int, count: int) -> pa.Table:
    """Accepted records of one partition and day, in the order of their offsets."""
    hexes = rng.bytes(IDENTITY_BYTES // 2 * count).hex().encode()
    offsets = pa.py_buffer(np.arange(0, IDENTITY_BYTES * count + 1, IDENTITY_BYTES, dtype=np.int32))
    identities = pa.Array.from_buffers(pa.string(), count, [None, offsets, pa.py_buffer(hexes)])
    names = pa.array([f"s{n:04d}" for n in range(partition, KEYS, PARTITIONS)])
    keys = names.take(pa.array(rng.integers(0, len(names), count)))
    at_ms = START_MS + day * DAY_MS + np.sort(rng.integers(0, DAY_MS, count))
    unscaled = np.zeros((count, 2), np.int64)  # decimal128 of a number above zero: its low 64 bits, then none
    unscaled[:, 0] = rng.integers(*VALUES, count)
    values = pa.Array.from_buffers(clean_schema(events).field("value").type, count, [None, pa.py_buffer(unscaled)])
    own = np.arange(day * count, (day + 1) * count)
    arrays = [identities, keys, pa.array(at_ms * 1000).cast(pa.timestamp("us", "UTC")), values]
    arrays += [pa.array(np.full(count, partition)), pa.array(own), pa.array(at_ms)]
    return pa.Table.from_arrays(arrays, schema=clean_schema(events))
