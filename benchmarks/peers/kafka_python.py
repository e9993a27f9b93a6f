"""kafka-python + json + dict: what a Python program does that has installed nothing else.

result = groups of events [0, EVENTS), see benchmarks.peers        --nested: events of benchmarks.webhooks
"""

import json

from kafka import KafkaConsumer, TopicPartition

from benchmarks.peers.common import arguments, fold_of, now, report


def main() -> None:
    bootstrap, topic, events, result = arguments()
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_poll_records=10_000,
        max_partition_fetch_bytes=4 * 2**20,
    )
    partitions = sorted(consumer.partitions_for_topic(topic))
    consumer.assign([TopicPartition(topic, p) for p in partitions])
    consumer.seek_to_beginning()
    fold, read, first = fold_of(json.loads), 0, now()
    while read < events:
        for records in consumer.poll(timeout_ms=1000).values():
            fold.feed([record.value for record in records])
            read += len(records)
    report(first, read, fold.groups, result)
    consumer.close()


if __name__ == "__main__":
    main()
