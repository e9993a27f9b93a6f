"""Every aggregate of every column that it fits, for views that leave none out."""

from collections.abc import Sequence

from pipeline import Count, CountNonNull, First, Last, Max, Mean, Min, StdDev, Sum, Variance
from pipeline.aggregates import Aggregate


def of_every_kind(columns: Sequence[str], ordered: Sequence[str], numbers: Sequence[str]) -> dict[str, Aggregate]:
    """`events`, and `<column>_<aggregate>` for each column; `ordered` are those with an order, `numbers` those that add up."""
    return {
        "events": Count(),
        **{f"{c}_present": CountNonNull(c) for c in columns},
        **{f"{c}_first": First(c) for c in columns},
        **{f"{c}_last": Last(c) for c in columns},
        **{f"{c}_min": Min(c) for c in ordered},
        **{f"{c}_max": Max(c) for c in ordered},
        **{f"{c}_sum": Sum(c) for c in numbers},
        **{f"{c}_mean": Mean(c) for c in numbers},
        **{f"{c}_variance": Variance(c) for c in numbers},
        **{f"{c}_stddev": StdDev(c) for c in numbers},
    }
