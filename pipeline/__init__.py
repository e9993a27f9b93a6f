"""Watershed's definitions: one value says what both layers compute.

    batch(view) ⊕ speed(view) = f(log[0, position))

Everything public is named here; other modules of this package are the layers' own. A name's module is imported when
the name is first asked for, so that a command that needs none of them starts at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.aggregates import (
        Count,
        CountNonNull,
        DistinctCount,
        First,
        Last,
        Max,
        Mean,
        Min,
        Quantile,
        StdDev,
        Sum,
        Variance,
    )
    from pipeline.definition.constraints import (
        Between,
        Clip,
        Default,
        Length,
        Nullable,
        OneOf,
        Pattern,
        Precision,
        Scale,
    )
    from pipeline.definition.debezium import Debezium
    from pipeline.definition.derived import Derived
    from pipeline.definition.formats import Avro, Json, Protobuf
    from pipeline.definition.lookup import Lookup
    from pipeline.definition.marks import At, Epoch, FromText, Header, Lenient, RecordKey, RecordTime, Text, Zone
    from pipeline.definition.source import Source
    from pipeline.definition.table import (
        Append,
        Full,
        Incremental,
        Merge,
        References,
        RowCount,
        Snapshot,
        Table,
        Validity,
    )
    from pipeline.definition.view import View
    from pipeline.definition.window import tumbling

HOMES = {
    "pipeline.aggregates": (
        *("Count", "CountNonNull", "DistinctCount", "First", "Last", "Max", "Mean", "Min", "Quantile", "StdDev", "Sum"),
        "Variance",
    ),
    "pipeline.definition.constraints": (
        "Between",
        "Clip",
        "Default",
        "Length",
        "Nullable",
        "OneOf",
        "Pattern",
        "Precision",
        "Scale",
    ),
    "pipeline.definition.debezium": ("Debezium",),
    "pipeline.definition.derived": ("Derived",),
    "pipeline.definition.formats": ("Avro", "Json", "Protobuf"),
    "pipeline.definition.marks": (
        "At",
        "Epoch",
        "FromText",
        "Header",
        "Lenient",
        "RecordKey",
        "RecordTime",
        "Text",
        "Zone",
    ),
    "pipeline.definition.lookup": ("Lookup",),
    "pipeline.definition.source": ("Source",),
    "pipeline.definition.table": (
        "Append",
        "Full",
        "Incremental",
        "Merge",
        "References",
        "RowCount",
        "Snapshot",
        "Table",
        "Validity",
    ),
    "pipeline.definition.view": ("View",),
    "pipeline.definition.window": ("tumbling",),
}
_HOME = {name: module for module, names in HOMES.items() for name in names}

__all__ = [
    "Append",
    "At",
    "Avro",
    "Between",
    "Clip",
    "Count",
    "CountNonNull",
    "Debezium",
    "Default",
    "Derived",
    "DistinctCount",
    "Epoch",
    "First",
    "FromText",
    "Full",
    "Header",
    "Incremental",
    "Json",
    "Last",
    "Length",
    "Lenient",
    "Lookup",
    "Max",
    "Mean",
    "Merge",
    "Min",
    "Nullable",
    "OneOf",
    "Pattern",
    "Precision",
    "Protobuf",
    "Quantile",
    "RecordKey",
    "RecordTime",
    "References",
    "RowCount",
    "Scale",
    "Snapshot",
    "Source",
    "StdDev",
    "Sum",
    "Table",
    "Text",
    "Validity",
    "Variance",
    "View",
    "Zone",
    "tumbling",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOME[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
