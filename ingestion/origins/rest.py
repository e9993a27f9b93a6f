"""Rows of an API that answers in JSON, page by page; and the rows below each of them.

    rows = Σ over the pages of the rows of a page, in the order in which they come        every number exact, nothing twice without a word

A list that changes between two pages moves its rows. Where the API counts them (`total`), one that shrinks is OriginAway: it is to be read
again; rows that a page repeats from the page before are reported. A page that comes again for ever is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

from ingestion.objects import Lost, in_batches, kind, parse_json, written
from ingestion.origin import Part, Reading, Rows
from ingestion.origins.declaring import Declaration, at_least, http_url, is_text, texts_by_name
from ingestion.origins.http import Answer, Http, Missing
from ingestion.origins.rest_auth import ApiKey, Auth, Basic, Bearer, OAuth
from ingestion.origins.rest_paging import (
    ABSENT,
    Cursor,
    LinkHeader,
    NextUrl,
    Offset,
    Page,
    PageNumber,
    Paging,
    Request,
    at,
    counted,
)
from ingestion.retrying import Retrier
from pipeline.base.declared import Declared
from pipeline.base.errors import DefinitionError, OriginAway, OriginError, did_you_mean

__all__ = [
    "ApiKey",
    "Basic",
    "Bearer",
    "Children",
    "Cursor",
    "LinkHeader",
    "NextUrl",
    "OAuth",
    "Offset",
    "PageNumber",
    "Rest",
]
PLACE = re.compile(r"\{([^{}]+)\}")
MOST_PAGES = 100_000
NO_CONTENT = 204


@dataclass(frozen=True)
class Children(metaclass=Declared):
    """The rows below each row of a parent: `url` has the parent's values in braces, `https://api.example.com/orders/{id}/lines`.

    `keep` gives the names that values of the parent have in its children's rows: {"order_id": "id"}.
    """

    url: str
    rows: str | None = None
    paging: Paging | None = None
    keep: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        http_url(PLACE.sub("x", self.url) if isinstance(self.url, str) else self.url, "url of Children")
        if not PLACE.search(self.url):
            raise DefinitionError(
                "url of Children names no value of the parent; write it in braces: '.../orders/{id}/lines'"
            )
        _check_list(self, "Children")
        texts_by_name(self.keep, "keep of Children", {"order_id": "id"})


@dataclass(frozen=True)
class Rest(Declaration):
    """`rows` is the path of the list in an answer, `data.items`; None where the answer is the list.

    `since` is the parameter that takes the cursor's lower bound, where the API has one. `rate`: requests a second at most. The usual
    mistakes: no `paging`, so that the first page is all (refused where the answer names a next one); a secret among `headers` or `params`.
    """

    url: str
    rows: str | None = None
    paging: Paging | None = None
    auth: Auth | None = None
    params: Mapping[str, str] = field(default_factory=dict, hash=False)
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    children: Children | None = None
    rate: float | None = None
    since: str | None = None
    pages: int = MOST_PAGES

    def __post_init__(self) -> None:
        http_url(self.url, "url of Rest")
        _check_list(self, "Rest")
        if self.auth is not None and not isinstance(self.auth, Auth):
            raise DefinitionError(
                f"auth of Rest is {type(self.auth).__name__}; allowed are Bearer, Basic, ApiKey and OAuth"
            )
        if self.children is not None and not isinstance(self.children, Children):
            raise DefinitionError("children of Rest must be Children(url=..., ...)")
        texts_by_name(self.params, "params of Rest", {"status": "open"})
        texts_by_name(self.headers, "headers of Rest", {"Accept-Language": "en"})
        if any(name.lower() in ("authorization", "cookie") for name in self.headers):
            raise DefinitionError("headers of Rest hold a secret; name a credential instead: auth=Bearer('NAME')")
        if self.rate is not None and not (isinstance(self.rate, int | float) and self.rate > 0):
            raise DefinitionError(f"rate of Rest is {self.rate!r}; it must be requests a second, more than 0")
        if self.since is not None:
            is_text(self.since, "since of Rest", "updated_since")
        at_least(self.pages, "pages of Rest", 1)

    def parts(self, reading: Reading) -> Sequence[Part]:
        """One part; nothing is asked yet. See Origin.parts."""
        return [Part(self.url)]

    def read(self, part: Part, reading: Reading) -> Iterator[Rows]:
        """The rows, page by page; each request is retried by itself. See Origin.read."""
        retrier = Retrier(reading.report, count=reading.retried)
        headers = {"Accept": "application/json", **self.headers}
        with Http(self.url, retrier, headers=headers, rate=self.rate) as http:
            if self.auth is not None:
                name = self.auth.credential
                whose = f"the credential {name} ({self.auth.holds}) is in WATERSHED_ORIGIN_{name}"
                http.sign_with(self.auth.signer(reading.secret, http.post), whose)
            yield from in_batches(self._items(http, reading), limit=reading.limit)

    def _items(self, http: Http, reading: Reading) -> Iterator[Any]:
        params = {**self.params}
        if self.since is not None and reading.cursor and reading.since is not None:
            params[self.since] = _bound(reading.since)
        listed = _List(self.rows, self.paging, self.pages, reading)
        for row in listed.items(http, Request(self.url, params)):
            if self.children is None:
                yield row
            else:
                yield from self._below(self.children, row, http, reading)

    def _below(self, children: Children, parent: Any, http: Http, reading: Reading) -> Iterator[Any]:
        places = {name: at(parent, name) for name in [*PLACE.findall(children.url), *children.keep.values()]}
        wrong = [
            name for name, value in places.items() if value is ABSENT or value is None or isinstance(value, dict | list)
        ]
        if wrong:
            yield Lost(f"has no {wrong[0]!r}, by which its children are found", written(parent))
            return
        url = PLACE.sub(lambda found: quote(str(places[found[1]]), safe=""), children.url)
        kept = {name: places[of] for name, of in children.keep.items()}
        try:
            for row in _List(children.rows, children.paging, self.pages, reading).items(http, Request(url)):
                if isinstance(row, dict) and (both := sorted(kept.keys() & row.keys())):
                    raise OriginError(f"{url} has {both[0]!r} itself: give the parent's value another name in keep")
                yield {**kept, **row} if isinstance(row, dict) else row
        except Missing as error:  # deleted since its parent was listed, perhaps
            yield Lost(str(error), written(parent))


@dataclass
class _List:
    """One list that is read page by page, and what is known of it so far."""

    path: str | None
    paging: Paging | None
    most_pages: int
    reading: Reading
    given: int = 0
    total: int | None = None
    seen: set[bytes] = field(default_factory=set)
    before: set[bytes] = field(default_factory=set)

    def items(self, http: Http, request: Request) -> Iterator[Any]:
        """The rows of all pages."""
        url, number = request.url, 0
        following: Request | None = request if self.paging is None else self.paging.start(request)
        while following is not None:
            number += 1
            shown = f"page {number} of {url}" if self.paging is not None else url
            if number > self.most_pages:
                raise OriginError(f"{url} has more than {self.most_pages} pages: where that is so, declare pages=...")
            answer, body = http.get(following.url, partial(_parsed, shown=shown), following.params, shown=shown)
            rows = [] if body is None else _rows(body, self.path, shown)
            self._check(rows, body, answer, shown)
            self.given += len(rows)
            page = Page(following, answer.url, body, rows, answer.links, self.given, number)
            yield from rows
            following = self._after(page, shown)
        if self.total is not None and self.given < self.total:
            raise OriginAway(f"{url} counts {self.total} rows and gave {self.given}: it changed while it was read")

    def _after(self, page: Page, shown: str) -> Request | None:
        if self.paging is None:
            if "next" in page.links:
                raise OriginError(
                    f"{shown} names a next page in its header Link: declare paging=LinkHeader(), or rows are lost"
                )
            return None
        path = {Cursor: "next", NextUrl: "at"}.get(type(self.paging))
        if path is not None and page.number == 1 and at(page.body, getattr(self.paging, path)) is ABSENT:
            self.reading.report(f"{shown} has nothing at {getattr(self.paging, path)!r}: it is taken for the only page")
        following = self.paging.after(page)
        if following is not None:
            mark = _digest((following.url, sorted(following.params.items())))
            if mark in self.seen:
                raise OriginError(f"{shown} leads back to a page that was read: its paging goes round in a circle")
            self.seen.add(mark)
        return following

    def _check(self, rows: Sequence[Any], body: Any, answer: Answer, shown: str) -> None:
        """Refuse what comes again for ever; say what comes twice; OriginAway where the list has shrunk."""
        if self.paging is None:
            return
        mark = _digest(rows)
        if rows and mark in self.seen:
            raise OriginError(
                f"{shown} is a page that was read already, row by row: does the API know the parameters of {self.paging}?"
            )
        self.seen.add(mark)
        marks = {_digest(row) for row in rows}
        if twice := len(marks & self.before):
            self.reading.report(
                f"{twice} rows of {shown} stood on the page before too: the list changed while it was read"
            )
        self.before = marks
        total = self.total if body is None else counted(getattr(self.paging, "total", None), body)
        if total is not None and self.total is not None and total < self.total:
            raise OriginAway(
                f"{shown} counts {total} rows, where it counted {self.total} before: the list shrank while it was read"
            )
        self.total = total


def _parsed(answer: Answer, shown: str) -> tuple[Answer, Any]:
    """The answer and its JSON, None where it has no content; OriginAway where it breaks off, so that it is asked again."""
    if answer.status == NO_CONTENT:
        return answer, None
    body = answer.body.removeprefix(b"\xef\xbb\xbf").strip()
    try:
        return answer, parse_json(body)
    except (ValueError, RecursionError) as error:
        begins = " ".join(body[:120].decode("utf-8", "replace").split())
        if body[:1] in (b"{", b"[") and body[-1:] not in (b"}", b"]"):
            raise OriginAway(f"{shown} answers with half a JSON: after {len(body)} bytes it breaks off") from None
        named = "HTML" if body[:1] == b"<" else answer.headers.get("content-type", "something").partition(";")[0]
        if not body:
            named = "nothing"
        elif body[:1] in (b"{", b"["):
            raise OriginError(f"{shown} answers with JSON that is none ({error})") from None
        raise OriginError(
            f"{shown} answers with {named} instead of JSON{f', which begins with {begins!r}' if begins else ''}: is it the address of"
            " an API, and does it need auth=?"
        ) from None


def _rows(body: Any, path: str | None, shown: str) -> Sequence[Any]:
    if path is None:
        if isinstance(body, list):
            return body
        lists = [name for name, value in body.items() if isinstance(value, list)] if isinstance(body, dict) else []
        hint = (
            f"; name the list of rows, such as rows={lists[0]!r}" if lists else "; rows= is the path of the list in it"
        )
        raise OriginError(
            f"{shown} answers with {kind(body) if not isinstance(body, dict) else 'an object'}, not with a list{hint}"
        )
    found = at(body, path)
    if found is ABSENT:
        parent = at(body, path.rpartition(".")[0])
        names = [str(name) for name in parent] if isinstance(parent, dict) else []
        there = f"; there are {', '.join(names[:30])}.{did_you_mean(path.rpartition('.')[2], names)}" if names else ""
        raise OriginError(f"{shown} has nothing at {path!r}{there}")
    if found is None:
        return []
    if not isinstance(found, list):
        raise OriginError(f"{shown} has {kind(found)} at {path!r}, not a list")
    return found


def _digest(value: Any) -> bytes:
    return blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _bound(since: Any) -> str:
    if isinstance(since, datetime) and since.tzinfo is not None:
        return since.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return since.isoformat() if hasattr(since, "isoformat") else str(since)


def _check_list(declared: Rest | Children, name: str) -> None:
    if declared.rows is not None:
        is_text(declared.rows, f"rows of {name}", "data.items")
    if declared.paging is not None and not isinstance(declared.paging, Paging):
        raise DefinitionError(
            f"paging of {name} is {declared.paging!r}; allowed are PageNumber(), Offset(), Cursor(...), NextUrl(...) and LinkHeader()"
        )
