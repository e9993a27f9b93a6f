"""The obvious way to take events over HTTP: FastAPI with a model of pydantic's, and a producer that is given event by event.

`uvicorn benchmarks.peers.push_app:app`, with BOOTSTRAP and TOPIC. An answer comes when all of its events are acknowledged, as ours does.
confluent-kafka where it is installed, else kafka-python.
"""

import asyncio
import importlib.util
import os
import threading
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import BaseModel, Field, StringConstraints


class Event(BaseModel):
    """As benchmarks.views_bench.Event."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    key: Annotated[str, StringConstraints(pattern="^[sp][0-9]{4}$")]
    at: datetime
    value: Annotated[Decimal, Field(ge=-100, le=1000, decimal_places=2)]


TOPIC = os.environ.get("TOPIC", "events")
Sent = Callable[[Any], None]  # the error, or None
app = FastAPI()


def confluent(bootstrap: str) -> Callable[[bytes, bytes, Sent], None]:
    """A function that sends (key, value)."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 1})

    def poll() -> None:
        while True:
            producer.poll(1.0)

    threading.Thread(target=poll, daemon=True).start()
    return lambda key, value, sent: producer.produce(TOPIC, value, key, on_delivery=lambda error, _: sent(error))


def kafka_python(bootstrap: str) -> Callable[[bytes, bytes, Sent], None]:
    """The same."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=1)

    def send(key: bytes, value: bytes, sent: Sent) -> None:
        producer.send(TOPIC, value, key).add_callback(lambda _: sent(None)).add_errback(sent)

    return send


make = confluent if importlib.util.find_spec("confluent_kafka") else kafka_python
send = make(os.environ["BOOTSTRAP"]) if "BOOTSTRAP" in os.environ else None


@app.post("/events")
async def push(events: list[Event] | Event) -> dict[str, Any]:
    """Send, and wait until all are acknowledged."""
    assert send is not None
    chosen = events if isinstance(events, list) else [events]
    loop, done, lock = asyncio.get_running_loop(), asyncio.Event(), threading.Lock()
    left = len(chosen)

    def sent(error: Any) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        if last:
            loop.call_soon_threadsafe(done.set)

    for event in chosen:
        send(event.key.encode(), event.model_dump_json().encode(), sent)
    await done.wait()
    return {"accepted": len(chosen), "refused": []}
