"""The aggregates: each a commutative monoid with exact equality (pipeline.laws), in Arrow and in SQL."""

from pipeline.aggregates.base import Aggregate
from pipeline.aggregates.counts import Count, CountNonNull
from pipeline.aggregates.extremes import First, Last, Max, Min
from pipeline.aggregates.sketches import DistinctCount, Quantile
from pipeline.aggregates.sums import Mean, StdDev, Sum, Variance

__all__ = [
    "Aggregate",
    "Count",
    "CountNonNull",
    "DistinctCount",
    "First",
    "Last",
    "Max",
    "Mean",
    "Min",
    "Quantile",
    "StdDev",
    "Sum",
    "Variance",
]
