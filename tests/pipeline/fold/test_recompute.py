"""The audit's recompute: bounded memory and other boundaries change nothing."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.accept.accept import Ingest
from pipeline.fold.fold import combine, fold, sort_states
from pipeline.fold.recompute import BUCKETS, Recompute, cut_anywhere
from pipeline.fold.states import present
from pipeline.log.log import RAW_SCHEMA, Block
from sandbox.weather import readings, spread
from views.weather import daily_weather, hourly_weather, observations


def blocks(rows: int, seed: int) -> list[Block]:
    values = [e.value for e in spread(readings()[:rows], seed)]
    columns = {
        "offset": list(range(len(values))),
        "timestamp_ms": [1_357_000_000_000 + n for n in range(len(values))],
        "key": [None] * len(values),
        "value": values,
        "headers": [[]] * len(values),
    }
    return [Block(pa.RecordBatch.from_pydict(columns, schema=RAW_SCHEMA), 0, len(values))]


@pytest.mark.parametrize("spill_rows", [1, 100, 10**9])
def test_spilling_states_at_any_size_gives_the_same_values(tmp_path: Path, spill_rows: int) -> None:
    whole = blocks(1500, 5)
    plain = Ingest(observations, 0).feed(whole[0]).accepted
    again = Recompute(observations, (hourly_weather, daily_weather), tmp_path, spill_rows)
    ends = list(again.feed(0, cut_anywhere(iter(whole), random.Random(spill_rows))))
    assert ends[-1] == whole[0].end and again.counts[0].records == whole[0].end
    for view in (hourly_weather, daily_weather):
        wanted = present(view, combine(view, [fold(view, plain).states]))
        found = pa.concat_tables([again.values(view, b) for b in range(BUCKETS)])
        assert sort_states(view, found).combine_chunks().equals(sort_states(view, wanted).combine_chunks())


def test_cutting_anywhere_keeps_every_record_and_tiles_the_range() -> None:
    (whole,) = blocks(200, 6)
    for seed in range(20):
        parts = list(cut_anywhere(iter([whole]), random.Random(seed)))
        assert parts[0].start == whole.start and parts[-1].end == whole.end
        assert all(a.end == b.start for a, b in itertools.pairwise(parts))
        assert pa.Table.from_batches([p.batch for p in parts]).equals(pa.Table.from_batches([whole.batch]))
        assert len(parts) > 1
