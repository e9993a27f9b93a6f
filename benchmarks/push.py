"""Events over HTTP: `watershed serve`, and the same endpoint as it is usually written (benchmarks.peers.push_app), on the same events.

accepted = events sent = records on the topic, of both        server, client and broker are processes of their own on the same cores

Rounds alternate; a figure is the median. `server_cpu_us` is the server's CPU time an event, which hardly depends on other load.
"""

import argparse
import os
import statistics
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks.events import PARTITIONS
from benchmarks.measure import BenchmarkError, Process, python
from benchmarks.report import machine, save, table
from benchmarks.views_bench import events as source
from pipeline.log.kafka.log import KafkaLog
from sandbox.kafka import RealKafka
from sandbox.processes import free_ports, port_answers, wait_until

LIMIT_S = 600.0
SHAPES = ((500, 8), (1, 64))  # events of a request, connections
SHARE = {500: 1.0, 1: 1 / 30}  # of the events that are asked for: single ones are slow
OURS, USUAL = "watershed serve", "FastAPI, pydantic, a producer"


class Server(NamedTuple):
    """One that runs."""

    process: Process
    port: int
    path: str
    topic: str


def serving(name: str, kafka: str, folder: Path) -> Server:
    """The server of that name, with a topic of its own, when it listens."""
    (port,) = free_ports(1)
    topic = source.topic if name == OURS else f"{source.topic}.usual"
    with closing(KafkaLog(kafka)) as log:
        log.create_topic(topic, PARTITIONS)
    if name == OURS:
        command, path = python("watershed", "serve", "--port", str(port)), f"/api/events/{topic}"
        environment = {"WATERSHED_KAFKA": kafka, "WATERSHED_VIEWS": "benchmarks.views_bench"}
    else:
        command, path = (
            python("uvicorn", "benchmarks.peers.push_app:app", "--port", str(port), "--no-access-log"),
            "/events",
        )
        environment = {"BOOTSTRAP": kafka, "TOPIC": topic}
    process = Process(name, command, folder / f"{name}.log", environment)
    if not wait_until(lambda: process.poll() is not None or port_answers(port), 120) or process.poll() is not None:
        raise BenchmarkError(f"{name} does not listen; its log: {process.log.read_text()[-1000:]}")
    return Server(process, port, path, topic)


def once(server: Server, seed: int, events: int, batch: int, connections: int, folder: Path) -> dict[str, float]:
    """One run of the client."""
    sizes = ("--seed", str(seed), "--events", str(events), "--batch", str(batch), "--connections", str(connections))
    before_s = server.process.cpu_s()
    client = Process(
        "client", python("benchmarks.push_client", str(server.port), server.path, *sizes), folder / "client.log"
    )
    said = client.finish(LIMIT_S).said
    if said["events"] != events or said["refused"]:
        raise BenchmarkError(f"{server.process.name}: {said}, and {events:,} events were sent")
    cpu_us = (server.process.cpu_s() - before_s) / events * 1e6
    return {
        "events_per_s": events / said["wall_s"],
        "requests_per_s": said["requests"] / said["wall_s"],
        "p50_ms": said["p50_ms"],
        "p99_ms": said["p99_ms"],
        "server_cpu_us": cpu_us,
        "load_average": os.getloadavg()[0],
    }


def measure(kafka: str, folder: Path, seed: int, events: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each server and shape of requests; the first round of each warms it up and is not counted."""
    servers = {name: serving(name, kafka, folder) for name in (OURS, USUAL)}
    sent = dict.fromkeys(servers, 0)
    rows = []
    for batch, connections in SHAPES:
        count = max(batch, int(events * SHARE[batch]) // batch * batch)
        told: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
        for number in range(rounds + 1):
            for name, server in servers.items():
                found = once(server, seed + number, count, batch, connections, folder)
                sent[name] += count
                told[name] += [found] if number else []
        for name, runs in told.items():
            medians = (
                {figure: round(statistics.median(run[figure] for run in runs), 1) for figure in runs[0]} if runs else {}
            )
            rows.append({"server": name, "batch": batch, "connections": connections, "events": count, **medians})
    with closing(KafkaLog(kafka)) as log:
        for name, server in servers.items():
            if sum(log.end_offsets(server.topic)) != sent[name]:
                raise BenchmarkError(
                    f"{name}: {sent[name]:,} were acknowledged, the topic has {log.end_offsets(server.topic)}"
                )
    servers[OURS].process.terminate()
    servers[USUAL].process.kill()  # uvicorn ends by the signal itself
    return rows


def main(given: argparse.Namespace) -> None:
    """Measure, print and store."""
    about = machine()
    with TemporaryDirectory() as made:
        folder = given.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        with RealKafka(folder / "kafka") as kafka:
            rows = measure(kafka.bootstrap, folder, given.seed, given.events, given.repeats)
    note = f"server, client and broker on {os.cpu_count()} cores; every event acknowledged (acks=all); medians of {given.repeats} rounds"
    table("Events over HTTP", rows, note)
    sizes = {"events": given.events, "repeats": given.repeats, "seed": given.seed}
    save(given.out, "push", about, sizes, {"push": rows, "note": note})
