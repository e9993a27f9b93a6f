"""Sends the events: as fast as the broker takes them, or at a steady rate. `python -m benchmarks.produce` is the steady one.

    after send(..., [start, stop)) the log has grown by the events [start, stop) and nothing else; each partition in their order

confluent-kafka where it is installed, else kafka-python, which is some 20 times slower.
"""

import argparse
import importlib.util
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from queue import Queue
from typing import Any

from benchmarks.events import PARTITIONS, RATE_PER_S, Chunk, chunks, key_texts
from benchmarks.measure import BenchmarkError, python
from benchmarks.place import Product
from benchmarks.views_bench import events

Record = tuple[bytes, bytes, int]  # value, key, partition
TICK_S = 0.005
FLUSH_LIMIT_S = 600.0


class Sender:
    """One producer, of whichever client is there; errors show at flush()."""

    def __init__(self, bootstrap: str, topic: str = events.topic, *, codec: str = "none", linger_ms: int = 20) -> None:
        self.topic, self._failed = topic, []  # type: ignore[var-annotated]
        self._send: Callable[[bytes, bytes, int], Any]
        self._finish: Callable[[], Any]
        if importlib.util.find_spec("confluent_kafka"):
            self._confluent(bootstrap, codec, linger_ms)
        else:
            self._kafka_python(bootstrap, codec, linger_ms)

    def _confluent(self, bootstrap: str, codec: str, linger_ms: int) -> None:
        from confluent_kafka import Producer

        producer = Producer({
            "bootstrap.servers": bootstrap,
            "compression.codec": codec,
            "linger.ms": linger_ms,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": 262_144,
            "delivery.report.only.error": True,
            "enable.idempotence": True,
            "log_level": 2,
            "on_delivery": lambda error, message: self._failed.append(error),
        })  # fmt: skip

        def send(value: bytes, key: bytes, partition: int) -> None:
            while True:
                try:
                    producer.produce(self.topic, value, key, partition)
                    return
                except BufferError:
                    producer.poll(0.05)

        self._send, self._finish = send, lambda: producer.flush(FLUSH_LIMIT_S)

    def _kafka_python(self, bootstrap: str, codec: str, linger_ms: int) -> None:
        from kafka import KafkaProducer

        kind = None if codec == "none" else codec
        producer = KafkaProducer(
            bootstrap_servers=bootstrap, compression_type=kind, linger_ms=linger_ms, batch_size=2**17, acks="all"
        )

        def send(value: bytes, key: bytes, partition: int) -> None:
            producer.send(self.topic, value=value, key=key, partition=partition).add_errback(self._failed.append)

        self._send, self._finish = send, lambda: producer.flush(FLUSH_LIMIT_S)

    def send(self, records: Iterator[Record]) -> int:
        """Hand over records; how many."""
        count, send = 0, self._send
        for value, key, partition in records:
            send(value, key, partition)
            count += 1
        return count

    def flush(self) -> None:
        """Wait until the broker has all; BenchmarkError when it has not."""
        left = self._finish()
        if left or self._failed:
            raise BenchmarkError(
                f"topic {self.topic}: events could not be sent: {self._failed[:1] or f'{left} are left'}"
            )


def records(chunk: Chunk, partitions: int = PARTITIONS) -> Iterator[Record]:
    """What is sent for a chunk; a key's events in one partition."""
    keys = key_texts()
    yield from zip(
        chunk.values.to_pylist(), (keys[k] for k in chunk.key.tolist()), (chunk.key % partitions).tolist(), strict=True
    )


def send(
    bootstrap: str,
    seed: int,
    stop: int,
    *,
    topic: str = events.topic,
    codec: str = "none",
    partitions: int = PARTITIONS,
    **what: Any,
) -> float:
    """Send events [start, stop) as fast as it goes, `what` being further arguments of chunks(); the seconds it took."""
    began, sender = time.monotonic(), Sender(bootstrap, topic, codec=codec)
    for chunk in chunks(seed, stop, **what):
        sender.send(records(chunk, partitions))
    sender.flush()
    return time.monotonic() - began


def steady(bootstrap: str, seed: int, rate_per_s: int, done: threading.Event, start: int = 0) -> int:
    """Send at a rate until `done`: as many in each tick as the clock demands; rate 0 is as fast as it goes. How many were sent."""
    made: Queue[Chunk] = Queue(maxsize=2)

    def make() -> None:
        for chunk in chunks(seed, 2**40, start=start, rate_per_s=rate_per_s or RATE_PER_S):
            made.put(chunk)

    threading.Thread(target=make, daemon=True).start()
    sender = Sender(bootstrap, linger_ms=5)
    made_records = (record for chunk in iter(made.get, None) for record in records(chunk))
    count = sender.send(islice(made_records, 1))
    began = time.monotonic()
    while not done.wait(TICK_S if rate_per_s else 0):
        due = int((time.monotonic() - began) * rate_per_s) - count if rate_per_s else 1000
        count += sender.send(islice(made_records, max(0, due)))
    sender.flush()
    return count


def feeding(product: Product, seed: int, rate_per_s: int) -> list[str]:
    """The command of a process that sends at a rate, 0 for as fast as it goes, until SIGTERM; it says {"sent": n}."""
    return python("benchmarks.produce", product.kafka, "--seed", str(seed), "--rate", str(rate_per_s))


def main() -> None:
    """Send until SIGTERM, then say how many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--start", type=int, default=0)
    given = parser.parse_args()
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: done.set())
    count = steady(given.bootstrap, given.seed, given.rate, done, given.start)
    print(f'{{"sent": {count}}}', flush=True)


if __name__ == "__main__":
    main()
