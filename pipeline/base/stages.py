"""Time of this process, by stage of the way from a record to its answer.

    spent_s(stage) = Σ of the time between entering and leaving it, over all threads        records(stage) = Σ of what went through it

A stage inside another counts in both: parse_singly, for records that the compiled parser leaves to the other one, is inside parse.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("fetch", "parse", "parse_singly", "validate", "dedupe", "fold", "merge", "commit")
_lock = threading.Lock()
_spent_s = dict.fromkeys(STAGES, 0.0)
_records = dict.fromkeys(STAGES, 0)


@contextmanager
def stage(name: str, records: int = 0) -> Iterator[None]:
    """Count the time of the block as this stage's, and `records` that went through; KeyError for a name that is none of STAGES."""
    began = time.perf_counter()
    try:
        yield
    finally:
        note(name, time.perf_counter() - began, records)


def note(name: str, took_s: float, records: int = 0) -> None:
    """Count time that was measured elsewhere."""
    with _lock:
        _spent_s[name] += took_s
        _records[name] += records


def totals() -> dict[str, tuple[float, int]]:
    """By stage: seconds spent, and records that went through, since the process began."""
    with _lock:
        return {name: (_spent_s[name], _records[name]) for name in STAGES}


__all__ = ["STAGES", "note", "stage", "totals"]
