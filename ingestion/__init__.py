"""The way in: origins, and their rows as typed records; loads of them; samples of events, and the first module drafted from one.

    origin -> rows -> typed records        sample -> profile -> draft: it is checked by the layers' own decoder before it is written

Imports serving and pipeline alone. What a user declares is named here; a name's module is imported when the name is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingestion.feed import Feed
    from ingestion.origins.avro import AvroFile
    from ingestion.origins.csv import Csv
    from ingestion.origins.custom import Custom
    from ingestion.origins.excel import Excel
    from ingestion.origins.files import Files
    from ingestion.origins.fixed_width import FixedWidth
    from ingestion.origins.html import HtmlRows, HtmlTable
    from ingestion.origins.json import JsonArray, JsonLines
    from ingestion.origins.mongo import Mongo
    from ingestion.origins.parquet import Parquet
    from ingestion.origins.rest import Children, Rest
    from ingestion.origins.rest_auth import ApiKey, Basic, Bearer, OAuth
    from ingestion.origins.rest_paging import Cursor, LinkHeader, NextUrl, Offset, PageNumber
    from ingestion.origins.sql import Sql
    from ingestion.origins.topic import Topic
    from ingestion.origins.xml import Xml

HOMES = {
    "ingestion.feed": ("Feed",),
    "ingestion.origins.avro": ("AvroFile",),
    "ingestion.origins.csv": ("Csv",),
    "ingestion.origins.custom": ("Custom",),
    "ingestion.origins.excel": ("Excel",),
    "ingestion.origins.files": ("Files",),
    "ingestion.origins.fixed_width": ("FixedWidth",),
    "ingestion.origins.html": (
        "HtmlRows",
        "HtmlTable",
    ),
    "ingestion.origins.json": (
        "JsonArray",
        "JsonLines",
    ),
    "ingestion.origins.mongo": ("Mongo",),
    "ingestion.origins.parquet": ("Parquet",),
    "ingestion.origins.rest": (
        "Children",
        "Rest",
    ),
    "ingestion.origins.rest_auth": (
        "ApiKey",
        "Basic",
        "Bearer",
        "OAuth",
    ),
    "ingestion.origins.rest_paging": (
        "Cursor",
        "LinkHeader",
        "NextUrl",
        "Offset",
        "PageNumber",
    ),
    "ingestion.origins.sql": ("Sql",),
    "ingestion.origins.topic": ("Topic",),
    "ingestion.origins.xml": ("Xml",),
}
_HOME = {name: module for module, names in HOMES.items() for name in names}
__all__ = [
    "ApiKey",
    "AvroFile",
    "Basic",
    "Bearer",
    "Children",
    "Csv",
    "Cursor",
    "Custom",
    "Excel",
    "Feed",
    "Files",
    "FixedWidth",
    "HtmlRows",
    "HtmlTable",
    "JsonArray",
    "JsonLines",
    "LinkHeader",
    "Mongo",
    "NextUrl",
    "OAuth",
    "Offset",
    "PageNumber",
    "Parquet",
    "Rest",
    "Sql",
    "Topic",
    "Xml",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOME[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
