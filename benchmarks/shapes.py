"""Decoding alone, shape by shape: the events that people have, through our decoder, orjson and pysimdjson, on one core.

    every decoder finds the same identity, key, time and amount in each event        ours to columns, the peers to Python's objects

A shape is an event with four declared columns and what surrounds them. The rounds of all decoders alternate; the best of each counts.
"""

import argparse
import importlib.util
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Annotated, Any

import pyarrow as pa

from benchmarks.measure import BenchmarkError
from benchmarks.report import machine, save, table
from pipeline import Scale, Source
from pipeline.decode.json_blocks import decode

EVENTS, ROUNDS = 60_000, 9
EPOCH = datetime(2024, 3, 1, tzinfo=UTC)
Event = dict[str, Any]


@dataclass(frozen=True)
class Declared:
    """What a view of these events would declare."""

    id: str
    key: str
    at: datetime
    amount: Annotated[Decimal, Scale(2)]


SOURCE = Source(topic="shapes", record=Declared, key="key", event_time="at", identity="id")


def plain(n: int) -> Event:
    """The four declared fields alone."""
    at = f"2024-03-01T00:00:{n % 60:02}.123Z"
    return {"id": f"e-{n}", "key": f"k{n % 1000}", "at": at, "amount": n % 10_000 / 100}


def _nested(n: int) -> Event:
    geo = {"lat": 1.25, "lon": 2.5}
    return {**plain(n), "actor": {"id": n, "login": f"user{n}", "geo": geo}, "tags": ["a", "b", "c"]}


def _webhook(n: int) -> Event:
    """As a repository's host sends them: about 600 bytes, most of it nested."""
    owner = {"login": f"org{n % 50}", "id": n % 50, "site_admin": False, "url": f"https://host.example/orgs/{n % 50}"}
    repository = {"id": n % 700, "name": f"repo-{n % 700}", "private": False, "owner": owner, "topics": ["data", "etl"]}
    commits = [{"sha": f"{n * 7919 + k:040x}", "message": f'fix "{k}"\nsee #{n}', "distinct": True} for k in range(2)]
    return {**plain(n), "action": "push", "repository": repository, "commits": commits, "forced": None}


def _text(text: str) -> Callable[[int], Event]:
    return lambda n: {**plain(n), "note": text}


# name -> (an event, whether beyond ASCII it is written as escapes)
SHAPES: dict[str, tuple[Callable[[int], Event], bool]] = {
    "flat": (plain, True),
    "an undeclared nested object and array": (_nested, True),
    "a webhook of nested objects": (_webhook, True),
    "escapes in an undeclared text": (_text('line one\nline "two"'), True),
    "\\u escapes in an undeclared text": (_text("Zürich — 東京"), True),
    "raw UTF-8 in an undeclared text": (_text("Zürich — 東京"), False),
    "a backslash in a declared text": (lambda n: {**plain(n), "key": f"a/b\\c{n % 1000}"}, True),
    "raw UTF-8 in a declared text": (lambda n: {**plain(n), "key": f"Zürich{n % 1000}"}, False),
    "40 undeclared fields": (lambda n: {**plain(n), **{f"f{k}": k for k in range(40)}}, True),
    "an exponent in an undeclared number": (lambda n: {**plain(n), "x": 1e-7 * n}, True),
    "a declared decimal as text, with an exponent": (lambda n: {**plain(n), "amount": f"{n % 9}.25e2"}, True),
    "2 kB of undeclared text": (_text("x" * 2000), True),
}


@dataclass(frozen=True)
class Shape:
    """One shape's figures: thousands of events a second on one core, the best of ROUNDS. `asked`: left to the other parser."""

    shape: str
    bytes: int
    ours_k_per_s: float
    orjson_k_per_s: float | None
    pysimdjson_k_per_s: float | None
    asked: int

    @property
    def ratio(self) -> float | None:
        """Ours to orjson."""
        return None if self.orjson_k_per_s is None else self.ours_k_per_s / self.orjson_k_per_s


def texts(shape: str, count: int) -> list[bytes]:
    """Events of a shape as they are sent, compact."""
    make, ascii_only = SHAPES[shape]
    return [json.dumps(make(n), separators=(",", ":"), ensure_ascii=ascii_only).encode() for n in range(count)]


def peers() -> dict[str, Callable[[bytes], Any]]:
    """Those that are installed: each makes Python's objects of one event."""
    found: dict[str, Callable[[bytes], Any]] = {}
    if importlib.util.find_spec("orjson"):
        import orjson

        found["orjson"] = orjson.loads
    if importlib.util.find_spec("simdjson"):
        import simdjson

        parser = simdjson.Parser()
        found["pysimdjson"] = lambda value: parser.parse(value, recursive=True)
    return found


def measure(shape: str, count: int = EVENTS, rounds: int = ROUNDS) -> Shape:
    """Decode one shape by everybody, alternating; BenchmarkError when they do not find the same."""
    values = texts(shape, count)
    block, loads = pa.array(values, pa.binary()), peers()
    decoded = decode(SOURCE, block)
    for name, load in {"json": json.loads, **loads}.items():
        compare(shape, name, [load(value) for value in values[:1000]], decoded.columns)
    best = dict.fromkeys(("ours", *loads), float("inf"))
    for _ in range(rounds):
        timed(best, "ours", lambda: decode(SOURCE, block))
        for name, load in loads.items():
            timed(best, name, partial(deque, map(load, values), 0))  # each is dropped at once, as a consumer would
    rates = {name: count / seconds / 1000 for name, seconds in best.items()}
    size = sum(map(len, values)) // count
    return Shape(shape, size, rates["ours"], rates.get("orjson"), rates.get("pysimdjson"), decoded.asked)


def timed(best: dict[str, float], name: str, run: Callable[[], object]) -> None:
    """Run it, and keep the best time under its name."""
    began_s = time.perf_counter()
    run()
    best[name] = min(best[name], time.perf_counter() - began_s)


def compare(shape: str, who: str, events: Sequence[Event], columns: dict[str, pa.Array]) -> None:
    """BenchmarkError where a peer's events have other declared values than our columns."""
    for n, event in enumerate(events):
        ours = tuple(columns[name][n].as_py() for name in ("id", "key", "at", "amount"))
        theirs = event["id"], event["key"], datetime.fromisoformat(event["at"]), Decimal(str(event["amount"]))
        if ours != theirs:
            raise BenchmarkError(f"{shape}: {who} finds {theirs} in event {n}, and we {ours}")


def main(given: argparse.Namespace) -> None:
    """Measure, print and store."""
    about = machine()
    found = [measure(shape) for shape in SHAPES]
    rows = [{**asdict(s), "ours / orjson": s.ratio} for s in found]
    note = f"decode alone, one core, best of {ROUNDS}; the same declared values were found by all"
    table(f"Decoding by shape, {EVENTS:,} events each", rows, note)
    save(given.out, "shapes", about, {"events": EVENTS, "rounds": ROUNDS}, {"shapes": rows, "note": note})
