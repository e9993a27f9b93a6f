"""Bugs that are planted on purpose, and the schedules that must show each."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline import View
from simulation.play import decisions_of, play
from simulation.world import Sizes, Stores
from tests.support.simulated import by_shop

WITHIN = 500  # schedules
SIZES = Sizes()


@dataclass(frozen=True)
class Bug:
    """What is planted: a store, or a method of a worker, a refold or a rebuild."""

    stores: Stores = field(default_factory=Stores)
    planted: Callable[[], AbstractContextManager[Any]] = nullcontext
    views: tuple[View, ...] = (by_shop,)


def how_it_showed(bug: Bug, process: str = "") -> str:
    """The first of WITHIN schedules that breaks, and how; the test fails when none does.

    `process` is the kind of process without which no schedule can show the bug: those without it are counted, and not played.
    """
    with bug.planted():
        for seed in range(WITHIN):
            decisions = decisions_of(seed, SIZES, any(view.lookups for view in bug.views))
            if process and not any(decision.actor.startswith(process) for decision in decisions):
                continue
            played = play(bug.views, seed, SIZES, bug.stores)
            if played.broken is not None:
                assert not played.broken.startswith(("AttributeError", "TypeError", "NameError", "KeyError")), (
                    "the bug itself is broken"
                )
                return f"schedule {seed + 1}: {played.broken}"
    pytest.fail(f"no schedule of {WITHIN} showed it")
