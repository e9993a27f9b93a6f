"""The way in: samples of events, their profile, and the first module drafted from it; origins, later feeds and loads.

    sample -> profile -> draft        a draft is checked by the layers' own decoder before it is written

Imports serving and pipeline alone. What a user declares is named here; a name's module is imported when the name is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingestion.feed import Feed
    from ingestion.origins.custom import Custom
    from ingestion.origins.html import HtmlRows, HtmlTable
    from ingestion.origins.mongo import Mongo
    from ingestion.origins.rest import Children, Rest
    from ingestion.origins.rest_auth import ApiKey, Basic, Bearer, OAuth
    from ingestion.origins.rest_paging import Cursor, LinkHeader, NextUrl, Offset, PageNumber
    from ingestion.origins.sql import Sql
    from ingestion.origins.topic import Topic

HOMES = {
    "ingestion.feed": ("Feed",),
    "ingestion.origins.custom": ("Custom",),
    "ingestion.origins.html": ("HtmlRows", "HtmlTable"),
    "ingestion.origins.mongo": ("Mongo",),
    "ingestion.origins.rest": ("Children", "Rest"),
    "ingestion.origins.rest_auth": ("ApiKey", "Basic", "Bearer", "OAuth"),
    "ingestion.origins.rest_paging": ("Cursor", "LinkHeader", "NextUrl", "Offset", "PageNumber"),
    "ingestion.origins.sql": ("Sql",),
    "ingestion.origins.topic": ("Topic",),
}
_HOME = {name: module for module, names in HOMES.items() for name in names}
__all__ = [
    "ApiKey",
    "Basic",
    "Bearer",
    "Children",
    "Cursor",
    "Custom",
    "Feed",
    "HtmlRows",
    "HtmlTable",
    "LinkHeader",
    "Mongo",
    "NextUrl",
    "OAuth",
    "Offset",
    "PageNumber",
    "Rest",
    "Sql",
    "Topic",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOME[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
