"""Every type of column, null keys and a composite identity through a few schedules; the end-to-end test has the same views."""

from __future__ import annotations

from typing import Any

from simulation.prove import run
from simulation.world import Sizes
from tests.end_to_end.test_types import VIEWS


def test_a_few_schedules_of_every_type_show_no_difference() -> None:
    names: dict[str, Any] = {"__name__": __name__}
    exec(compile(VIEWS.format(topic="trades"), "own_views", "exec", dont_inherit=True), names)
    views = (names["by_side"], names["by_nonce"], names["by_nulls"])
    for seed in (0, 7):
        summary = run(views, seed=seed, schedules=2, sizes=Sizes(partitions=2, workers=2, nights=1, decisions=120))
        assert summary.failure is None, summary.failure.broken
        assert summary.total["readings"] > 20
