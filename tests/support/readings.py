"""Accepted records made by hand or drawn, to be folded: a column of every type, at offsets 0, 1, 2 ..."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import hypothesis.strategies as st
import pyarrow as pa

from pipeline import (
    Count,
    CountNonNull,
    First,
    Last,
    Max,
    Mean,
    Min,
    Scale,
    Source,
    StdDev,
    Sum,
    Variance,
    View,
    tumbling,
)
from pipeline.accept.accept import clean_schema
from pipeline.base.types import TIME_MAX, TIME_MIN
from pipeline.fold.fold import Folded, sort_states
from pipeline.fold.states import present, state_schema, value_schema

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
US = timedelta(microseconds=1)


@dataclass(frozen=True)
class Reading:
    id: str
    station: str
    at: datetime
    a: Annotated[Decimal | None, Scale(2)]
    b: Annotated[Decimal | None, Scale(2)]
    f: float | None
    n: int | None
    note: str | None
    good: bool | None
    day: date


SOURCE = Source(topic="readings", record=Reading, key="station", event_time="at", identity="id")
AGGREGATES = {
    "rows": Count(),
    "sum": Sum("a"),
    "mean": Mean("a"),
    "variance": Variance("n"),
    "stddev": StdDev("a"),
    "least": Min("f"),
    "greatest": Max("note"),
    "first": First("note"),
    "last": Last("a"),
    "notes": CountNonNull("note"),
}
AT = datetime(2013, 1, 31, 13, 5, tzinfo=UTC)


def view(**changes: Any) -> View:
    given: dict[str, Any] = {
        "name": "v",
        "source": SOURCE,
        "key": ("station",),
        "window": tumbling(hours=1),
        "aggregates": {"rows": Count(), "sum": Sum("a")},
    }
    return View(**given | changes)


def batch(rows: list[dict[str, Any]], partition: int = 0) -> pa.RecordBatch:
    """Accepted records at offsets 0, 1, 2 ..., what is not given being null or plain."""
    plain = {"station": "EWR", "at": AT, "day": date(2013, 1, 31), "_partition": partition, "_timestamp_ms": 0}
    full = [plain | {"id": str(i), "_offset": i} | row for i, row in enumerate(rows)]
    return pa.RecordBatch.from_pylist(full, schema=clean_schema(SOURCE))


def rows_of(view: View, folded: Folded) -> list[dict[str, Any]]:
    """What a user sees, in the order of key and window."""
    folded.states.validate(full=True)
    assert folded.states.schema.equals(state_schema(view))
    values = present(view, sort_states(view, folded.states))
    assert values.schema.equals(value_schema(view))
    return values.to_pylist()


DECIMALS = st.none() | st.integers(1 - 10**18, 10**18 - 1).map(lambda u: Decimal(u).scaleb(-2)) | st.sampled_from(
    [Decimal("0.00"), Decimal("0.01"), Decimal("-1.50"), Decimal("9999999999999999.99")]
)  # fmt: skip
ROW = st.fixed_dictionaries(
    {
        "station": st.sampled_from(["EWR", "JFK", "", "\U0001f327"]),
        "at": st.sampled_from([AT, AT + timedelta(hours=1), EPOCH, EPOCH - US, TIME_MIN, TIME_MAX])
        | st.integers(-(10**7), 10**7).map(lambda s: EPOCH + timedelta(seconds=s)),
        "a": DECIMALS,
        "b": DECIMALS,
        "f": st.none() | st.floats(allow_nan=False, allow_infinity=False).map(lambda v: v + 0.0),
        "n": st.none() | st.sampled_from([-(2**63), -1, 0, 1, 2**53 + 1, 2**63 - 1]) | st.integers(-9, 9),
        "note": st.none() | st.sampled_from(["", "a", "b", "\uffff"]),
        "good": st.none() | st.booleans(),
        "_partition": st.integers(0, 2),
    }
)
ROWS = st.lists(ROW, max_size=30)
