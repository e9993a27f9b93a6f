"""A worker's page for Prometheus says what was committed, and where the time went."""

from __future__ import annotations

import re
import signal
import urllib.request

import pytest

from pipeline.base.stages import STAGES, note, stage, totals
from sandbox.processes import free_ports
from sandbox.weather import encode, readings
from tests.support.system import System, wait_for


def test_a_stage_counts_its_time_and_its_records_though_it_raises() -> None:
    before = totals()["parse"]
    with pytest.raises(ValueError, match="broken"), stage("parse", 7):
        raise ValueError("broken")
    note("parse", 0.5, 3)
    after = totals()["parse"]
    assert after[1] == before[1] + 10 and after[0] >= before[0] + 0.5
    with pytest.raises(KeyError):
        note("parsing", 1.0)


@pytest.mark.slow
def test_a_workers_metrics_tell_the_records_by_outcome_and_the_time_by_stage(system: System) -> None:
    (port,) = free_ports(1)
    system.run("init", "--partitions", "2")
    events = [encode(r) for r in readings()[:100]]
    system.produce((n % 2, e.key, e.value) for n, e in enumerate([*events, *events[:10]]))
    system.produce([(0, None, b'{"twice":1,"twice":1}'), (1, b"k", None)])
    worker = system.worker(WATERSHED_METRICS_PORT=str(port))

    def page() -> dict[str, float]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        return {name: float(value) for name, value in re.findall(r"^(watershed_\S+) (\S+)$", text, re.MULTILINE)}

    wait_for(lambda: page().get('watershed_records_total{outcome="accepted"}') == 100, "all records are committed")
    found = page()
    assert [found[f'watershed_records_total{{outcome="{o}"}}'] for o in ("duplicates", "rejected", "tombstones")] == [
        10,
        1,
        1,
    ]
    used = [name for name in STAGES if name != "parse_singly"]  # nothing here is left to the slow parser
    assert all(found[f'watershed_stage_seconds_total{{stage="{name}"}}'] > 0 for name in used)
    assert found['watershed_stage_records_total{stage="commit"}'] == 112
    assert found['watershed_stage_records_total{stage="parse_singly"}'] == 0
    assert found[f'watershed_lag_offsets{{partition="0",topic="{system.topic}"}}'] == 0
    taken = system.run("speed", "--until-caught-up", check=False, WATERSHED_METRICS_PORT=str(port))
    assert taken.returncode == 1 and f"127.0.0.1:{port} is taken" in taken.stderr and "Traceback" not in taken.stderr
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=30) == 0
