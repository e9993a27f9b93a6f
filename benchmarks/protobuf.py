"""Decoding Protobuf alone, shape by shape: our reader beside the library protobuf's own parser (upb), on one core.

    the library finds the same values of the declared fields in each message        ours to columns, the library to its message objects

"read" is the library and what a consumer does next: taking the declared fields out of each message. The rounds alternate; the best counts.
"""

import argparse
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Annotated, Any

import pyarrow as pa

from benchmarks.measure import BenchmarkError
from benchmarks.report import machine, save, table
from pipeline import At, Protobuf, Scale, Source
from pipeline.decode.protobuf_blocks import decode
from pipeline.decode.schemas import Schema

EVENTS, ROUNDS = 60_000, 9
PROTO = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
message Payment {
  enum State { NEW = 0; DONE = 1; }
  message Customer { string name = 1; message Address { string city = 1; string street = 2; } Address address = 2; }
  message Item { string sku = 1; int32 count = 2; double price = 3; }
  string id = 1;
  string customer = 2;
  google.protobuf.Timestamp at = 3;
  string amount = 4;
  State state = 5;
  int32 n = 6;
  double ratio = 7;
  bool test = 8;
  Customer who = 9;
  repeated Item items = 10;
  repeated int32 marks = 11;
  map<string, string> labels = 12;
  string note = 13;
}
"""


@dataclass(frozen=True)
class Flat:
    """Eight scalars and a time."""

    id: str
    customer: str
    at: datetime
    amount: Annotated[Decimal, Scale(2)]
    state: str
    n: int
    ratio: float
    test: bool


@dataclass(frozen=True)
class Nested(Flat):
    """Values inside of messages and of repeated fields, too."""

    city: Annotated[str | None, At("who.address.city")]
    sku: Annotated[str | None, At("items[0].sku")]
    mark: Annotated[int | None, At("marks[1]")]


class Registry:
    """One schema, under every id."""

    def schema(self, id: int) -> Schema:
        """The schema."""
        return Schema("PROTOBUF", PROTO)


REGISTRY = Registry()
FRAME = b"\0\0\0\0\x07\0"
# name -> (record, what a message has beside the flat fields, whether in the registry's framing)
SHAPES: dict[str, tuple[type, str, bool]] = {
    "flat, 8 fields": (Flat, "", False),
    "flat, in the registry's framing": (Flat, "", True),
    "nested and repeated, undeclared": (Flat, "nested", False),
    "nested and repeated, declared": (Nested, "nested", False),
    "2 kB of undeclared text": (Flat, "text", False),
}


def source(shape: str) -> Source:
    """What a view of such messages would declare."""
    record, _, framed = SHAPES[shape]
    form = Protobuf("shop.Payment") if framed else Protobuf("shop.Payment", PROTO)
    return Source("payments", record, key="customer", event_time="at", identity="id", format=form)


def messages() -> Any:
    """The library's class of a payment."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    pool = DescriptorPool()
    held = Protobuf("shop.Payment", PROTO).schema
    assert isinstance(held, bytes)
    for file in FileDescriptorSet.FromString(held).file:
        pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("shop.Payment"))


def texts(make: Any, more: str, count: int) -> list[bytes]:
    """Messages as the library writes them."""
    found = []
    for n in range(count):
        one = make(
            id=f"e-{n}",
            customer=f"k{n % 1000}",
            amount=f"{n % 10_000 / 100:.2f}",
            state=n % 2,
            n=n,
            ratio=n / 64,
            test=n % 3 == 0,
        )
        one.at.seconds, one.at.nanos = 1_709_251_200 + n, 123_456_789
        if more == "nested":
            one.who.name, one.who.address.city, one.who.address.street = f"name {n}", f"city {n % 50}", "a street"
            for k in range(3):
                one.items.add(sku=f"sku-{n % 700}-{k}", count=k, price=1.25 * k)
            one.marks.extend([n % 100, n % 200, n % 300])
            one.labels["channel"] = "web"
        if more == "text":
            one.note = "x" * 2000
        found.append(one.SerializeToString(deterministic=True))
    return found


def read(make: Any, fields: Sequence[str], value: bytes) -> tuple[Any, ...]:
    """A message's declared fields, as a consumer takes them."""
    one = make.FromString(value)
    found: list[Any] = [
        one.id,
        one.customer,
        one.at.ToDatetime(),
        Decimal(one.amount),
        one.state,
        one.n,
        one.ratio,
        one.test,
    ]
    if len(fields) > len(found):
        found += [one.who.address.city, one.items[0].sku, one.marks[1]]
    return tuple(found)


@dataclass(frozen=True)
class Shape:
    """One shape's figures: thousands of events a second on one core, the best of ROUNDS. `asked`: left to the other parser."""

    shape: str
    bytes: int
    ours_k_per_s: float
    protobuf_k_per_s: float
    protobuf_read_k_per_s: float
    asked: int


def measure(shape: str, count: int = EVENTS, rounds: int = ROUNDS) -> Shape:
    """Decode one shape by both, alternating; BenchmarkError when they do not find the same."""
    _, more, framed = SHAPES[shape]
    make, ours = messages(), source(shape)
    values = texts(make, more, count)
    block = pa.array([(FRAME if framed else b"") + value for value in values], pa.binary())
    fields = [column.name for column in ours.columns]
    decoded = decode(ours, block, REGISTRY)
    compare(shape, [read(make, fields, value) for value in values[:1000]], decoded.columns)
    best = dict.fromkeys(("ours", "protobuf", "read"), float("inf"))
    for _ in range(rounds):
        _time(best, "ours", lambda: decode(ours, block, REGISTRY))
        _time(best, "protobuf", partial(deque, map(make.FromString, values), 0))
        _time(best, "read", partial(deque, map(partial(read, make, fields), values), 0))
    rates = {name: count / seconds / 1000 for name, seconds in best.items()}
    return Shape(shape, sum(map(len, values)) // count, rates["ours"], rates["protobuf"], rates["read"], decoded.asked)


def _time(best: dict[str, float], name: str, run: Callable[[], object]) -> None:
    began_s = time.perf_counter()
    run()
    best[name] = min(best[name], time.perf_counter() - began_s)


def compare(shape: str, events: Sequence[tuple[Any, ...]], columns: dict[str, pa.Array]) -> None:
    """BenchmarkError where the library has other values than our columns."""
    for n, theirs in enumerate(events):
        ours = [column[n].as_py() for column in columns.values()]
        ours[2], ours[4] = ours[2].replace(tzinfo=None), ("NEW", "DONE").index(ours[4])
        if tuple(ours) != theirs:
            raise BenchmarkError(f"{shape}: the library finds {theirs} in event {n}, and we {tuple(ours)}")


def main(given: argparse.Namespace) -> None:
    """Measure, print and store."""
    about = machine()
    rows = [asdict(measure(shape)) for shape in SHAPES]
    note = f"decode alone, one core, best of {ROUNDS}; the same declared values were found by both"
    table(f"Decoding Protobuf by shape, {EVENTS:,} events each", rows, note)
    save(given.out, "protobuf", about, {"events": EVENTS, "rounds": ROUNDS}, {"shapes": rows, "note": note})
