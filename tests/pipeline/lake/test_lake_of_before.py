"""A lake whose manifests were committed before their names began with `_` is taken on as it is: nothing in it is made again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.system import System
from tests.tasks.test_nights import cuts, send


def make_old(system: System) -> int:
    """Name every manifest as commits before did, and remove what they did not have; how many there were."""
    manifests = [path for path in system.lake.rglob("_*.json") if path.name != "_current.json"]
    for path in manifests:
        path.rename(path.with_name(path.name.removeprefix("_")))
    for path in system.lake.rglob("_current.json"):
        path.unlink()
    return len(manifests)


def named(system: System, pattern: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((system.lake / "views").glob(pattern))]


@pytest.mark.slow
def test_a_lake_made_before_is_taken_on_without_a_rebuild(system: System) -> None:
    system.run("init", "--partitions", "2")
    for start, day in ((0, "2013-01-02"), (200, "2013-01-03")):
        send(system, start, start + 200)
        system.night(day)
    assert make_old(system) == 2 * (2 + 2 + 2 + 2), (
        "two cuts, each with 2 archives, 2 clean ranges, 2 identities and 2 views"
    )
    untouched = {
        path: path.read_bytes() for path in system.lake.rglob("*") if path.is_file() and path.parent.name != "cuts"
    }
    assert "every target of 2 nights is complete" in " ".join(system.run("plan").stdout.split())
    said = system.run("init", "--rebuild").stdout
    assert "made the identities" not in said and "generation" not in said.replace("generation 1", "")
    send(system, 400, 420)
    system.catch_up()  # from the identities at cut 2, under their old name
    system.assert_exact()
    assert {path: path.read_bytes() for path in untouched} == untouched

    send(system, 420, 500)
    system.night("2013-01-04")
    (made,) = named(system, "hourly_weather/fingerprint=*/cut=3/_manifest.json")
    assert made["facts"]["base"] == 2, "the view was folded from its start, as if nothing was there"
    assert {c["facts"]["batch"] for c in named(system, "*/_current.json")} == {3}
    system.assert_exact()
    system.run("rollback")
    assert {c["facts"]["batch"] for c in named(system, "*/_current.json")} == {2}, (
        "of which the manifest has its old name"
    )
    system.assert_exact()

    for start, day in ((500, "2013-01-05"), (540, "2013-01-06"), (580, "2013-01-07")):
        send(system, start, start + 40)
        system.night(day)
    assert [status for _, (_, status) in sorted(cuts(system).items())][-2:] == ["published", "published"]
    gone = [path for path in system.lake.rglob("*.json") if "cut=1" in str(path) or "cut=2" in str(path)]
    assert not gone, "a purge leaves manifests under their old names"
    system.assert_exact()
