"""Plan of the nights now, as values: the range that the next one takes in, and the steps of earlier ones that are not complete.

undone(night) = the tasks that Luigi would run for it        read from the tasks themselves, so a new step is in the plan at once
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import luigi

from pipeline.base.errors import LogError, Refused
from pipeline.handover import Cut, Vector
from pipeline.log.kafka.log import KafkaLog
from tasks.context import context
from tasks.nightly import FoldView, OfPartition, Publish


@dataclass(frozen=True)
class SourcePlan:
    """One source: [starts, ends) is what cut `next_number` would add; `undone` are steps of the cuts so far, in their order.

    `ends` is None where Kafka does not tell them.
    """

    topic: str
    nights: int
    next_number: int
    starts: Vector
    ends: Vector | None
    undone: Sequence[tuple[Cut, str]]


def plans(kafka_patience_s: float) -> Iterator[SourcePlan]:
    """Every source's plan. Refused as a night would be when its topic is another one.

    What only Kafka knows is left open where it does not answer, and its LogError comes last.
    """
    parts = context()
    log = KafkaLog(parts.settings.kafka_connection(), timeout_s=kafka_patience_s)
    trouble: LogError | None = None
    for topic in parts.topics:
        night, ends = parts.night(topic), None
        night.log = log
        if trouble is None:  # the next topic would wait as long again
            try:
                night.check_topic()
                ends = tuple(log.end_offsets(topic))
            except Refused:
                raise
            except LogError as error:
                trouble = error
        ledger = night.store.ledger(night.generation)
        undone = [
            (cut, step)
            for cut in ledger
            if cut.number and cut.status in ("chosen", "published") and not night.covered(cut.number)
            for step in _undone(Publish(topic, night.generation.number, cut.number))
        ]
        yield SourcePlan(
            topic,
            sum(c.status != "adopted" for c in ledger) - 1,
            ledger[-1].number + 1,
            ledger[-1].offsets,
            ends,
            undone,
        )
    if trouble is not None:
        raise trouble


def _undone(task: luigi.Task, seen: set[str] | None = None) -> Iterator[str]:
    """The incomplete tasks of one night below this one, what they require first, each once."""
    seen = set() if seen is None else seen
    if task.task_id in seen:
        return
    seen.add(task.task_id)
    for needed in luigi.task.flatten(task.requires()):
        if getattr(needed, "number", None) == getattr(task, "number", None):
            yield from _undone(needed, seen)
    if not task.complete():
        yield _named(task)


def _named(task: luigi.Task) -> str:
    name = str(task.get_task_family())
    if isinstance(task, OfPartition):
        return f"{name} partition {task.partition}"
    return f"{name} {task.view}" if isinstance(task, FoldView) else name
