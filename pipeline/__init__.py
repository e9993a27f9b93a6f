"""Watershed's definitions: one value says what both layers compute.

    batch(view) ⊕ speed(view) = f(log[0, position))

Everything public is named here; other modules of this package are the layers' own.
"""

from pipeline.aggregates import Count, CountNonNull, DistinctCount, First, Last, Max, Mean, Min, Quantile, StdDev, Sum, Variance
from pipeline.definition.constraints import Between, Clip, Default, Length, Nullable, OneOf, Pattern, Scale
from pipeline.definition.derived import Derived
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.definition.window import tumbling

__all__ = [
    "Between",
    "Clip",
    "Count",
    "CountNonNull",
    "Default",
    "Derived",
    "DistinctCount",
    "First",
    "Last",
    "Length",
    "Max",
    "Mean",
    "Min",
    "Nullable",
    "OneOf",
    "Pattern",
    "Quantile",
    "Scale",
    "Source",
    "StdDev",
    "Sum",
    "Variance",
    "View",
    "tumbling",
]
