"""`watershed rollback` and `watershed purge`: what they do is serving's and tasks.night.purge's; here is what they say.

Invariant: a command that changed nothing says so, and one that is refused has changed nothing.
"""

from collections.abc import Callable

from pipeline.base.errors import Refused, WatershedError, did_you_mean
from serving.answers import status
from serving.stores.operator import PostgresOperatorStore
from tasks.context import Context, context
from tasks.night import purge as purging

Say = Callable[[str], None]


def rollback(topic: str | None, say: Say) -> None:
    """Undo the last publish of a topic, and say how far its answers go now."""
    parts = context()
    topic = _one_topic(parts, topic)
    generation = parts.night(topic).generation
    cut = PostgresOperatorStore(parts.engine, parts.views, crash=parts.crash).rollback(generation)
    undone = max((c for c in parts.store.ledger(generation) if c.status == "withdrawn"), key=lambda c: c.number)
    say(f"{topic}: batch {undone.number} (night {undone.date}) is withdrawn; batch {cut.number} is visible again, cut {list(cut.offsets)}")
    for p in (p for p in status(parts.engine).partitions if p.topic == topic):
        behind = undone.offsets[p.partition] - p.position
        note = f", {behind:,} offsets behind the withdrawn cut: workers read them again" if behind > 0 else ""
        say(f"  partition {p.partition}: exact up to position {p.position:,}{note}")
    say(f"its night {undone.date} will not run again; the next night of another date covers everything")


def purge(keep: int, say: Say) -> None:
    """Purge every topic; all are tried, and the first that failed is raised."""
    parts = context()
    failed: WatershedError | None = None
    for topic in parts.topics:
        try:
            say(str(purging.purge(parts, topic, keep)))
        except WatershedError as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _one_topic(parts: Context, topic: str | None) -> str:
    known = parts.topics
    if topic is None and len(known) == 1:
        return known[0]
    if topic is None:
        raise Refused(f"there are several topics: say which, `watershed rollback TOPIC`, one of {', '.join(known)}")
    if topic not in known:
        raise Refused(f"there is no topic {topic!r}; there are {', '.join(known)}.{did_you_mean(topic, known)}")
    return topic
