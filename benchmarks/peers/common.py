"""What a peer computes with a dict, and how it reports. The standard library alone: a peer may live in an environment of its own.

valid(event) = the constraints of benchmarks.views_bench, checked as cheaply as Python can for these events
"""

import csv
import json
import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

KEY = re.compile("[sp][0-9]{4}")
Groups = dict[tuple[str, str], list[int]]  # (key, minute) -> count, sum, min, max


class Keys(dict[Any, bool]):
    """Whether a key has the right form, judged once for each."""

    def __missing__(self, key: Any) -> bool:
        self[key] = found = isinstance(key, str) and KEY.fullmatch(key) is not None
        return found


def hundredths_of(event: dict[str, Any], keys: Keys) -> int | None:
    """The value in hundredths, or None when the event breaks a rule; KeyError and TypeError say that too."""
    at, value, identity = event["at"], event["value"], event["id"]
    if not (
        -100 <= value <= 1000 and at[-1] == "Z" and len(at) == 24 and keys[event["key"]] and 1 <= len(identity) <= 64
    ):
        return None
    return round(value * 100)


class Fold:
    """Decode, check, deduplicate, aggregate: one event after another."""

    def __init__(self, loads: Callable[[bytes], Any]) -> None:
        self.loads, self.groups, self.rejected = loads, Groups(), 0
        self._seen: set[str] = set()
        self._keys = Keys()

    def feed(self, values: Iterable[bytes]) -> None:
        """Take in events in the order of their partition."""
        loads, seen, groups, keys = self.loads, self._seen, self.groups, self._keys
        for text in values:
            try:
                event = loads(text)
                value = hundredths_of(event, keys)
            except (ValueError, KeyError, TypeError):
                value = None
            if value is None:
                self.rejected += 1
                continue
            identity = event["id"]
            if identity in seen:
                continue
            seen.add(identity)
            at = event["key"], event["at"][:16]
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
    bootstrap, topic, events, result = sys.argv[1:]
    return bootstrap, topic, int(events), Path(result)


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
        rows.writerows((key, minute, *group) for (key, minute), group in groups.items())
