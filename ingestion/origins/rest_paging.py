"""Ways in which an API gives a long list in pages.

    pages(list) = first, after(first), after(after(first)), ... until after gives none        each request is made once, or it is refused

A page that is shorter than asked ends nothing (servers clamp sizes); an empty one does, or a count of all rows that is reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

from ingestion.origins.declaring import at_least, is_text
from pipeline.base.declared import Declared
from pipeline.base.errors import OriginError

ABSENT = object()


@dataclass(frozen=True)
class Request:
    """A page to ask for."""

    url: str
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """A page that was had: its parsed body, its rows, its links; `given` counts the rows with those of the pages before."""

    request: Request
    url: str
    body: Any
    rows: Sequence[Any]
    links: Mapping[str, str]
    given: int
    number: int


@dataclass(frozen=True)
class PageNumber(metaclass=Declared):
    """`?page=1`, `?page=2`, ... until a page is empty, or `total` (a path in the answer, `meta.total`) rows were given.

    `size` is asked for by the parameter `size_param`, where the API has one.
    """

    param: str = "page"
    first: int = 1
    size: int | None = None
    size_param: str = "per_page"
    total: str | None = None

    def __post_init__(self) -> None:
        _check_sizes(self, self.param)
        at_least(self.first, "first of PageNumber", 0)

    def start(self, request: Request) -> Request:
        """The first page."""
        sizes = {} if self.size is None else {self.size_param: str(self.size)}
        return Request(request.url, {**request.params, **sizes, self.param: str(self.first)})

    def after(self, page: Page) -> Request | None:
        """The page after that one; None after the last."""
        if _ended(self.total, page):
            return None
        return Request(page.request.url, {**page.request.params, self.param: str(self.first + page.number)})


@dataclass(frozen=True)
class Offset(metaclass=Declared):
    """`?offset=0&limit=100`, then from as many rows as were given, until a page is empty, or `total` rows were given."""

    param: str = "offset"
    size: int = 100
    size_param: str = "limit"
    total: str | None = None

    def __post_init__(self) -> None:
        _check_sizes(self, self.param)

    def start(self, request: Request) -> Request:
        """The first page."""
        return Request(request.url, {**request.params, self.size_param: str(self.size), self.param: "0"})

    def after(self, page: Page) -> Request | None:
        """The page after that one; None after the last."""
        if _ended(self.total, page):
            return None
        return Request(page.request.url, {**page.request.params, self.param: str(page.given)})


@dataclass(frozen=True)
class Cursor(metaclass=Declared):
    """`?cursor=...` with what the page before has at the path `next`, until that is null, empty or absent."""

    next: str
    param: str = "cursor"

    def __post_init__(self) -> None:
        is_text(self.next, "next of Cursor", "meta.next_cursor")
        is_text(self.param, "param of Cursor", "cursor")

    def start(self, request: Request) -> Request:
        """The first page."""
        return request

    def after(self, page: Page) -> Request | None:
        """The page after that one; None after the last."""
        found = at(page.body, self.next)
        if found is ABSENT or found in (None, "", False):
            return None
        return Request(page.request.url, {**page.request.params, self.param: str(found)})


@dataclass(frozen=True)
class NextUrl(metaclass=Declared):
    """The URL of the next page stands in the answer, at the path `at`, until that is null, empty or absent."""

    at: str = "next"

    def __post_init__(self) -> None:
        is_text(self.at, "at of NextUrl", "links.next")

    def start(self, request: Request) -> Request:
        """The first page."""
        return request

    def after(self, page: Page) -> Request | None:
        """The page after that one; None after the last."""
        found = at(page.body, self.at)
        if found is ABSENT or found in (None, "", False):
            return None
        if not isinstance(found, str):
            raise OriginError(f"{self.at!r} in the answer is {found!r}; NextUrl needs a URL there")
        return Request(urljoin(page.url, found))


@dataclass(frozen=True)
class LinkHeader(metaclass=Declared):
    """The URL of the next page stands in the header `Link`, as rel="next" (RFC 8288; GitHub and others)."""

    def start(self, request: Request) -> Request:
        """The first page."""
        return request

    def after(self, page: Page) -> Request | None:
        """The page after that one; None after the last."""
        return Request(urljoin(page.url, page.links["next"])) if "next" in page.links else None


Paging = PageNumber | Offset | Cursor | NextUrl | LinkHeader


def at(body: Any, path: str) -> Any:
    """The value at a path of names ("meta.total") in an answer; ABSENT where there is none."""
    for name in filter(None, path.split(".")):
        if not isinstance(body, Mapping) or name not in body:
            return ABSENT
        body = body[name]
    return body


def counted(total: str | None, body: Any) -> int | None:
    """The count of all rows that a page tells; None where none is declared. OriginError where it is no number."""
    if total is None:
        return None
    found = at(body, total)
    if isinstance(found, str) and found.isdigit():
        return int(found)
    if isinstance(found, bool) or not isinstance(found, int):
        shown = "nothing" if found is ABSENT else repr(found)
        raise OriginError(f"the answer has {shown} at {total!r}, where paging says that the count of all rows is")
    return found


def _ended(total: str | None, page: Page) -> bool:
    if not page.rows:
        return True
    count = counted(total, page.body)
    return count is not None and page.given >= count


def _check_sizes(paging: PageNumber | Offset, param: str) -> None:
    name = type(paging).__name__
    is_text(param, f"param of {name}", "page")
    is_text(paging.size_param, f"size_param of {name}", "limit")
    if paging.size is not None:
        at_least(paging.size, f"size of {name}", 1)
    if paging.total is not None:
        is_text(paging.total, f"total of {name}", "meta.total")
