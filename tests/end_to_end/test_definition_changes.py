"""A changed definition is refused by workers and nights until `init --rebuild`, and makes exactly the affected targets stale."""

from __future__ import annotations

import json

from sandbox.weather import encode, readings
from tests.support.system import VIEWS, System

CHANGED = """
from dataclasses import replace
from pipeline import Min
from views.weather import observations as base, hourly_weather as hourly, daily_weather as daily
observations = replace(base, topic={topic!r})
hourly_weather = replace(hourly, source=observations, aggregates={{**hourly.aggregates, "temperature_min": Min("temperature_c")}})
daily_weather = replace(daily, source=observations)
VIEWS = (hourly_weather, daily_weather)
"""


def send(system: System, start: int, end: int) -> None:
    events = [encode(r) for r in readings()[start:end]]
    system.produce((n % 2, e.key, e.value) for n, e in enumerate(events))


def stale(system: System, number: int, changed: str) -> list[str]:
    """The targets of a cut that are not complete under another definition: asked of the product's own completeness."""
    program = (
        "import json\n"
        "from tasks.context import context\n"
        "from tasks.night.night import Night\n"
        "from pipeline.definition.views_module import load_views\n"
        "old = context().night(context().topics[0])\n"
        "views = load_views('changed_views')\n"
        "night = Night(views[0].source, views, old.generation, old.store, old.log, old.lake)\n"
        f"n = {number}\n"
        "found = []\n"
        "for p in range(night.generation.partitions):\n"
        "    found += [] if night.targets(n).master(p).manifest(night.lake) else [f'archive {p}']\n"
        "    found += [] if night.targets(n).clean(p).with_identities(night.lake) else [f'clean {p}']\n"
        "for v in night.views:\n"
        "    found += [] if night.targets(n).view(v.name).manifest(night.lake) else [f'fold {v.name}']\n"
        "print(json.dumps(found))\n"
    )
    (system.folder / "changed_views.py").write_text(changed)
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", program],
        env=system.environment,
        cwd=system.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str] = json.loads(done.stdout)
    return found


def test_a_changed_view_is_refused_and_makes_exactly_its_own_targets_stale_until_rebuild(system: System) -> None:
    system.run("init", "--partitions", "2")
    send(system, 0, 300)
    system.night("2013-01-02")
    send(system, 300, 400)
    system.catch_up()
    assert stale(system, 1, VIEWS.format(topic=system.topic)) == []
    assert stale(system, 1, CHANGED.format(topic=system.topic)) == ["fold hourly_weather"]
    other_source = CHANGED.replace("replace(base, ", "replace(base, identity_horizon=base.identity_horizon * 2, ")
    assert stale(system, 1, other_source.format(topic=system.topic)) == [
        "clean 0",
        "clean 1",
        "fold hourly_weather",
        "fold daily_weather",
    ]

    system.define(CHANGED.format(topic=system.topic))
    for refused in (
        system.run("speed", "--until-caught-up", check=False),
        system.night("2013-01-03", check=False),
        system.run("audit", check=False),
        system.run("init", check=False),
    ):
        assert refused.returncode != 0
        assert "init --rebuild" in refused.stderr
        assert "Traceback" not in refused.stderr, refused.stderr

    rebuilt = system.run("init", "--rebuild")
    assert "generation 2" in rebuilt.stdout
    assert "temperature_min" in system.query("SELECT * FROM serving.hourly_weather LIMIT 1")[0]
    system.assert_exact()
    system.catch_up()
    found = system.assert_exact()
    assert {v["records"] for v in found["views"]} == {400}
    assert "Did not run any tasks" in system.night("2013-01-02").stderr, (
        "the night of the visible cut is done in the new generation too"
    )
    send(system, 400, 450)
    system.night("2013-01-03")
    system.assert_exact()


def test_a_running_worker_stops_when_its_generation_is_retired(system: System) -> None:
    system.run("init", "--partitions", "2")
    send(system, 0, 100)
    system.catch_up()
    worker = system.worker("old")
    system.define(CHANGED.format(topic=system.topic))
    system.run("init", "--rebuild")
    assert worker.wait(timeout=60) == 1
    log = (system.folder / "old.log").read_text()
    assert "init --rebuild" in log and "Traceback" not in log, log
    system.catch_up()
    system.assert_exact()
