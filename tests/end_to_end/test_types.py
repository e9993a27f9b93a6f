"""Every type of column through the whole system, as column, key, identity and aggregate: both audits find nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pipeline.definition.source import Source
from simulation.events import events
from tests.support.system import System

VIEWS = '''
import enum
from dataclasses import dataclass
from datetime import datetime, time
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

import pyarrow.compute as pc

from pipeline import *


class Side(enum.StrEnum):
    BUY = "buy"
    SELL = "sell"


@dataclass(frozen=True)
class Trade:
    """A trade of an exchange of tokens, as its partners send it."""

    id: UUID
    nonce: Annotated[bytes, Length(1, 64)]
    venue: Annotated[str, Text(strip="\\x00", trim=True, case="upper", form="NFKC"), OneOf("A", "B", "EWR", "X Y")]
    traded_at: datetime
    amount: Annotated[Decimal | None, Precision(38, 18)]
    rate: Annotated[Decimal, Precision(37, 36), Between(-1, 1), Clip()]
    fee: Annotated[Decimal | None, Precision(20, 2), FromText(), Nullable()]
    side: Annotated[Side, Default(Side.BUY)]
    kind: Annotated[Literal["limit", "market"] | None, Nullable()]
    account: UUID | None
    payload: bytes | None
    opens: Annotated[time | None, Between(time(0, 0, 1)), Nullable()]
    pieces: Annotated[int | None, FromText()]
    weight: Annotated[float | None, FromText()]
    paid: Annotated[Decimal | None, Scale(2), FromText()]
    settled: Annotated[bool | None, FromText()]


trades = Source(topic={topic!r}, record=Trade, key="venue", event_time="traded_at", identity=("id", "nonce", "venue"))
COLUMNS = ("amount", "rate", "fee", "side", "kind", "account", "payload", "opens", "pieces", "weight", "paid", "settled")
NUMBERS = ("amount", "rate", "fee", "pieces", "paid")
EVERY = {{f"{{c}}_{{a.__name__.lower()}}": a(c) for c in COLUMNS for a in (CountNonNull, First, Last)}}
EVERY |= {{f"{{c}}_{{a.__name__.lower()}}": a(c) for c in COLUMNS for a in (Min, Max) if c != "settled"}}
EVERY |= {{f"{{c}}_distinct": DistinctCount(c) for c in COLUMNS if c != "weight"}}
EVERY |= {{f"{{c}}_{{a.__name__.lower()}}": a(c) for c in NUMBERS for a in (Sum, Mean, Variance, StdDev, Quantile)}}
by_venue = View(name="by_venue", source=trades, key=("venue",), window=tumbling(days=1), aggregates={{"n": Count(), **EVERY}})
by_side = View(
    name="by_side", source=trades, key=("side", "id"), window=tumbling(hours=1), aggregates={{"n": Count(), "amount": Sum("amount")}},
    where=pc.field("amount").is_null() | (pc.field("amount") < 1e15),
)
by_nonce = View(
    name="by_nonce", source=trades, key=("nonce", "rate"), window=tumbling(hours=1), aggregates={{"last": Last("payload")}},
    derive={{"half": Derived(pc.field("amount") / 2, Scale(2))}}, where=pc.field("opens").is_valid(),
)
by_nulls = View(
    name="by_nulls", source=trades, key=("account", "amount", "opens", "payload"), window=tumbling(days=1), aggregates={{"n": Count()}},
)
VIEWS = (by_venue, by_side, by_nonce, by_nulls)
'''


def source_of(module: str) -> Source:
    names: dict[str, Any] = {"__name__": __name__}
    exec(compile(module, "own_views", "exec", dont_inherit=True), names)
    found: Source = names["trades"]
    return found


def made(source: Source, logs: int) -> list[tuple[int, bytes | None, bytes | None]]:
    """Records of so many logs, each with few identities of its own."""
    found: list[tuple[int, bytes | None, bytes | None]] = []
    for log in range(logs):
        for number, part in enumerate(events(source, random.Random(log), 2, 40)):
            for _, _, key, value, *_ in part.records:
                own = value and value.replace(b"-0000-0000-0000-000000000000", b"-%04x-0000-0000-000000000000" % log)
                found.append((number, key or b"-", own))
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_type_stays_exact_through_a_night_a_worker_and_the_reference(system: System) -> None:
    module = VIEWS.format(topic=system.topic)
    system.define(module)
    system.run("init", "--partitions", "2")
    values = made(source_of(module), 60)
    system.produce(values[: len(values) // 2])
    system.night("2013-01-02")
    system.produce(values[len(values) // 2 :])
    system.catch_up()
    system.assert_exact()
    system.night("2013-01-03")
    system.assert_exact()
    (row,) = system.query(
        "SELECT sum(accepted) AS good, sum(duplicates) AS twice, sum(rejected) AS bad FROM serving.accounting"
    )
    assert row["good"] > 100 and row["twice"] > 50 and row["bad"] > 20, row
    (row,) = system.query(
        "SELECT pg_typeof(account_last)::text AS uuid, pg_typeof(payload_min)::text AS bytes, pg_typeof(opens_max)::text AS time"
        " FROM serving.by_venue LIMIT 1"
    )
    assert row == {"uuid": "uuid", "bytes": "bytea", "time": "time without time zone"}
    (row,) = system.query(
        "SELECT count(*) AS n FROM serving.by_nulls WHERE account IS NULL AND opens IS NULL AND amount IS NOT NULL"
    )
    assert row["n"] > 0
    assert not system.query("SELECT venue FROM serving.by_venue WHERE venue NOT IN ('A', 'B', 'EWR', 'X Y')")
