"""views/<view>/_current.json names the visible batch's files: after a publish, after a rollback, and again after it was lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from pipeline import Count
from pipeline.base.errors import LakeError
from pipeline.definition.fingerprints import view_fingerprint
from pipeline.lake import layout
from simulation.play import nights_of, quiet
from simulation.replacing import rebuild
from simulation.world import Sizes, World
from tasks import current
from tasks.current import try_write_current, write_current
from tests.support.simulated import VIEWS

SIZES = Sizes(partitions=2, records=60)


@pytest.fixture
def world() -> Any:
    """A world with two published batches, and a third of its log to come."""
    made = World(VIEWS, 3, SIZES)
    with quiet(), nights_of(made):
        for day in (1, 2):
            night(made, day)
        yield made


def night(world: World, day: int) -> None:
    for part in world.log.parts:
        part.append(len(part.stops) // 3)
    world.run_night(date(2013, 1, day))


def names(world: World, number: int) -> bool:
    """Whether the current manifest of each view is that of the batch."""
    for view in world.views:
        found = world.lake.manifest(layout.current_view(view.name))
        made = world.night.targets(number).view(view.name).require(world.lake)
        if found is None or (found.files, found.inputs, found.facts["batch"]) != (made.files, made.inputs, number):
            return False
    return True


def test_it_names_every_file_of_the_visible_batch_after_each_publish(world: World) -> None:
    assert names(world, 2)
    assert any(world.night.targets(2).view(v.name).require(world.lake).files for v in world.views)
    night(world, 3)
    assert names(world, 3)


def test_after_a_rollback_it_names_the_batch_before_and_none_at_the_start_of_the_log(world: World) -> None:
    world.operator.rollback(world.tables.generation)
    write_current(world.night)
    assert names(world, 1)
    start = World(VIEWS, 3, SIZES)
    write_current(start.night)
    found = start.lake.manifest(layout.current_view(VIEWS[0].name))
    assert found is not None and found.files == () and found.facts["batch"] == 0
    assert found.inputs["cut"] == [p.start for p in start.log.parts]


def test_one_that_was_lost_is_written_by_the_next_night_and_by_a_purge_before_a_file_goes(world: World) -> None:
    lost = layout.current_view(VIEWS[0].name)
    world.lake.delete(lost)
    night(world, 3)
    assert names(world, 3)
    world.lake.delete(lost)
    write_current(world.night)  # what tasks.purging.purge does first
    assert names(world, 3)


def test_it_is_not_written_again_when_it_is_right(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def commit(path: str, manifest: Any) -> None:
        raise AssertionError(f"{path} was written again")

    monkeypatch.setattr(world.lake, "commit", commit)
    write_current(world.night)


def test_a_publish_that_comes_in_between_is_what_it_names_in_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow writer that looked before somebody published must not leave what it saw."""
    for view in VIEWS:
        world.lake.delete(layout.current_view(view.name))
    made, pending = current._current, [3]

    def slow(*arguments: Any) -> Any:
        found = made(*arguments)
        if pending:
            night(world, pending.pop())
        return found

    monkeypatch.setattr(current, "_current", slow)
    write_current(world.night)
    assert not pending and names(world, 3)


def test_a_generation_that_takes_over_in_between_is_what_it_names_in_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night that was published sleeps before it writes; meanwhile a rebuild takes one view away and changes the other."""
    changed = replace(VIEWS[0], aggregates={**VIEWS[0].aggregates, "one_more": Count()})
    gone, asleep = [v.name for v in VIEWS[1:]], world.night
    assert gone
    for view in VIEWS:
        world.lake.delete(layout.current_view(view.name))
    made, pending = current._current, [(changed,)]

    def slow(*arguments: Any) -> Any:
        found = made(*arguments)
        if pending:
            views = pending.pop()
            world.contexts["peace"] = world.started_with(views)
            rebuild(world, "peace", views)
        return found

    monkeypatch.setattr(current, "_current", slow)
    write_current(asleep)
    found = world.lake.manifest(layout.current_view(changed.name))
    assert (
        found is not None
        and found.facts["generation"] == 2
        and found.inputs["view_fingerprint"] == view_fingerprint(changed)
    )
    assert [name for name in gone if world.lake.manifest(layout.current_view(name)) is not None] == []


def test_a_generation_that_does_not_answer_writes_nothing(world: World) -> None:
    before = dict(world.lake.files)
    world.lake.delete(layout.current_view(VIEWS[0].name))
    del before[layout.current_view(VIEWS[0].name)]
    write_current(replace(world.night, generation=replace(world.tables.generation, number=2)))
    assert world.lake.files == before


def test_a_publish_that_landed_does_not_fail_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: str, manifest: Any) -> None:
        raise LakeError("no space left")

    world.lake.delete(layout.current_view(VIEWS[0].name))
    monkeypatch.setattr(world.lake, "commit", full)
    with caplog.at_level("WARNING", "luigi-interface"):
        try_write_current(world.night)
    assert "still names the batch before; the next night writes it: no space left" in caplog.text
