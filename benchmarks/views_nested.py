"""The view `minutes` of benchmarks.views_bench over nested events: the same columns, at paths.

benchmarks.events.expected(n) = its rows over the first n events of benchmarks.webhooks        BENCH_IDENTITY: as in benchmarks.views_growth
"""

import os
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from benchmarks.views_bench import events
from benchmarks.views_bench import minutes as flat_minutes
from pipeline import At, Between, Epoch, Length, Pattern, Scale


@dataclass(frozen=True)
class Push:
    """A push to a repository, and what computing it has cost."""

    id: Annotated[str, At("delivery.id"), Length(1, 64)]
    key: Annotated[str, At("repository.name"), Length(5, 5), Pattern("[sp][0-9]{4}")]
    at: Annotated[datetime, At("repository.pushedAt"), Epoch("s")]
    value: Annotated[Decimal, At("usage.compute.amount"), Scale(2), Between(-100, 1000)]


pushes = replace(events, record=Push, identity=os.environ.get("BENCH_IDENTITY", "id") or None)
minutes = replace(flat_minutes, source=pushes)
VIEWS = (minutes,)
