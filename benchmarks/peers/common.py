"""What a peer computes with a dict, and how it reports. The standard library alone: a peer may live in an environment of its own.

valid(event) = the constraints of benchmarks.views_bench, checked as cheaply as Python can for these events
"""

import csv
import json
import re
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

KEY = re.compile("[sp][0-9]{4}")
Minute = str | int  # as ISO 8601 has it, or since 1970
Groups = dict[tuple[str, Minute], list[int]]  # (key, minute) -> count, sum, min, max
Fields = tuple[str, tuple[str, Minute], int]  # identity, group, value in hundredths


class Keys(dict[Any, bool]):
    """Whether a key has the right form, judged once for each."""

    def __missing__(self, key: Any) -> bool:
        self[key] = found = isinstance(key, str) and KEY.fullmatch(key) is not None
        return found


def flat(event: dict[str, Any], keys: Keys) -> Fields | None:
    """The fields of an event of benchmarks.events, or None when it breaks a rule; KeyError and TypeError say that too."""
    at, value, identity, key = event["at"], event["value"], event["id"], event["key"]
    if not (-100 <= value <= 1000 and at[-1] == "Z" and len(at) == 24 and keys[key] and 1 <= len(identity) <= 64):
        return None
    return identity, (key, at[:16]), round(value * 100)


def nested(event: dict[str, Any], keys: Keys) -> Fields | None:
    """The same of an event of benchmarks.webhooks; its minutes are numbers until the report."""
    repository, value = event["repository"], event["usage"]["compute"]["amount"]
    identity, key, minute = event["delivery"]["id"], repository["name"], repository["pushedAt"] // 60
    if not (-100 <= value <= 1000 and keys[key] and 1 <= len(identity) <= 64):
        return None
    return identity, (key, minute), round(value * 100)


class Fold:
    """Decode, check, deduplicate, aggregate: one event after another."""

    def __init__(self, loads: Callable[[bytes], Any], read: Callable[[Any, Keys], Fields | None] = flat) -> None:
        self.loads, self.read, self.groups, self.rejected = loads, read, Groups(), 0
        self._seen: set[str] = set()
        self._keys = Keys()

    def feed(self, values: Iterable[bytes]) -> None:
        """Take in events in the order of their partition."""
        loads, read, seen, groups, keys = self.loads, self.read, self._seen, self.groups, self._keys
        for text in values:
            try:
                fields = read(loads(text), keys)
            except (ValueError, KeyError, TypeError):
                fields = None
            if fields is None:
                self.rejected += 1
                continue
            identity, at, value = fields
            if identity in seen:
                continue
            seen.add(identity)
            group = groups.get(at)
            if group is None:
                groups[at] = [1, value, value, value]
            else:
                group[0] += 1
                group[1] += value
                if value < group[2]:
                    group[2] = value
                elif value > group[3]:
                    group[3] = value


def arguments() -> tuple[str, str, int, Path]:
    """(bootstrap servers, topic, how many events it holds, where the result goes)."""
    bootstrap, topic, events, result = (a for a in sys.argv[1:] if not a.startswith("--"))
    return bootstrap, topic, int(events), Path(result)


def option(name: str) -> bool:
    """Whether this process was started with that option."""
    return name in sys.argv[1:]


def fold_of(loads: Callable[[bytes], Any]) -> Fold:
    """The fold for the events of the topic: flat ones, or with --nested those of benchmarks.webhooks."""
    return Fold(loads, nested if option("--nested") else flat)


def minute_text(minute: Minute) -> str:
    """A minute as the result has it."""
    return minute if isinstance(minute, str) else f"{datetime.fromtimestamp(60 * minute, UTC):%Y-%m-%dT%H:%M}"


def now() -> tuple[float, float]:
    """(the monotonic clock, which all processes share; the CPU seconds of this process)."""
    return time.monotonic(), time.process_time()


def report(
    first: tuple[float, float], events: int, groups: Groups, result: Path, done: tuple[float, float] | None = None
) -> None:
    """Say how it went, with now() as of the first poll and of the last event; then write the groups, which is not measured."""
    first_poll, first_cpu_s = first
    done_at, done_cpu_s = done or now()
    said = {
        "first_poll": first_poll,
        "first_cpu_s": first_cpu_s,
        "done": done_at,
        "done_cpu_s": done_cpu_s,
        "events": events,
    }
    print(json.dumps(said), flush=True)
    with result.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("key", "minute", "count", "sum", "min", "max"))
        rows.writerows((key, minute_text(minute), *group) for (key, minute), group in groups.items())
