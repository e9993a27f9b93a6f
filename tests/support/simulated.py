"""Views for the simulation: small nested records that decode fast, groups that span partitions, every kind of merge."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated

import pyarrow.compute as pc

from pipeline import (
    At,
    Between,
    Count,
    Derived,
    Epoch,
    First,
    Header,
    Last,
    Max,
    Mean,
    Nullable,
    Precision,
    RecordKey,
    Scale,
    Source,
    Sum,
    View,
    Zone,
    tumbling,
)


@dataclass(frozen=True)
class Sale:
    """One sale of a shop."""

    id: str
    shop: Annotated[str, At("shop.name")]
    sold_at: Annotated[datetime, At("sale.at"), Epoch("s")]
    price: Annotated[Decimal | None, Scale(2), Between(-5, 500), Nullable()]
    pieces: Annotated[int, At("sale.lines[1]")]


sales = Source(
    topic="sales", record=Sale, key="shop", event_time="sold_at", identity="id", identity_horizon=timedelta(seconds=30)
)
by_shop = View(
    name="by_shop",
    source=sales,
    key=("shop",),
    window=tumbling(hours=1),
    aggregates={"sales": Count(), "turnover": Sum("price"), "last_price": Last("price")},
)
by_size = View(
    name="by_size",
    source=sales,
    derive={
        "each": Derived(pc.field("price") / pc.field("pieces"), Scale(4)),
        "large": Derived(pc.field("pieces") > 10, bool),
    },
    where=pc.field("pieces") != 7,
    key=("large",),
    window=tumbling(days=1),
    aggregates={"sales": Count(), "mean_each": Mean("each"), "first": First("each"), "most": Max("pieces")},
)
VIEWS = (by_shop, by_size)


@dataclass(frozen=True)
class Line:
    """A line of an order: a row for each element, a wide decimal, and what stands around the event."""

    order: str
    shop: Annotated[str, RecordKey()]
    ordered_at: Annotated[datetime, At("sale.at"), Zone("Europe/Berlin")]
    channel: Annotated[str | None, Header("channel")]
    sku: Annotated[str | None, At("lines[].item.sku")]
    amount: Annotated[Decimal | None, At("lines[].amount"), Precision(30, 12), Between(-5, 500), Nullable()]


lines = Source(
    topic="orders",
    record=Line,
    key="shop",
    event_time="ordered_at",
    identity=("shop", "order"),
    identity_horizon=timedelta(seconds=30),
    explode="lines",
)
EXPLODED = (
    View(
        name="by_sku",
        source=lines,
        key=("sku", "channel"),
        window=tumbling(hours=1),
        aggregates={"lines": Count(), "turnover": Sum("amount"), "first": First("amount"), "last": Last("amount")},
    ),
    View(
        name="by_shop_and_day",
        source=lines,
        where=pc.field("sku") != "a",
        key=("shop",),
        window=tumbling(days=1),
        aggregates={"lines": Count(), "most": Max("amount"), "mean": Mean("amount"), "last_sku": Last("sku")},
    ),
)
