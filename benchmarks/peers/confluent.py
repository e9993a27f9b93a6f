"""confluent-kafka + orjson + dict: the fastest way to write it by hand in Python, tuned; with --consume-only, the limit of any of them.

result = groups of events [0, EVENTS), see benchmarks.peers; consume-only: none        --nested: events of benchmarks.webhooks
"""

from collections.abc import Iterator
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from benchmarks.peers.common import arguments, fold_of, now, option, report

BATCH = 10_000
SETTINGS: dict[str, Any] = {
    "group.id": "bench",
    "enable.auto.commit": False,
    "isolation.level": "read_committed",
    "check.crcs": False,
    "queued.min.messages": 1_000_000,
    "fetch.queue.backoff.ms": 5,
}


def batches(bootstrap: str, topic: str, events: int) -> Iterator[list[Any]]:
    """The topic's first `events` messages; the consumer is let go at the end."""
    consumer = Consumer({"bootstrap.servers": bootstrap, **SETTINGS})
    partitions = sorted(consumer.list_topics(topic, 30).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
    read = 0
    while read < events:
        batch = consumer.consume(min(BATCH, events - read), 1.0)
        failed = [m.error() for m in batch if m.error() is not None]
        if failed:
            raise RuntimeError(f"{topic}: {failed[0]}")
        read += len(batch)
        yield batch
    consumer.close()


def main() -> None:
    bootstrap, topic, events, result = arguments()
    first, read = now(), 0
    if option("--consume-only"):
        for batch in batches(bootstrap, topic, events):
            read += len(batch)
        report(first, read, {}, result)
        return
    import orjson

    fold = fold_of(orjson.loads)
    for batch in batches(bootstrap, topic, events):
        fold.feed([m.value() for m in batch])
        read += len(batch)
    report(first, read, fold.groups, result)


if __name__ == "__main__":
    main()
