"""The aggregates: each a commutative monoid with exact equality (pipeline.laws), in Arrow and in SQL, and the parts of one of your own."""

from pipeline.aggregates.base import Aggregate, Measure, Rows, State, StateField
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
    "Measure",
    "Min",
    "Quantile",
    "Rows",
    "State",
    "StateField",
    "StdDev",
    "Sum",
    "Variance",
]
