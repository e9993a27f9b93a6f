"""Pushes while the server, the broker or the client fails: what was acknowledged is in the topic, and what is sent again counts once."""

from __future__ import annotations

import gzip
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.kafka import RealKafka
from tests.conftest import need_real_kafka
from tests.support.pushing import made, order, stored, take_less
from tests.support.serving import Served
from tests.support.system import System, wait_for

BATCH = 50


class Client:
    """Sends batches until told to stop; one that is not acknowledged is sent again, as every client of ours should."""

    def __init__(self, server: Callable[[], Served], topic: str, number: int) -> None:
        self._server, self._topic, self._number = server, topic, number
        self.acknowledged: list[str] = []
        self.again = 0

    def batch(self, number: int, event: Callable[[int], dict[str, Any]] = order) -> list[dict[str, Any]]:
        """The events of a batch."""
        return [event(self._number * 1_000_000 + number * BATCH + n) for n in range(BATCH)]

    def run(self, batches: int, event: Callable[[int], dict[str, Any]] = order) -> None:
        """Send so many batches, each until it is acknowledged."""
        for number in range(batches):
            events = self.batch(number, event)
            while not self._acknowledged(events):
                self.again += 1
            self.acknowledged += [one["id"] for one in events]

    def _acknowledged(self, events: list[dict[str, Any]]) -> bool:
        try:
            told = requests.post(f"{self._server().url}/api/events/{self._topic}", json=events, timeout=20)
        except (requests.ConnectionError, requests.Timeout):
            return False
        assert told.status_code in (200, 429, 503), told.text
        if told.status_code == 200:
            assert told.json()["accepted"] == BATCH
        return told.status_code == 200


@pytest.mark.slow
def test_nothing_that_was_acknowledged_is_lost_when_the_server_is_killed_again_and_again(
    tmp_path: Path, real_kafka: str
) -> None:
    system = made(tmp_path, real_kafka)
    servers = [Served(system)]
    clients = [Client(lambda: servers[-1], system.topic, number) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(client.run, 60) for client in clients]
        for kill in range(1, 3):
            enough = kill * 1200
            wait_for(lambda: sum(len(c.acknowledged) for c in clients) >= enough, "some are acknowledged", 120)  # noqa: B023
            servers[-1].process.send_signal(signal.SIGKILL)
            servers[-1].process.wait(30)
            servers.append(Served(system, wait=False))
        for one in running:
            one.result(240)
    found = Counter(json.loads(value)["id"] for _, value in stored(system))
    acknowledged = [event for client in clients for event in client.acknowledged]
    assert len(set(acknowledged)) == len(acknowledged) == 4 * 60 * BATCH
    assert set(found) == set(acknowledged)
    assert sum(client.again for client in clients) > 0, "no client was in the middle of a request"
    repeated = sum(found.values()) - len(found)
    assert repeated <= BATCH * sum(client.again for client in clients), "a record twice that no client sent twice"
    system.stop_all()


@pytest.mark.slow
def test_an_event_that_is_pushed_twice_is_a_duplicate_in_both_layers(system: System) -> None:
    def reading(number: int) -> dict[str, Any]:
        at = f"2013-01-{1 + number % 28:02}T{number % 24:02}:00:00Z"
        return {"id": f"r{number}", "station": "JFK", "observed_at": at, "temperature_f": 30 + number % 40}

    system.run("init")
    server = Served(system)
    once, twice = [reading(n) for n in range(300)], [reading(n) for n in range(100)]
    refused = reading(0) | {"id": "cold", "temperature_f": -200}
    told = server.push(system.topic, json.dumps([*once, refused])).json()
    assert told["accepted"] == 300 and [one["index"] for one in told["refused"]] == [300]
    assert server.push(system.topic, json.dumps(twice)).json()["accepted"] == 100
    system.night("2013-01-02")
    again = server.push(system.topic, json.dumps(twice)).json()
    system.catch_up()
    counted = "SELECT sum(accepted) AS accepted, sum(duplicates) AS duplicates, sum(rejected) AS rejected FROM serving.accounting"
    assert system.query(counted) == [{"accepted": 300, "duplicates": 200, "rejected": 0}]
    assert system.query("SELECT sum(readings) AS n FROM serving.hourly_weather") == [{"n": 300}]
    positions = system.positions()
    assert all(positions[int(partition)] == position for partition, position in again["positions"].items())
    system.assert_exact()


@pytest.fixture
def own_kafka(crash_folder: Path) -> Any:
    """A Kafka that this test may stop."""
    need_real_kafka()
    with RealKafka(crash_folder / "kafka") as kafka:
        yield kafka


@pytest.mark.slow
def test_a_slow_broker_is_429_an_absent_one_503_and_both_pass(tmp_path: Path, own_kafka: RealKafka) -> None:
    system = made(tmp_path, own_kafka.bootstrap)
    server = Served(system, WATERSHED_PUSH_IN_FLIGHT_BYTES="40000", WATERSHED_PUSH_TIMEOUT_S="6")
    url = f"{server.url}/api/events/{system.topic}"
    batches = [json.dumps([order(100 * b + n) for n in range(100)]) for b in range(8)]

    def push(body: str) -> requests.Response:
        return requests.post(url, data=body, headers={"Content-Type": "application/json"}, timeout=30)

    assert push(batches[0]).status_code == 200
    with ThreadPoolExecutor(8) as pool:
        os.kill(own_kafka.pid, signal.SIGSTOP)
        try:
            waiting = [pool.submit(push, body) for body in batches]
            wait_for(lambda: sum(one.done() for one in waiting) >= 3, "some are refused, and the others wait", 5)
        finally:
            os.kill(own_kafka.pid, signal.SIGCONT)
        told = [one.result() for one in waiting]
    busy = [one for one in told if one.status_code == 429]
    assert len(busy) >= 3 and {one.status_code for one in told} <= {200, 429}
    assert all(int(one.headers["Retry-After"]) > 0 and "Kafka is slow" in one.json()["error"] for one in busy)
    assert any(one.status_code == 200 for one in told), "what was taken in is acknowledged when Kafka goes on"

    own_kafka.kill()
    wait_for(lambda: push(batches[1]).status_code == 503, "Kafka is away", 40)
    away = push(batches[1])
    assert away.status_code == 503 and int(away.headers["Retry-After"]) > 0
    assert server.get("/readyz").status_code == 503 and server.get("/healthz").status_code == 200
    own_kafka.start()
    wait_for(lambda: push(batches[1]).status_code == 200, "Kafka is back", 60)
    assert server.get("/readyz").status_code == 200
    found = Counter(json.loads(value)["id"] for _, value in stored(system))
    acknowledged = {
        one["id"]
        for body, answer in zip(batches, told, strict=True)
        if answer.status_code == 200
        for one in json.loads(body)
    }
    assert acknowledged <= set(found)
    system.stop_all()


@pytest.mark.slow
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, real_kafka: str) -> None:
    """2 GB of zeros in 2 MB; what is held is one step of it."""
    system = made(tmp_path, real_kafka)
    server = Served(system)
    status = Path(f"/proc/{server.process.pid}/status")
    server.push(system.topic, json.dumps(order()))

    def peak_mib() -> float:
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024

    before = peak_mib()
    member = gzip.compress(b"\0" * 100_000_000)
    for _ in range(3):
        told = server.push(system.topic, member * 20, Content_Encoding="gzip")
        assert told.status_code == 413 and "unpacked" in told.json()["error"]
    assert peak_mib() - before < 80
    assert server.push(system.topic, json.dumps(order(1))).status_code == 200
    system.stop_all()


@pytest.mark.slow
def test_a_topic_that_takes_less_than_before_is_503_once_and_then_gets_smaller_batches(
    tmp_path: Path, real_kafka: str
) -> None:
    """kafka-python would cut the batch in two, and tell nobody of it. One key, so one batch: of several, those given up may have come."""
    system = made(tmp_path, real_kafka)
    server = Served(system)
    events = [order(n, shop="s0", note="x" * 500) for n in range(100)]
    assert server.push(system.topic, json.dumps(events)).json()["accepted"] == 100
    before = len(stored(system))
    take_less(real_kafka, system.topic, 2000)
    events = [order(n, shop="s0", note="x" * 500) for n in range(200, 300)]
    told = server.push(system.topic, json.dumps(events))
    assert told.status_code == 503 and int(told.headers["Retry-After"]) > 0
    assert "max.message.bytes" in told.json()["error"] and "nothing was sent" in told.json()["error"]
    assert len(stored(system)) == before
    wait_for(lambda: server.get("/readyz").status_code == 200, "another writer is made", 20)
    large = order(300, shop="s0", note="x" * 3000)
    again = server.push(system.topic, json.dumps([*events, large]))
    assert again.status_code == 200 and again.json()["accepted"] == 100
    assert [one["index"] for one in again.json()["refused"]] == [100]
    assert "max.message.bytes is 2,000" in again.json()["refused"][0]["reason"]
    assert len(stored(system)) == before + 100
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    system.stop_all()
