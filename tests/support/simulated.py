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
    DistinctCount,
    Epoch,
    First,
    Header,
    Last,
    Lookup,
    Max,
    Mean,
    Nullable,
    Precision,
    RecordKey,
    Scale,
    Source,
    Sum,
    Table,
    Validity,
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
class MadeUp:
    """An origin of rows that nobody reads: the simulation makes versions up."""

    name: str

    def describe(self) -> dict[str, str]:
        return {"made_up": self.name}


@dataclass(frozen=True)
class Shop:
    """A shop as it is known now."""

    shop: str
    city: str | None
    rate: Annotated[Decimal, Scale(3), Between(-2, 2)]


@dataclass(frozen=True)
class Tariff:
    """A price for some pieces, valid for a while."""

    pieces: int
    tariff: str
    valid_from: datetime | None
    valid_to: datetime | None


shops = Table(name="shops", origin=MadeUp("shops"), record=Shop, key=("shop",))
tariffs = Table(
    name="tariffs",
    origin=MadeUp("tariffs"),
    record=Tariff,
    key=("pieces",),
    history=Validity("valid_from", "valid_to"),
)
LOOKED_UP = (
    View(
        name="by_city",
        source=sales,
        lookups={"at": Lookup(shops, on={"shop": "shop"})},
        key=("at.city",),
        window=tumbling(hours=1),
        aggregates={"sales": Count(), "turnover": Sum("price"), "rate": Mean("at.rate"), "last_rate": Last("at.rate")},
    ),
    View(
        name="by_tariff",
        source=sales,
        lookups={
            "of": Lookup(tariffs, on={"pieces": "pieces"}, as_of="sold_at", required=True),
            "at": Lookup(shops, on={"shop": "shop"}),
        },
        derive={"due": Derived(pc.field("price") * pc.field("at", "rate"), Scale(4))},
        where=pc.field("at", "city").is_null() | (pc.field("at", "city") != "EWR"),
        key=("of.tariff", "shop"),
        window=tumbling(days=1),
        aggregates={"sales": Count(), "due": Sum("due"), "cities": DistinctCount("at.city")},
    ),
)


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
