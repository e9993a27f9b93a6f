"""Targets: where each is, what it is made from, and that whoever looks for one looks for what was made."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings

from pipeline.accept.identity_files import IdentitiesMissing, identities_at, write_identities
from pipeline.base.errors import LakeError, Refused
from pipeline.fold.recompute import whole_log
from pipeline.handover import Cut, Generation
from pipeline.lake.lake import Lake
from pipeline.lake.manifest import File, Manifest
from pipeline.lake.targets import (
    CleanRange,
    CutTargets,
    IdentitiesAtCut,
    MasterRange,
    ViewAtCut,
    cut_targets,
    master_ranges,
)
from pipeline.log.log import Block
from simulation.memory_log import MemoryLog
from simulation.play import quiet
from simulation.world import Sizes, World
from tasks.night.archive import archive
from tests.support.simulated import VIEWS

MASTER = MasterRange("weather", "id-1", 1, 30, 60)
CLEAN = CleanRange(MASTER, "5f0e", 10, 2)
VIEW = ViewAtCut("hourly", "weather", "id-1", "c0de", 2, (0, 10), (40, 60))
LOG = {"topic": "weather", "topic_id": "id-1"}
# Every lake that was made so far has these inputs, at these paths or without the `_`: a target that is looked for elsewhere, or with
# other inputs, is made again, or never found.
PINNED = {
    "master": (MASTER, "master/weather/partition=1/_30-60.json", {**LOG, "partition": 1, "start": 30, "end": 60}),
    "clean": (
        CLEAN,
        "clean/weather/fingerprint=5f0e/manifests/_1-30-60.json",
        {**LOG, "partition": 1, "start": 30, "end": 60, "log_start": 10, "source_fingerprint": "5f0e"},
    ),
    "identities": (
        CLEAN.identities,
        "identities/weather/fingerprint=5f0e/cut=2/_partition=1.json",
        {"topic_id": "id-1", "partition": 1, "position": 60},
    ),
    "view": (
        VIEW,
        "views/hourly/fingerprint=c0de/cut=2/_manifest.json",
        {**LOG, "view_fingerprint": "c0de", "starts": [0, 10], "cut": [40, 60]},
    ),
}


@pytest.mark.parametrize("kind", PINNED)
def test_targets_are_where_they_were_and_made_from_what_they_were(kind: str, tmp_path: Path) -> None:
    target, path, inputs = PINNED[kind]
    lake = Lake(str(tmp_path))
    assert (target.kind, target.path, target.inputs) == (kind, path, inputs)
    assert target.manifest(lake) is None
    made = Manifest(kind, inputs, (), {"base": 0})
    # As commits before manifests' names began with `_` left it
    lake.write_bytes(path.replace("/_", "/"), made.to_json())
    assert target.require(lake) == made and lake.has_manifest(path)
    target.commit(lake, (), {"base": 1})
    assert target.require(lake).facts == {"base": 1}, "the newer name counts"
    assert (tmp_path / path).exists() and lake.delete_manifest(path) == 2
    assert (
        target.manifest(lake) is None
        and not lake.has_manifest(path)
        and not [f for f in tmp_path.rglob("*") if f.is_file()]
    )


def test_the_files_of_targets_are_where_they_were() -> None:
    assert MASTER.data == "master/weather/partition=1/30-60.parquet"
    assert CLEAN.folder == "clean/weather/fingerprint=5f0e"
    assert CLEAN.identities.data == "identities/weather/fingerprint=5f0e/cut=2/partition=1.parquet"
    assert VIEW.folder == "views/hourly/fingerprint=c0de/cut=2"


def test_targets_are_values() -> None:
    assert (
        MasterRange("weather", "id-1", 1, 30, 60) == MASTER
        and len({MASTER, MasterRange("weather", "id-1", 1, 30, 60)}) == 1
    )
    assert CLEAN.identities == IdentitiesAtCut("weather", "id-1", "5f0e", 2, 1, 60)


def test_a_target_that_is_required_and_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        LakeError,
        match=r"archived range \[30, 60\) of topic weather, partition 1, is not complete; run the night again",
    ):
        MASTER.require(Lake(str(tmp_path)))


def test_a_clean_range_whose_identities_were_purged_has_its_records_still(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    CLEAN.commit(lake, ())
    assert CLEAN.manifest(lake) is not None and CLEAN.with_identities(lake) is None
    CLEAN.identities.commit(lake, ())
    assert CLEAN.with_identities(lake) == CLEAN.manifest(lake)


def test_a_view_is_complete_while_the_files_it_carries_over_are_there_or_no_purge_can_have_touched_them(
    tmp_path: Path,
) -> None:
    lake = Lake(str(tmp_path))
    own, carried = (
        f"{VIEW.folder}/date=2013-01-02/states.parquet",
        "views/hourly/fingerprint=c0de/cut=1/date=2013-01-01/states.parquet",
    )
    VIEW.commit(lake, [File(carried, 1), File(own, 1)], {"base": 1})
    assert VIEW.manifest(lake) is None
    assert VIEW.manifest(lake, lambda number: number == 1) is not None
    lake.write_bytes(carried, b"")
    assert VIEW.manifest(lake) is not None


# ---- ranges
PARTITIONS = 2
STEPS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=6)


def generation(starts: tuple[int, ...] = (3, 0)) -> Generation:
    return Generation("weather", 1, "id-1", starts, "5f0e", {"hourly": "c0de"})


def ledger_of(starts: tuple[int, ...], steps: list[tuple[int, int]]) -> list[Cut]:
    cuts, offsets = [], starts
    for number in range(len(steps) + 1):
        if number:
            offsets = tuple(o + s for o, s in zip(offsets, steps[number - 1], strict=True))
        cuts.append(Cut("weather", 1, number, date(2013, 1, 1), offsets, datetime(2013, 1, 1, tzinfo=UTC), "chosen"))
    return cuts


@settings(max_examples=300, deadline=None, database=None)
@given(steps=STEPS, shuffle=st.randoms(use_true_random=False))
def test_the_ranges_of_all_cuts_tile_each_partitions_log(steps: list[tuple[int, int]], shuffle: Any) -> None:
    of = generation()
    ledger = ledger_of(of.starts, steps)
    end = ledger[-1].offsets
    shuffle.shuffle(ledger)
    targets: list[CutTargets] = cut_targets(of, "5f0e", {"hourly": "c0de"}, ledger)
    assert [t.number for t in targets] == list(range(1, len(steps) + 1))
    for partition in range(PARTITIONS):
        position = of.starts[partition]
        for t in targets:
            assert t.master(partition).start == position
            position = t.master(partition).end
            assert (
                t.clean(partition).master == t.master(partition) and t.clean(partition).identities.position == position
            )
        assert position == end[partition]
        assert list(master_ranges(of, ledger, partition)) == [
            m for t in targets if (m := t.master(partition)).start < m.end
        ]


def test_a_cut_below_the_one_before_it_is_refused() -> None:
    ledger = ledger_of((3, 0), [(5, 5), (-1, 2)])
    with pytest.raises(Refused, match="cut 2 of weather ends at 7 in partition 0, below the cut before it"):
        cut_targets(generation(), "5f0e", {}, ledger)[1].master(0)


# ---- what is archived is read from the archive
SIZES = Sizes(partitions=1, records=60)


class Archived:
    """A log of which [.., upto) may not be read any more."""

    def __init__(self, log: MemoryLog, upto: int) -> None:
        self.log, self.upto = log, upto

    def read(self, topic: str, partition: int, start: int, end: int, **more: Any) -> Iterator[Block]:
        assert start >= self.upto, f"[{start}, {end}) was read from the log, though it is archived up to {self.upto}"
        return self.log.read(topic, partition, start, end, **more)


def archived_world(seed: int) -> tuple[World, int]:
    """A world whose first part is archived by two cuts, and the offset up to which it is."""
    world = World(VIEWS, seed, SIZES)
    (part,) = world.log.parts
    upto = 0
    for day in (1, 2):
        part.append(len(part.stops) // 3)
        number = world.night.choose(date(2013, 1, day)).number
        archive(world.night, number, 0)
        upto = world.night.cut(number).offsets[0]
    part.append(len(part.stops))
    return world, upto


@pytest.mark.parametrize("more", [{}, {"format": 2}], ids=["inputs as they are", "an input more"])
@pytest.mark.parametrize("seed", range(5))
def test_what_an_audit_recomputes_from_is_the_master_dataset_wherever_it_is_archived(
    seed: int, more: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever archives and whoever recomputes agree on what an archived range is made from, also when that is said anew."""
    inputs = MasterRange.inputs.fget
    assert inputs is not None
    monkeypatch.setattr(MasterRange, "inputs", property(lambda self: {**inputs(self), **more}))
    with quiet():
        world, upto = archived_world(seed)
    (part,), night = world.log.parts, world.night
    assert part.start < upto < part.end
    ledger = night.store.ledger(night.generation)
    log: Any = Archived(world.log, upto)
    blocks = list(whole_log(log, night.lake, night.generation, ledger, 0, part.end, 7))
    assert [b.start for b in blocks] == [part.start, *(b.end for b in blocks[:-1])] and blocks[-1].end == part.end
    expected = pa.Table.from_batches([b.batch for b in world.log.read(world.log.topic, 0, part.start, part.end)])
    assert pa.Table.from_batches([b.batch for b in blocks]).equals(expected)


@pytest.mark.parametrize("seed", range(5))
def test_blocks_tile_a_range_at_every_end(seed: int) -> None:
    with quiet():
        world, _ = archived_world(seed)
    r = world.night.targets(1).master(0)
    records = pa.Table.from_batches([b.batch for b in world.log.read(r.topic, 0, r.start, r.end)])
    for upto in range(r.start, r.end + 1):
        for rows in (1, 3, 100):
            blocks = list(r.blocks(world.lake, rows, upto))
            ends = [r.start, *(b.end for b in blocks)]
            assert [b.start for b in blocks] == ends[:-1] and ends[-1] == upto
            found = [offset for b in blocks for offset in b.offsets.tolist()]
            assert found == [offset for offset in records.column("offset").to_pylist() if offset < upto]
            assert all(len(b) <= rows for b in blocks)


# ---- identities
def test_identities_at_a_cut_are_those_written_none_at_batch_0_and_refused_when_they_are_of_another(
    tmp_path: Path,
) -> None:
    from views.weather import observations

    lake, of = Lake(str(tmp_path)), Generation(observations.topic, 1, "id-1", (0,), "", {})
    assert identities_at(lake, observations, of, 0, 0, 0) is None
    with pytest.raises(
        IdentitiesMissing, match=r"partition 0: the identities at cut 1 .* missing from the lake .*; do this instead"
    ):
        identities_at(lake, observations, of, 1, 0, 5, "do this instead")
    world = World(VIEWS, 1, SIZES)
    with quiet():
        snapshot = _cleaned(world)
    from pipeline.definition.fingerprints import source_fingerprint

    target = IdentitiesAtCut(observations.topic, "id-1", source_fingerprint(observations), 1, 0, snapshot.position)
    write_identities(lake, target.stem, target.inputs, snapshot)
    back = identities_at(lake, observations, of, 1, 0, snapshot.position)
    assert back is not None and (back.hashes == snapshot.hashes).all() and len(back.hashes)
    with pytest.raises(IdentitiesMissing, match="`watershed init --rebuild`"):
        identities_at(lake, observations, of, 1, 0, snapshot.position + 1)


def _cleaned(world: World) -> Any:
    """The identities at the end of all that a world's log has."""
    (part,) = world.log.parts
    part.append(len(part.stops))
    number = world.night.choose(date(2013, 1, 1)).number
    archive(world.night, number, 0)
    night = world.night
    return identities_at(night.lake, night.source, night.generation, number, 0, night.cut(number).offsets[0])
