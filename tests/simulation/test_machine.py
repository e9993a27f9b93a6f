"""A hypothesis state machine over the simulated world, with views, logs and steps that hypothesis makes up.

    for every view that View accepts, every log, every order of steps:  merged answer = recompute, after every transaction

Unlike the seeded schedules, a failure is shrunk by hypothesis in the view and the log as well as in the steps.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice
from random import Random
from typing import Any, ClassVar
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from simulation.memory_log import Partition
from simulation.play import draw, nights_of, perform, quiet
from simulation.schedule import Decision
from simulation.world import Broken, Sizes, Stores, World
from speed_layer.partition import PartitionWork
from tests.simulation.test_planted_bugs import SegmentKept, without_identities_below
from tests.support.strategies import partitions, view_sets

EXAMPLES = int(os.environ.get("WATERSHED_TEST_EXAMPLES", "100"))
STEPS = 25
BURST = 40
RECORDS = 16
HOW = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
FATES = st.sampled_from(["run", "run", "run", "run", "crash", "lose", "refuse", "delay"])


class Schedules(RuleBasedStateMachine):
    """The processes of a world, moved by hypothesis."""

    stores = Stores()
    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.around = ExitStack()
        self.world: World | None = None

    @initialize(views=view_sets(), seed=st.integers(0, 2**16), data=st.data())
    def made(self, views: Any, seed: int, data: st.DataObject) -> None:
        logs = [data.draw(partitions(views[0].source, RECORDS), label=f"partition {n}") for n in range(2)]
        parts = [Partition(log, log[0][0] if log else 0) for log in logs]
        self.world = World(views, seed, Sizes(), self.stores, parts)
        for manager in (quiet(), nights_of(self.world)):
            self.around.enter_context(manager)

    def _perform(self, decision: Decision) -> None:
        assert self.world is not None
        try:
            perform(self.world, decision)
        except Broken as broken:
            raise AssertionError("\n".join([str(broken), *self.world.trace[-60:]])) from None

    @rule(seed=st.integers(0, 2**16), steps=st.integers(1, BURST))
    def burst(self, seed: int, steps: int) -> None:
        """Steps as a seeded schedule would draw them: what needs many of them in a row is reached too."""
        assert self.world is not None
        for decision in islice(draw(self.world.sizes, Random(seed)), steps):
            self._perform(decision)

    @rule(partition=st.integers(0, 1), stops=st.integers(1, 6))
    def produce(self, partition: int, stops: int) -> None:
        self._perform(Decision(f"log{partition}", stops))

    @rule(number=st.integers(0, 1), points=st.integers(1, 40), fate=FATES)
    def worker(self, number: int, points: int, fate: str) -> None:
        self._perform(Decision(f"worker{number}", points, fate))

    @rule(number=st.integers(0, 1), points=st.integers(1, 9), fate=FATES)
    def renewer(self, number: int, points: int, fate: str) -> None:
        self._perform(Decision(f"renewer{number}", points, fate))

    @rule(number=st.integers(0, 1), points=st.integers(1, 200), fate=FATES)
    def night(self, number: int, points: int, fate: str) -> None:
        self._perform(Decision(f"night{number}", points, fate))

    @rule(points=st.integers(1, 12), fate=FATES)
    def operator(self, points: int, fate: str) -> None:
        self._perform(Decision("operator", points, fate))

    @rule(number=st.integers(0, 1), points=st.integers(1, 60), fate=FATES)
    def refold(self, number: int, points: int, fate: str) -> None:
        self._perform(Decision(f"refold{number}", points, fate))

    @rule(number=st.integers(0, 1), points=st.integers(1, 200), fate=FATES)
    def init(self, number: int, points: int, fate: str) -> None:
        self._perform(Decision(f"init{number}", points, fate))

    @rule(seconds=st.sampled_from([1, 4]))
    def clock(self, seconds: int) -> None:
        self._perform(Decision("clock", seconds))

    @rule(fate=st.sampled_from(["land", "land", "drop"]))
    def network(self, fate: str) -> None:
        self._perform(Decision("network", 1, fate))

    def teardown(self) -> None:
        world = self.world
        if world is None:
            return
        try:
            if world.broken is None:
                world.settle()
        except Broken as broken:
            raise AssertionError("\n".join([str(broken), *world.trace[-60:]])) from None
        finally:
            for slot in list(world.actors):
                world.kill(slot)
            self.around.close()
            type(self).seen += world.seen + Counter(machines=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_made_up_views_on_made_up_logs_show_no_difference_at_any_step(say: Callable[[str], None]) -> None:
    class Clean(Schedules):
        seen: ClassVar[Counter[str]] = Counter()

    run_state_machine_as_test(Clean, settings=HOW)
    seen = Clean.seen
    often = ("commit", "publish", "split", "takeover", "refold", "generation", "crash")
    shown = ["machines", "steps", "points", "readings", *often, "rollback", "purge"]
    say(f"{', '.join(f'{seen[name]:,} {name}' for name in shown)}, 0 differences")
    missing = {name for name in (*often, "delayed") if not seen[name]}
    assert not missing, f"never tried: {missing}"


QUICK = settings(HOW, max_examples=500, phases=[Phase.generate], database=None, derandomize=True, print_blob=False)


@pytest.mark.slow
@pytest.mark.parametrize("bug", ["segment kept", "identities not loaded"])
def test_the_machine_finds_a_planted_bug(bug: str) -> None:
    class Bugged(Schedules):
        stores = Stores(speed=SegmentKept) if bug == "segment kept" else Stores()

    with ExitStack() as planted:
        if bug == "identities not loaded":
            planted.enter_context(patch.object(PartitionWork, "_load_identities", without_identities_below))
        with pytest.raises(AssertionError, match=r"STUCK|accounting says|differs from the recompute"):
            run_state_machine_as_test(Bugged, settings=QUICK)
