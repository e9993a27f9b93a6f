"""The way in: origins, and their rows as typed records; samples of events, their profile, and the first module drafted from it.

    origin -> rows -> typed records        sample -> profile -> draft: it is checked by the layers' own decoder before it is written

Everything public is named here; a name's module is imported when the name is first asked for. Imports serving and pipeline alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingestion.origins.avro import AvroFile
    from ingestion.origins.csv import Csv
    from ingestion.origins.excel import Excel
    from ingestion.origins.files import Files
    from ingestion.origins.fixed_width import FixedWidth
    from ingestion.origins.json import JsonArray, JsonLines
    from ingestion.origins.parquet import Parquet
    from ingestion.origins.xml import Xml

HOMES = {
    "ingestion.origins.avro": ("AvroFile",),
    "ingestion.origins.csv": ("Csv",),
    "ingestion.origins.excel": ("Excel",),
    "ingestion.origins.files": ("Files",),
    "ingestion.origins.fixed_width": ("FixedWidth",),
    "ingestion.origins.json": ("JsonArray", "JsonLines"),
    "ingestion.origins.parquet": ("Parquet",),
    "ingestion.origins.xml": ("Xml",),
}
_HOME = {name: module for module, names in HOMES.items() for name in names}

__all__ = ["AvroFile", "Csv", "Excel", "Files", "FixedWidth", "JsonArray", "JsonLines", "Parquet", "Xml"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOME[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
