"""A worker that starts before its servers answer waits for them, for as long as it says; what is refused still ends it at once."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import Refused
from pipeline.handover.patience import RETRY_S, wait_out
from sandbox.processes import free_ports
from sandbox.weather import encode, readings
from serving.postgres.connection import StoreUnavailable
from tests.support.clocks import HandClock
from tests.support.system import System, wait_for


class Starting:
    """A server that refuses some calls, then answers."""

    def __init__(self, *refusals: Exception) -> None:
        self.refusals = list(refusals)

    def __call__(self) -> str:
        if self.refusals:
            raise self.refusals.pop(0)
        return "answered"


DOWN, STARTING = StoreUnavailable("it cannot be reached"), StoreUnavailable("it is starting up")


def test_what_passes_is_waited_for_and_said_once_per_reason() -> None:
    clock, said = HandClock(), []
    call = Starting(DOWN, DOWN, STARTING)
    assert wait_out(call, (StoreUnavailable,), patience_s=60, say=said.append, clock=clock) == "answered"
    assert clock.waits_s == [RETRY_S] * 3
    assert said == ["it cannot be reached; trying again for 60 s more", "it is starting up; trying again for 58 s more"]


def test_patience_ends_with_the_last_error_and_a_refusal_ends_it_at_once() -> None:
    clock = HandClock()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        wait_out(Starting(*[DOWN] * 99), (StoreUnavailable,), patience_s=2.5, say=print, clock=clock)
    assert clock.now_s == 2.5
    with pytest.raises(Refused, match="changed"):
        wait_out(
            Starting(Refused("the definition changed")), (StoreUnavailable,), patience_s=60, say=print, clock=clock
        )
    assert clock.now_s == 2.5
    with pytest.raises(StoreUnavailable):
        wait_out(Starting(DOWN), (StoreUnavailable,), patience_s=0, say=print, clock=clock)


def test_whoever_is_told_to_stop_waits_no_longer() -> None:
    stop = threading.Event()
    clock = HandClock(lambda event: event.set())
    with pytest.raises(StoreUnavailable):
        wait_out(Starting(DOWN, DOWN), (StoreUnavailable,), patience_s=60, say=print, stop=stop, clock=clock)
    assert clock.waits_s == [RETRY_S]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_worker_that_starts_before_postgres_does_waits_and_goes_to_work(
    own_system: System, own_servers: Any, tmp_path: Path
) -> None:
    system, postgres, log = own_system, own_servers[1], tmp_path / "worker.log"
    system.run("init", "--partitions", "2")
    system.produce((n % 2, e.key, e.value) for n, e in enumerate(map(encode, readings()[:100])))
    postgres.kill()
    worker = system.worker()
    wait_for(lambda: "trying again for" in log.read_text(), "it says that it waits, and how long")
    assert worker.poll() is None
    postgres.start()
    system.database.dispose()
    wait_for(lambda: sum(system.positions().values()) == 100, "it goes to work by itself")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=60) == 0
    system.assert_exact()


@pytest.mark.slow
def test_a_worker_that_waits_for_postgres_gives_up_when_it_said_and_ends_when_told(
    system: System, tmp_path: Path
) -> None:
    nowhere = f"postgresql://nobody:hidden@127.0.0.1:{free_ports(1)[0]}/nothing"
    done = system.run("speed", check=False, WATERSHED_POSTGRES=nowhere, WATERSHED_START_PATIENCE_S="2")
    assert (
        done.returncode == 1 and "for 2 s more" in done.stderr and "cannot be reached" in done.stderr.splitlines()[-1]
    )
    assert "Traceback" not in done.stderr and "hidden" not in done.stderr
    worker, began_s = system.worker(WATERSHED_POSTGRES=nowhere), time.monotonic()
    wait_for(lambda: "trying again for" in (tmp_path / "worker.log").read_text(), "it waits")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=30) == 0 and time.monotonic() - began_s < 50


@pytest.mark.slow
def test_a_worker_whose_definition_changed_is_refused_at_once(system: System) -> None:
    system.run("init", "--partitions", "1")
    system.define(system.views_file.read_text() + "\nVIEWS = (hourly_weather,)\n")
    began_s = time.monotonic()
    done = system.run("speed", check=False)
    assert done.returncode == 1 and "view daily_weather is gone" in done.stderr and time.monotonic() - began_s < 50
