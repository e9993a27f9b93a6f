"""Bytewax: a KafkaSource, a map that checks, a filter that deduplicates, and its own tumbling windows.

result = groups of the whole topic, see benchmarks.peers; the windows close at its end
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators import windowing as win
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main
from confluent_kafka import OFFSET_BEGINNING

from benchmarks.peers.common import Groups, Keys, arguments, flat, now, report

GROUPS: Groups = {}
ORIGIN = datetime(2026, 1, 1, tzinfo=UTC)
Timed = tuple[datetime, int]


class _Into(StatelessSinkPartition[Any]):
    def write_batch(self, items: list[Any]) -> None:
        for key, (window, group) in items:
            minute = (ORIGIN + window * timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M")
            GROUPS[key, minute] = group


class Into(DynamicSink[Any]):
    """A dict instead of a database."""

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Into:
        return _Into()


def flow(bootstrap: str, topic: str) -> Dataflow:
    """The dataflow; events are late by event time, never by the clock of this machine, so none is dropped."""
    keys, seen = Keys(), set[str]()

    def checked(message: Any) -> tuple[str, Timed] | None:
        if not isinstance(message, KafkaSourceMessage):
            raise RuntimeError(f"{topic}: {message}")
        try:
            event = orjson.loads(message.value)
            fields = flat(event, keys)
        except (ValueError, KeyError, TypeError):
            return None
        if fields is None or fields[0] in seen:
            return None
        seen.add(fields[0])
        return event["key"], (datetime.fromisoformat(event["at"]), fields[2])

    def add(group: list[int], timed: Timed) -> list[int]:
        value = timed[1]
        if not group:
            return [1, value, value, value]
        return [group[0] + 1, group[1] + value, min(group[2], value), max(group[3], value)]

    def merge(one: list[int], other: list[int]) -> list[int]:
        if not one or not other:
            return one or other
        return [one[0] + other[0], one[1] + other[1], min(one[2], other[2]), max(one[3], other[3])]

    made = Dataflow("bench")
    source = KafkaSource([bootstrap], [topic], tail=False, starting_offset=OFFSET_BEGINNING, batch_size=10_000)
    keyed = op.filter_map("checked", op.input("kafka", made, source), checked)
    clock: Any = win.EventClock(ts_getter=lambda timed: timed[0], wait_for_system_duration=timedelta(minutes=10))
    windower = win.TumblingWindower(length=timedelta(minutes=1), align_to=ORIGIN)
    folded = win.fold_window("minutes", keyed, clock, windower, list, add, merge)
    op.output("out", folded.down, Into())
    return made


def main() -> None:
    bootstrap, topic, events, result = arguments()
    first = now()
    run_main(flow(bootstrap, topic))
    report(first, events, GROUPS, result)


if __name__ == "__main__":
    main()
