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
    Last,
    Max,
    Mean,
    Nullable,
    Scale,
    Source,
    Sum,
    View,
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
