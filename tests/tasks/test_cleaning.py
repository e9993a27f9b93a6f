"""Cleaning by any hand: however a range comes in blocks, the same records, and files that hold what their names say."""

from datetime import date
from typing import Any

import pyarrow as pa
import pytest

from simulation.play import quiet
from simulation.world import Sizes, World
from tasks.night import clean as cleaning
from tasks.night.archive import archive
from tasks.night.clean import Cleaning, clean
from tests.support.simulated import VIEWS

SIZES = Sizes(partitions=1, records=60)


@pytest.mark.parametrize("seed", range(10))
def test_files_of_one_name_have_the_same_rows_however_a_range_is_cut(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night that slept in the middle of a range, and another that read it in other blocks, may both write: neither spoils a file."""
    monkeypatch.setattr(cleaning, "FLUSH_ROWS", 5)
    monkeypatch.setattr(cleaning, "FLUSH_BYTES", 200)
    world = World(VIEWS, seed, SIZES)
    night = world.night
    for part in world.log.parts:
        part.append(len(part.stops))
    with quiet():
        number = night.choose(date(2013, 1, 2)).number
        archive(night, number, 0)
        manifests = [clean(night, number, 0)]
        files: dict[str, pa.Table] = {}
        shared = 0
        for rows in (1, 2, 3, 7, 50):
            with Cleaning(night, number, 0) as one:
                for block in night.targets(number).master(0).blocks(night.lake, rows):
                    one.feed(block)
                manifests.append(one.commit())
            for path in named(manifests[-1]):
                table = night.lake.read_table(path)
                shared += path in files
                assert files.setdefault(path, table).equals(table), path
    assert shared, "no two cuttings had a file in common"
    counts = {str(manifest.facts["counts"]) for manifest in manifests}
    assert len(counts) == 1
    accepted = [sorted(row_of(night.lake, manifest)) for manifest in manifests]
    assert all(rows == accepted[0] for rows in accepted)


def named(manifest: Any) -> list[str]:
    return [*(file.path for file in manifest.files), *manifest.facts["rejected"]]


def row_of(lake: Any, manifest: Any) -> list[str]:
    return [str(row) for file in manifest.files for row in lake.read_table(file.path).to_pylist()]
