"""The aggregates: each a commutative monoid with exact equality (pipeline.laws), in Arrow and in SQL."""

from pipeline.aggregates.base import Aggregate
from pipeline.aggregates.counts import Count, CountNonNull
from pipeline.aggregates.extremes import First, Last, Max, Min
from pipeline.aggregates.sums import Mean, StdDev, Sum, Variance

__all__ = ["Aggregate", "Count", "CountNonNull", "First", "Last", "Max", "Mean", "Min", "StdDev", "Sum", "Variance"]
